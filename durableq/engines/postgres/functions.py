"""The functions of the hot verbs: one round trip each, beside each other; see `hot`.

A function takes the lock of the schema shared, so no shared operation runs meanwhile, and any
number of other functions. PL/pgSQL takes a new snapshot for each statement: after the lock was
waited for, a function sees what the others have committed. Where it meets anything that it does not
know, it has changed nothing and answers BAIL; the shared operation does it then.

Plans are made once in a session, perhaps when the tables are empty, and serve it for long. So scans
of whole tables and sorts are off where a plan is made.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres.dialect import qualified
from durableq.engines.sql.columns import LEASE_EPOCH_MS, NO_RECEIPT, OWNER_BASE
from durableq.model.errors import DatabaseUnusable
from durableq.model.message import FOREVER_MS
from durableq.runtime.clock import JUMP_MS
from durableq.runtime.logs import facts

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

log = logging.getLogger("durableq.engine")

#: The answers of a function: it has done all, or nothing.
DONE, BAIL = 0, 1

_FIND: Final = """\
SELECT proname::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname::text = ANY ($2)"""
_FIND_ALL: Final = """\
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname ~ '^durableq_\\w+_[0-9a-f]{8}$'"""
#: The arguments that each function has first, with their types.
_FIRST: Final = """\
    p_lock BIGINT, p_wait_ms TEXT, p_revision TEXT, p_clock_ms BIGINT, p_offset_ms BIGINT,
    p_lease_ms BIGINT"""
#: Takes the lock and the time. An injected clock gives p_lease_ms; the server's may not be far from
#: what the caller expects, for a jump has to be noted in a shared operation.
_BEGIN: Final = f"""\
    IF NOT pg_try_advisory_xact_lock_shared(p_lock) THEN
        PERFORM set_config('lock_timeout', p_wait_ms, true);
        PERFORM pg_advisory_xact_lock_shared(p_lock);
    END IF;
    clock_ms := p_clock_ms;
    IF p_lease_ms IS NULL THEN
        clock_ms := extract(epoch FROM clock_timestamp()) * 1000;
        IF abs(clock_ms - p_clock_ms) > {JUMP_MS} THEN
            RETURN;
        END IF;
    END IF;
    now_ms := clock_ms - p_offset_ms;
    lease_ms := coalesce(p_lease_ms, clock_ms) + {LEASE_EPOCH_MS};"""
_VARIABLES: Final = "now_ms BIGINT; lease_ms BIGINT;"
_OPTIONS: Final = """\
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off"""

_SEND: Final = f"""\
CREATE FUNCTION durableq_send(
{_FIRST},
    p_queue TEXT, p_largest BIGINT, p_channel TEXT,
    p_bodies TEXT[], p_keys TEXT[], p_hashes BYTEA[], p_attributes TEXT[], p_delays BIGINT[],
    p_priorities BIGINT[],
    OUT answer INT, OUT clock_ms BIGINT, OUT ids BIGINT[]
) {_OPTIONS} AS $$
#variable_conflict use_column
DECLARE
    {_VARIABLES}
    to_queue BIGINT;
    queue_delay_ms BIGINT;
BEGIN
    answer := {BAIL};
{_BEGIN}
    SELECT q.id, q.delay_ms INTO to_queue, queue_delay_ms
    FROM durableq_queue AS q
    WHERE q.name = p_queue AND q.limits = 0 AND q.dead_letter_queue_id IS NOT NULL
        AND q.max_body_bytes >= p_largest
        AND (SELECT version_num FROM durableq_version) = p_revision;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH added AS (
        INSERT INTO durableq_message (
            queue_id, state, rank, priority, deferred, receive_count, recovery_count,
            lease_until_ms, delayed_until_ms, enqueued_at_ms, sent_at_ms, first_received_at_ms,
            retention_from_ms, expires_at_ms, debounce_until_ms, receipt, owner_id, body_bytes,
            body_format, sequence, key, payload_hash, attributes, body
        )
        SELECT
            to_queue, CASE WHEN d.delay_ms > 0 THEN 2 ELSE 0 END, -d.priority, d.priority, 0, 0, 0,
            {LEASE_EPOCH_MS}, CASE WHEN d.delay_ms > 0 THEN now_ms + d.delay_ms ELSE 0 END,
            now_ms, now_ms, {FOREVER_MS},
            now_ms + d.delay_ms, {FOREVER_MS}, 0, '\\x{NO_RECEIPT.hex()}'::bytea, {OWNER_BASE},
            CASE WHEN starts_with(d.body, '\\x') THEN octet_length(d.body) / 2 - 1
                ELSE octet_length(d.body) END,
            0, 0, d.key, d.hash, d.attributes, d.body
        FROM (
            SELECT
                u.body, u.key, u.hash, u.attributes, coalesce(u.delay, queue_delay_ms) AS delay_ms,
                coalesce(u.priority, 0) AS priority
            FROM unnest(p_bodies, p_keys, p_hashes, p_attributes, p_delays, p_priorities)
                AS u (body, key, hash, attributes, delay, priority)
        ) AS d
        RETURNING id
    ), counted AS (
        INSERT INTO durableq_counter_delta VALUES (to_queue, cardinality(p_bodies), 0)
    )
    SELECT array_agg(a.id) INTO ids FROM added AS a;
    PERFORM pg_notify(p_channel, '');
    answer := {DONE};
END $$"""  # noqa: S608 - constants

#: Moves rows of deltas into the counters, while no other session does; returns their number.
_FOLD: Final = f"""\
CREATE FUNCTION durableq_fold(p_lock BIGINT, p_most BIGINT) RETURNS BIGINT
{_OPTIONS} AS $$
DECLARE
    folded BIGINT;
BEGIN
    IF NOT (pg_try_advisory_xact_lock_shared(p_lock) AND pg_try_advisory_xact_lock(p_lock # 1)) THEN
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM durableq_counter_delta
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM durableq_counter_delta LIMIT p_most))
        RETURNING queue_id, sent, completed
    ), changed AS (
        UPDATE durableq_counters AS c
        SET sent = c.sent + s.sent, completed = c.completed + s.completed
        FROM (
            SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
            FROM gone GROUP BY queue_id
        ) AS s
        WHERE c.queue_id = s.queue_id
    )
    SELECT count(*) INTO folded FROM gone;
    RETURN folded;
END $$"""  # noqa: S608 - constants

#: The functions by name.
_ALL: Final = {"send": _SEND, "fold": _FOLD}


@lru_cache(16)
def functions_of(schema: str) -> Mapping[str, tuple[str, str]]:
    """Return the functions for the tables in a schema: name there and text, by our name.

    A name has a hash of the text: each release calls its own, beside those of another release, and
    a schema that was renamed does not call those that write to the old one.
    """
    found = {}
    for name, text in _ALL.items():
        whole = qualified(text, schema)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        own = f"durableq_{name}_{digest}"
        found[name] = own, qualified(text.replace(f"durableq_{name}(", f"{own}(", 1), schema)
    return found


def install(database: Database) -> None:
    """Create the functions that are missing; hot verbs are off where that is not allowed."""
    wanted = functions_of(database.schema)
    with database.connected() as (link, _):
        if len(_found(link, database)) == len(wanted):
            return
    try:
        with database.write() as tx:
            found = _found(tx.link, database)
            for name, text in wanted.values():
                if name not in found:
                    tx.raw.execute_text(text, prepare=False)
    except DatabaseUnusable as error:
        database.is_hot = False
        log.warning(
            "sends and receives are slow and one at a time, for the user of the database may not "
            "create functions: run `durableq init` as the owner of the tables (%s)",
            error,
            extra=facts("no_functions"),
        )


def _found(link: Link, database: Database) -> set[str]:
    """Return the names of those functions that are there."""
    names = [name for name, _ in functions_of(database.schema).values()]
    rows = link.execute(_FIND, (database.quoted_schema, names)).fetchall()
    return {name for (name,) in rows}


def remove(link: Link, database: Database) -> None:
    """Drop all functions, of any release."""
    rows = link.execute(_FIND_ALL, (database.quoted_schema,)).fetchall()
    for (name,) in rows:
        link.execute_text(f"DROP FUNCTION {name}", prepare=False)
