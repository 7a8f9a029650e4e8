"""The functions of the hot verbs: one round trip each, beside each other; see `hot`.

A function takes the lock of the schema shared, so no shared operation runs meanwhile, and any
number of other functions. PL/pgSQL takes a new snapshot for each statement: after the lock was
waited for, a function sees what the others have committed. Where it meets anything that it does not
know, it has changed nothing and answers so: with NULL, or without rows. The shared operation does
it then.

Plans are made once in a session, perhaps when the tables are empty, and serve it for long: see
`planning`. Conditions that an index of few rows would serve are written so that it does not:
`state + 0`.

`@lock@` and other words between such signs stand for constants of a schema: see `installing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from durableq.engines.postgres.planning import PLAN_FUNCTION
from durableq.engines.sql.columns import LEASE_EPOCH_MS, NO_RECEIPT, OWNER_BASE
from durableq.model.message import FOREVER_MS
from durableq.model.settings import Limits
from durableq.runtime.clock import JUMP_MS

#: What a receive says: it has leased as many as it was to, or the shared operation shall go on.
FULL, DECLINED = 1, 2

#: The arguments that each function has first, with their types.
_FIRST: Final = "p_wait_ms BIGINT, p_clock_ms BIGINT, p_offset_ms BIGINT, p_lease_ms BIGINT"
_TIMES: Final = "clock_ms BIGINT; now_ms BIGINT; lease_ms BIGINT;"
_OPTIONS: Final = "LANGUAGE plpgsql"


#: Whether functions do all for a queue: it has no limits, but that a receive may bury a message
#: which was received before.
_IS_PLAIN: Final = (
    f"q.limits IN (0, {int(Limits.BURY_AT_RECEIVE)}) AND q.dead_letter_queue_id IS NOT NULL"
)
#: Takes the lock and the time. An injected clock gives p_lease_ms. The server's may not be far from
#: what the caller expects, for a jump has to be noted in a shared operation.
_BEGIN: Final = f"""\
{PLAN_FUNCTION}
    IF NOT pg_try_advisory_xact_lock_shared(@lock@) THEN
        PERFORM set_config('lock_timeout', p_wait_ms::text, true);
        PERFORM pg_advisory_xact_lock_shared(@lock@);
    END IF;
    clock_ms := p_clock_ms;
    IF p_lease_ms IS NULL THEN
        clock_ms := extract(epoch FROM clock_timestamp()) * 1000;
        IF abs(clock_ms - p_clock_ms) > {JUMP_MS} THEN
            @bail@;
        END IF;
    END IF;
    now_ms := clock_ms - p_offset_ms;
    lease_ms := coalesce(p_lease_ms, clock_ms) + {LEASE_EPOCH_MS};"""


#: Stores a batch. Its answer: whether a process waits for writes, the time, and the ids. The lock
#: of those that wait is taken for a moment in one expression, which no interruption comes between.
#: p_formats and p_systems are the envelopes; NULL for both where no message has one.
_SEND: Final = f"""\
CREATE FUNCTION durableq_send(
    {_FIRST},
    p_queue TEXT, p_largest BIGINT,
    p_bodies TEXT[], p_keys TEXT[], p_hashes BYTEA[], p_attributes TEXT[], p_delays BIGINT[],
    p_priorities BIGINT[], p_formats BIGINT[], p_systems TEXT[]
) RETURNS BIGINT[] {_OPTIONS} AS $durableq$
#variable_conflict use_column
DECLARE
    {_TIMES}
    ids BIGINT[];
    has_listeners BOOLEAN;
BEGIN
{_BEGIN.replace("@bail@", "RETURN NULL")}
    WITH target AS (
        SELECT q.id, q.delay_ms FROM durableq_queue AS q
        WHERE q.name = p_queue AND {_IS_PLAIN}
            AND q.max_body_bytes >= p_largest
            AND (SELECT version_num FROM durableq_version) = '@revision@'
    ), added AS (
        INSERT INTO durableq_message (
            queue_id, state, rank, priority, deferred, receive_count, recovery_count,
            lease_until_ms, delayed_until_ms, enqueued_at_ms, sent_at_ms, first_received_at_ms,
            retention_from_ms, expires_at_ms, debounce_until_ms, receipt, owner_id, body_bytes,
            body_format, sequence, key, payload_hash, attributes, system_attributes, body
        )
        SELECT
            d.queue_id, CASE WHEN d.delay_ms > 0 THEN 2 ELSE 0 END, -d.priority, d.priority,
            0, 0, 0,
            {LEASE_EPOCH_MS}, CASE WHEN d.delay_ms > 0 THEN now_ms + d.delay_ms ELSE 0 END,
            now_ms, now_ms, {FOREVER_MS},
            now_ms + d.delay_ms, {FOREVER_MS}, 0, '\\x{NO_RECEIPT.hex()}'::bytea, {OWNER_BASE},
            CASE WHEN starts_with(d.body, '\\x') THEN octet_length(d.body) / 2 - 1
                ELSE octet_length(d.body) END,
            d.format, 0, d.key, d.hash, d.attributes, d.system, d.body
        FROM (
            SELECT
                t.id AS queue_id, u.body, u.key, u.hash, u.attributes, u.system,
                coalesce(u.delay, t.delay_ms) AS delay_ms, coalesce(u.priority, 0) AS priority,
                coalesce(u.format, 0) AS format
            FROM target AS t, unnest(
                p_bodies, p_keys, p_hashes, p_attributes, p_delays, p_priorities, p_formats,
                p_systems
            ) AS u (body, key, hash, attributes, delay, priority, format, system)
        ) AS d
        RETURNING id
    ), counted AS (
        INSERT INTO durableq_counter_delta SELECT t.id, cardinality(p_bodies), 0 FROM target AS t
    )
    SELECT array_agg(a.id) INTO ids FROM added AS a;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    has_listeners := CASE WHEN pg_try_advisory_lock(@listening@)
        THEN NOT pg_advisory_unlock(@listening@) ELSE true END;
    RETURN ARRAY[has_listeners::int, clock_ms] || ids;
END $durableq$"""  # noqa: S608 - constants

#: Moves rows of deltas into the counters, while no other session does; returns their number.
_FOLD: Final = f"""\
CREATE FUNCTION durableq_fold(p_most BIGINT) RETURNS BIGINT
{_OPTIONS} AS $durableq$
DECLARE
    folded BIGINT;
BEGIN
{PLAN_FUNCTION}
    IF NOT (
        pg_try_advisory_xact_lock_shared(@lock@) AND pg_try_advisory_xact_lock(@folding@)
    ) THEN
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
END $durableq$"""  # noqa: S608 - constants

#: The messages of each receive, of `p_tokens`, are those up to its end in `p_ends`; `p_from` has
#: its queue.
_LISTS: Final = "p_from TEXT[], p_tokens BYTEA[], p_ends BIGINT[], p_ids BIGINT[]"
_SETTLED: Final = """\
    ids BIGINT[]; done BIGINT[]; keys TEXT[]; of_queue BIGINT; number BIGINT; lost BIGINT := 0;"""


#: Ends leases in success. It locks messages before records, and both in order of an index, so no
#: two wait in a circle. `@bail@` leaves the function.
_SETTLE: Final = f"""\
    IF cardinality(p_from) > 1 THEN
        SELECT count(*) INTO number
        FROM unnest(p_from) AS u (name) JOIN durableq_queue AS q ON q.name = u.name
        WHERE {_IS_PLAIN};
        IF number < cardinality(p_from) THEN
            @bail@;
        END IF;
    END IF;
    FOR i IN 1 .. coalesce(cardinality(p_from), 0) LOOP
        WITH source AS MATERIALIZED (
            SELECT q.id, q.idempotency_ttl_ms FROM durableq_queue AS q
            WHERE q.name = p_from[i] AND {_IS_PLAIN}
                AND (SELECT version_num FROM durableq_version) = '@revision@'
        ), gone AS (
            DELETE FROM durableq_message AS m
            WHERE m.id = ANY (p_ids[coalesce(p_ends[i - 1], 0) + 1 : p_ends[i]])
                AND m.queue_id + 0 = (SELECT s.id FROM source AS s)
                AND m.receipt = p_tokens[i] AND m.state + 0 = 1
            RETURNING m.id, m.key
        ), counted AS (
            INSERT INTO durableq_counter_delta
            SELECT s.id, 0, count(*) FROM source AS s, gone GROUP BY s.id
        ), recorded AS (
            UPDATE durableq_idempotency AS r
            SET status = 1, completed_at_ms = now_ms,
                expires_at_ms = now_ms + (SELECT s.idempotency_ttl_ms FROM source AS s),
                result = p_results[array_position(p_ids, r.owner_message_id)]
            WHERE r.queue_id = (SELECT s.id FROM source AS s)
                AND r.key = ANY (ARRAY(SELECT g.key FROM gone AS g WHERE g.key IS NOT NULL))
                AND r.owner_receipt = p_tokens[i] AND r.status = 0
            RETURNING 1
        )
        SELECT (SELECT s.id FROM source AS s), array_agg(g.id),
            count(g.key) - (SELECT count(*) FROM recorded),
            array_agg(g.key) FILTER (WHERE g.key IS NOT NULL)
        INTO of_queue, ids, number, keys FROM gone AS g;
        IF of_queue IS NULL THEN
            @bail@;
        END IF;
        done := done || ids;
        lost := lost + number;
        CONTINUE WHEN keys IS NULL OR (
            SELECT m.deferred FROM durableq_message AS m
            WHERE m.queue_id = of_queue AND m.deferred = 1 LIMIT 1
        ) IS NULL;
        UPDATE durableq_message AS m
        SET state = 0, deferred = 0, delayed_until_ms = now_ms,
            retention_from_ms = greatest(m.enqueued_at_ms, now_ms)
        WHERE m.queue_id = of_queue AND m.key = ANY (keys) AND m.deferred = 1 AND m.state + 0 = 2;
        IF FOUND THEN
            PERFORM pg_notify('@channel@', '');
        END IF;
    END LOOP;"""  # noqa: S608 - constants
#: The answer: the time, the number of records that were not there, and the ids that have ended.
_COMPLETE: Final = f"""\
CREATE FUNCTION durableq_complete(
    {_FIRST},
    {_LISTS}, p_results TEXT[]
) RETURNS BIGINT[] {_OPTIONS} AS $durableq$
#variable_conflict use_column
DECLARE
    {_TIMES}
{_SETTLED}
BEGIN
{_BEGIN.replace("@bail@", "RETURN NULL")}
{_SETTLE.replace("@bail@", "RETURN NULL")}
    RETURN ARRAY[clock_ms, lost] || done;
END $durableq$"""

_TERMS: Final = """\
    p_queue TEXT, p_limit BIGINT, p_visibility_ms BIGINT, p_token BYTEA, p_owner BIGINT,
    p_rank BIGINT, p_id BIGINT, p_due_ms BIGINT, p_ended_ms BIGINT"""
#: The first row has the time for `sent_at_ms`, and `numbers`; see `working`.
_RETURNS: Final = f"""\
RETURNS TABLE (
    id BIGINT, sent_at_ms BIGINT, body VARCHAR, key TEXT, attributes TEXT, priority BIGINT,
    receive_count BIGINT, recovery_count BIGINT, enqueued_at_ms BIGINT, group_id TEXT,
    expires_at_ms BIGINT, numbers BIGINT[], done BIGINT[]@types@
) {_OPTIONS}"""
#: The columns of an Envelope, in the order of its fields, and their values.
_ENVELOPE: Final = {
    "body_format BIGINT": "d.body_format",
    "system_attributes TEXT": "d.system_attributes",
    "first_received_at_ms BIGINT": "d.first_received_at_ms",
    "sequence BIGINT": "CASE WHEN d.sequence = 0 THEN d.id ELSE d.sequence END",
}
_RECEIVED: Final = """\
    hashes BYTEA[]; are_plain BOOLEAN[]; taken BIGINT; position INT; says BIGINT; pages BIGINT;
    visibility_ms BIGINT; is_behind BOOLEAN; first_rank BIGINT; first_id BIGINT; due_ms BIGINT;
    until_ms BIGINT; began TIMESTAMPTZ;"""
#: The pages of indexes that this transaction has read: where many entries are of messages that are
#: gone, a look from the start is slow.
_PAGES: Final = (
    "pg_stat_get_xact_blocks_fetched('durableq_message_ready'::regclass) + "
    "pg_stat_get_xact_blocks_fetched('durableq_message_leased'::regclass)"
)
#: Leases the first ready messages, in order, up to one that is not plain: DECLINED says that the
#: shared operation shall look at the rest. Others take keys too: they are taken in their order.
_RECEIVE: Final = f"""\
    id := 0;
    sent_at_ms := clock_ms;
    began := clock_timestamp();
    of_queue := NULL;
    pages := {_PAGES};
    SELECT q.id, coalesce(p_visibility_ms, q.visibility_timeout_ms), c.ids, c.keys, c.hashes,
        c.are_plain, c.ranks[1],
        (SELECT 1 FROM durableq_message AS m WHERE m.queue_id = q.id AND m.state = 2
            AND m.delayed_until_ms > p_due_ms AND m.delayed_until_ms <= now_ms LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM durableq_message AS m WHERE m.queue_id = q.id AND m.state = 1
            AND m.lease_until_ms > p_ended_ms AND m.lease_until_ms <= lease_ms LIMIT 1) IS NOT NULL
    INTO of_queue, visibility_ms, ids, keys, hashes, are_plain, first_rank, is_behind
    FROM durableq_queue AS q CROSS JOIN LATERAL (
        SELECT array_agg(r.id) AS ids, array_agg(r.key) AS keys, array_agg(r.rank) AS ranks,
            array_agg(r.payload_hash) AS hashes, array_agg(r.is_plain) AS are_plain
        FROM (
            SELECT m.id, m.rank, m.key, m.payload_hash,
                m.retention_from_ms > now_ms - q.retention_ms AND m.expires_at_ms > now_ms
                AND (q.limits = 0 OR m.receive_count = 0) AND (
                    m.key IS NULL OR (SELECT r.status FROM durableq_idempotency AS r
                        WHERE r.queue_id = q.id AND r.key = m.key) IS NULL
                ) AS is_plain
            FROM durableq_message AS m
            WHERE m.queue_id = q.id AND m.state = 0 AND (m.rank, m.id) >= (p_rank, p_id)
            ORDER BY m.rank, m.id LIMIT p_limit FOR UPDATE OF m SKIP LOCKED
        ) AS r
    ) AS c
    WHERE q.name = p_queue AND q.paused = 0 AND {_IS_PLAIN}
        AND (SELECT version_num FROM durableq_version) = '@revision@';
    IF of_queue IS NULL OR is_behind THEN
        numbers := ARRAY[{DECLINED}, lost];
        RETURN NEXT;
        RETURN;
    END IF;
    first_id := ids[1];
    number := coalesce(cardinality(ids), 0);
    says := CASE WHEN number = p_limit THEN {FULL} ELSE 0 END;
    position := array_position(are_plain, false);
    IF position IS NOT NULL THEN
        says := {DECLINED};
        ids := ids[: position - 1];
        keys := keys[: position - 1];
    END IF;
    number := cardinality(array_remove(keys, NULL));
    IF number > 0 THEN
        INSERT INTO durableq_idempotency (
            queue_id, key, status, owner_message_id, owner_receipt, payload_hash, created_at_ms
        )
        SELECT of_queue, u.key, 0, u.id, p_token, u.hash, now_ms
        FROM unnest(ids, keys, hashes) WITH ORDINALITY AS u (id, key, hash, n)
        WHERE u.key IS NOT NULL AND u.id IS NOT NULL ORDER BY u.key COLLATE "C", u.n
        ON CONFLICT (queue_id, key) DO NOTHING;
        GET DIAGNOSTICS taken = ROW_COUNT;
        IF taken < number THEN
            says := {DECLINED};
            SELECT array_agg(u.id ORDER BY u.n) INTO ids
            FROM unnest(ids, keys) WITH ORDINALITY AS u (id, key, n)
            WHERE u.key IS NULL OR (
                SELECT r.owner_message_id FROM durableq_idempotency AS r
                WHERE r.queue_id = of_queue AND r.key = u.key AND r.owner_receipt = p_token
            ) = u.id;
        END IF;
    END IF;
    IF first_id IS NULL THEN
        SELECT m.delayed_until_ms INTO due_ms FROM durableq_message AS m
        WHERE m.queue_id = of_queue AND m.state = 2 AND m.delayed_until_ms > p_due_ms
        ORDER BY m.delayed_until_ms LIMIT 1;
        SELECT m.lease_until_ms INTO until_ms FROM durableq_message AS m
        WHERE m.queue_id = of_queue AND m.state = 1 AND m.lease_until_ms > p_ended_ms
        ORDER BY m.lease_until_ms LIMIT 1;
    END IF;
    numbers := ARRAY[
        says, lost, visibility_ms, first_rank, first_id, now_ms, lease_ms, due_ms, until_ms,
        {_PAGES} - pages, extract(epoch FROM clock_timestamp() - began) * 1000000
    ];
    RETURN NEXT;
    RETURN QUERY
        WITH leased AS (
            UPDATE durableq_message AS m
            SET state = 1, receipt = p_token, owner_id = p_owner,
                lease_until_ms = lease_ms + visibility_ms, receive_count = m.receive_count + 1,
                first_received_at_ms = CASE WHEN m.first_received_at_ms = {FOREVER_MS} THEN now_ms
                    ELSE m.first_received_at_ms END
            WHERE m.id = ANY (ids) AND m.state + 0 = 0
            RETURNING m.*
        )
        SELECT d.id, d.sent_at_ms, d.body, d.key, d.attributes, d.priority, d.receive_count,
            d.recovery_count, d.enqueued_at_ms, d.group_id, d.expires_at_ms, NULL::BIGINT[],
            NULL::BIGINT[]@columns@
        FROM leased AS d ORDER BY d.rank, d.id;"""  # noqa: S608 - constants
_RECEIVE_ALONE: Final = f"""\
CREATE FUNCTION durableq_receive(
    {_FIRST},
{_TERMS}
) {_RETURNS} AS $durableq$
#variable_conflict use_column
DECLARE
    {_TIMES}
    ids BIGINT[]; keys TEXT[]; of_queue BIGINT; number BIGINT; lost BIGINT := 0;
{_RECEIVED}
BEGIN
{_BEGIN.replace("@bail@", "RETURN")}
{_RECEIVE}
END $durableq$"""
#: `complete` and then `receive`.
_WORK: Final = f"""\
CREATE FUNCTION durableq_work(
    {_FIRST},
    {_LISTS}, p_results TEXT[],
{_TERMS}
) {_RETURNS} AS $durableq$
#variable_conflict use_column
DECLARE
    {_TIMES}
{_SETTLED.replace(" done BIGINT[];", "")}
{_RECEIVED}
BEGIN
{_BEGIN.replace("@bail@", "RETURN")}
{_SETTLE.replace("@bail@", "RETURN")}
{_RECEIVE}
END $durableq$"""

#: Lets leases end later. Its answer: the time, and the ids.
_EXTEND: Final = f"""\
CREATE FUNCTION durableq_extend(
    {_FIRST},
    {_LISTS}, p_visibility_ms BIGINT
) RETURNS BIGINT[] {_OPTIONS} AS $durableq$
#variable_conflict use_column
DECLARE
    {_TIMES}
    queues BIGINT[];
    ids BIGINT[];
    done BIGINT[];
BEGIN
{_BEGIN.replace("@bail@", "RETURN NULL")}
    SELECT array_agg(q.id ORDER BY u.n) INTO queues
    FROM unnest(p_from) WITH ORDINALITY AS u (name, n)
    JOIN durableq_queue AS q ON q.name = u.name
    WHERE (SELECT version_num FROM durableq_version) = '@revision@';
    IF coalesce(cardinality(queues), 0) < cardinality(p_from) THEN
        RETURN NULL;
    END IF;
    FOR i IN 1 .. cardinality(p_from) LOOP
        WITH longer AS (
            UPDATE durableq_message AS m SET lease_until_ms = lease_ms + p_visibility_ms
            WHERE m.id = ANY (p_ids[coalesce(p_ends[i - 1], 0) + 1 : p_ends[i]])
                AND m.queue_id + 0 = queues[i] AND m.receipt = p_tokens[i] AND m.state + 0 = 1
            RETURNING m.id
        )
        SELECT array_agg(g.id) INTO ids FROM longer AS g;
        done := done || ids;
    END LOOP;
    RETURN ARRAY[clock_ms] || done;
END $durableq$"""  # noqa: S608 - constants


def _returning(text: str, columns: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a receive that returns these columns of messages too, by their values."""
    types, values = ("".join(f", {one}" for one in part) for part in (columns, columns.values()))
    return text.replace("@types@", types).replace("@columns@", values)


#: The functions by name.
FUNCTIONS: Final = {
    "send": _SEND,
    "receive": _returning(_RECEIVE_ALONE),
    # For the SQS endpoint.
    "serve": _returning(_RECEIVE_ALONE.replace("durableq_receive", "durableq_serve"), _ENVELOPE),
    "complete": _COMPLETE,
    "work": _returning(_WORK),
    "extend": _EXTEND,
    "fold": _FOLD,
}
