"""The functions of the hot verbs: one round trip each, beside each other; see `hot`.

A function takes the lock of the schema shared, so no shared operation runs meanwhile, and any
number of other functions. PL/pgSQL takes a new snapshot for each statement: after the lock was
waited for, a function sees what the others have committed. Where it meets anything that it does not
know, it has changed nothing and answers BAIL; the shared operation does it then.

Plans are made once in a session, perhaps when the tables are empty, and serve it for long. So scans
of whole tables and sorts are off where a plan is made.
"""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.columns import COUNTERS, LEASE_EPOCH_MS, NO_RECEIPT, OWNER_BASE
from durableq.model.message import FOREVER_MS
from durableq.runtime.clock import JUMP_MS

#: The answers of a function: it has done all, or nothing.
DONE, BAIL = 0, 1

#: What a hot verb adds to the counters of a queue; maintenance folds the rows into them. It has no
#: key: a replica that wants one compares whole rows.
_DELTA: Final = """\
CREATE TABLE durableq_counter_delta (
    queue_id BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    completed BIGINT NOT NULL
)"""
_REPLICATED: Final = "ALTER TABLE durableq_counter_delta REPLICA IDENTITY FULL"
_AS_STORED: Final = (
    *(name for name in COUNTERS if name not in {"sent", "completed"}),
    *("in_flight", "backlog_bytes", "tat_ns", "delivered_at_ms", "retry_credit", "turn"),
)
#: The counters as they stand, which all queries read. The planner leaves the sum out where neither
#: of the two is asked for.
_TOTALS: Final = f"""\
CREATE VIEW durableq_totals AS
SELECT c.queue_id, c.sent + coalesce(d.sent, 0) AS sent,
    c.completed + coalesce(d.completed, 0) AS completed,
    {", ".join(f"c.{name}" for name in _AS_STORED)}
FROM durableq_counters AS c LEFT JOIN (
    SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
    FROM durableq_counter_delta GROUP BY queue_id
) AS d ON d.queue_id = c.queue_id"""  # noqa: S608 - constants

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

#: Created with the tables.
CREATE: Final = (_DELTA, _REPLICATED, _TOTALS, _SEND, _FOLD)
