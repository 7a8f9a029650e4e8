"""On PostgreSQL each statement uses its index, with 200,000 messages and with none.

A plan that is made once for all values is judged: a session may keep it for long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from durableq import DurableQ
from durableq.engines.postgres import statements
from durableq.engines.postgres.planning import PLAN_SESSION
from durableq.engines.sql.dialect import RowStatement
from tests.migrations.catalog import connected, split
from tests.postgres import new_schema

pytestmark = pytest.mark.xdist_group("postgres plans")

TEXTS = {
    name: value.text if isinstance(value, RowStatement) else value
    for name, value in vars(statements).items()
    if name.isupper() and isinstance(value, str | RowStatement)
}
#: Tables with a row for each message, key, event, value, send, or minute of a queue.
LARGE = ("message", "history", "idempotency", "deduplication", "once", "sample")
#: Statements of the audit, and of a copy, that read a whole table: on SQLite too.
READ_ALL = {
    "END_ONCE_LEASES": {"once"},
    "COUNT_ONCE": {"once"},  # it ends at its limit
    "MESSAGES_WITHOUT_QUEUE": {"message"},
    "KEYS_WITHOUT_OWNER": {"idempotency"},
    "GROUPS_WITH_OTHER_COUNTS": {"message"},
    "MESSAGES_OUT_OF_TURN": {"message"},
}
OF_QUEUE = {"message_ready", "message_delayed", "message_leased", "message_blocked"}
#: The indexes of the large tables that a statement uses.
INDEXES: dict[str, set[str]] = {
    "RECEIVE_FROM": {"message_delayed", "message_leased"},
    "READY": {"message_ready", "idempotency_key"},
    "DUE": {"message_delayed"},
    "PROMOTE": {"message_pkey"},
    "EXPIRED_LEASES": {"message_leased"},
    "EXPIRED_MESSAGES": {"message_expiry"},
    "LEASE": {"message_pkey"},
    "EXTEND": {"message_pkey"},
    "COMPLETE": {"message_pkey"},
    "COMPLETE_ONE": {"message_pkey"},
    "LEASED": {"message_pkey"},
    "PUT_BACK": {"message_pkey"},
    "BURY": {"message_pkey"},
    "TAKE_NEW_KEYS": {"message_pkey"},
    "COMPLETE_KEYS": {"idempotency_key"},
    "HAS_DEFERRED": {"message_deferred"},
    "WAKE_DEFERRED": {"message_deferred"},
    "SENT_BEFORE": {"deduplication_id"},
    "READY_IN": OF_QUEUE - {"message_blocked"},
    "COUNT_GATHERED": OF_QUEUE - {"message_blocked"},
    "COUNT_READY": {"message_ready"},
    "NEXT_RANK": {"message_ready"},
    "OLDEST_OF_LEVEL": {"message_ready"},
    "PEEK_NEAR": {"message_pkey"},
    "PEEK_FAR": OF_QUEUE,
    "IN_QUEUE": OF_QUEUE,
    "PURGE": {*OF_QUEUE, "message_pkey"},
    "INFOS": OF_QUEUE,
    "COUNT_CANDIDATES": OF_QUEUE,
    "SEARCH_QUEUE": {*OF_QUEUE, "message_pkey"},
    "SEARCH_WINDOW": {"message_pkey"},
    "LOOKED_AT": {"message_pkey"},
    "STANDING": {*OF_QUEUE - {"message_ready"}, "sample_time"},
    "SAMPLES": {"sample_time"},
    "PRUNE_SAMPLES": {"sample_time"},
    "MAKE_ACTIVE": {"message_blocked", "message_pkey"},
    "FOLLOWING": {"message_blocked", "idempotency_key"},
    "DEAD_LETTERS_MEANT": {"message_dead", "history_message", "history_pkey"},
    "DEAD_LETTER_PAGE": {"message_dead", "history_message", "history_pkey"},
    "GROUPS": {"message_burial", "history_message", "history_pkey"},
    "HISTORY": {"history_message"},
    "EVENTS_AFTER": {"history_pkey"},
    "EVENTS_BEFORE": {"history_pkey"},
    "EVENTS": {"history_pkey"},
    "EVENT_BEFORE_GONE": {"history_pkey"},
    "FIRST_EVENT_SINCE": {"history_queue"},
    "RECOVERIES": {"history_queue", "history_message", "message_pkey"},
    "LEASED_BY": {"message_leased"},
    "RECORDS": {"idempotency_key"},
    "PRUNE_KEYS": {"idempotency_expiry", "idempotency_key"},
    "PRUNE_HISTORY": {"history_queue", "history_pkey", "message_pkey"},
    "PRUNE_ONCE": {"once_expiry", "once_key"},
    "REPORT_PROGRESS": {"message_pkey"},
    "PROGRESS_OF": {"message_pkey"},
    "PROGRESS_IN": {"message_pkey"},
    "PRUNE_PROGRESS": {"message_pkey"},
    "PRUNE_DEDUPLICATION": {"deduplication_expiry", "deduplication_id"},
    "OVERDUE": {"message_pkey"},
    "OLD_EVENTS": {"history_pkey", "message_pkey"},
}
#: An index of all dead letters that serves as well as another one which has them.
OR_ALSO: dict[str, set[str]] = {"GROUPS": {"message_dead"}}
#: Statements that return their rows in the order of an index: nothing is sorted but rows with
#: equal values of it.
IN_ORDER = (
    *("READY", "DUE", "EXPIRED_LEASES", "EXPIRED_MESSAGES", "PEEK_NEAR", "DEAD_LETTER_PAGE"),
    *("DEAD_LETTERS_MEANT", "HISTORY", "RECORDS", "OVERDUE", "OLD_EVENTS", "MESSAGES"),
    *("SAMPLES", "SEARCH_WINDOW", "EVENTS_AFTER", "EVENTS_BEFORE"),
)
SORT = re.compile(r"^(?: *-> +)?Sort$", re.MULTILINE)
FILL = """
INSERT INTO durableq_message (queue_id, source_queue_id, burial_reason, burial_fingerprint, state,
    rank, priority, deferred, receive_count, recovery_count, lease_until_ms, delayed_until_ms,
    enqueued_at_ms, sent_at_ms, first_received_at_ms, retention_from_ms, expires_at_ms,
    debounce_until_ms, receipt, owner_id, body_bytes, body_format, sequence, group_id, key,
    payload_hash, body)
SELECT CASE i % 20 WHEN 0 THEN q.dead_letter_queue_id WHEN 1 THEN mail.id ELSE q.id END,
    CASE WHEN i % 20 = 0 THEN q.id END, CASE WHEN i % 20 = 0 THEN 'handler_error' END,
    CASE WHEN i % 20 = 0 THEN 'kind ' || i % 400 END,
    CASE i % 20 WHEN 2 THEN 2 WHEN 3 THEN 1 WHEN 4 THEN 3 ELSE 0 END, -(i % 3), i % 3,
    (i % 40 = 2)::int, 0, 0, i, CASE WHEN i % 20 = 2 THEN i ELSE 0 END, i, i, 0, i,
    CASE WHEN i % 100 = 7 THEN i ELSE 140737488355327 END, 0,
    decode(lpad(to_hex(i), 32, '0'), 'hex'), 1 + i % 8, 200, 0, i,
    CASE WHEN i % 20 = 4 THEN 'group ' || i % 1000 END, CASE WHEN i % 2 = 0 THEN 'key ' || i END,
    CASE WHEN i % 2 = 0 THEN '\\x00'::bytea END, repeat('x', 200)
FROM generate_series(1, 200000) AS i, durableq_queue AS q, durableq_queue AS mail
WHERE q.name = 'orders' AND mail.name = 'mail';
INSERT INTO durableq_history (message_id, queue_id, at_ms, event, reason, error_type,
    error_message, traceback, actor)
SELECT id, queue_id, sent_at_ms + e, 'failed', 'handler_error', 'ValueError', 'no', '', 'w'
FROM durableq_message, generate_series(1, 3) AS e WHERE source_queue_id IS NOT NULL;
INSERT INTO durableq_idempotency
SELECT q.id, 'key ' || i, (i % 20 <> 3)::int, i, '\\x00', '\\x00', NULL, 1, 1, i
FROM generate_series(1, 50000) AS i, durableq_queue AS q WHERE q.name = 'orders';
INSERT INTO durableq_deduplication SELECT 1, '', 'd' || i, i, i FROM generate_series(1, 20000) i;
INSERT INTO durableq_once SELECT 'o' || i, '1', 1, i, i, 1, NULL, 0, ''
FROM generate_series(1, 20000) AS i;
INSERT INTO durableq_sample
SELECT q.id, i, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM generate_series(1, 5000) AS i, durableq_queue AS q;
ANALYZE durableq_message, durableq_history, durableq_idempotency, durableq_deduplication,
    durableq_once, durableq_sample
"""

Plans = dict[str, str]


@pytest.fixture(scope="module", params=["full", "empty"])
def plans(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[Plans]:
    """The plan of each statement."""
    with new_schema(postgres_server) as url:
        with DurableQ(url) as dq:
            for name in ("orders", "mail"):
                dq.queue(name)
            dq.init()
        with connected(url) as connection:
            if request.param == "full":
                connection.execute(FILL.encode())
            yield {name: plan(connection, text) for name, text in TEXTS.items()}


def plan(connection: psycopg.Connection, text: str) -> str:
    """Return the plan of a statement for any values, in a transaction such as ours."""
    number = len({*re.findall(r"\$(\d+)", text)})
    values = f"({', '.join(['NULL'] * number)})" if number else ""
    connection.prepare_threshold = None
    connection.execute(f"BEGIN READ ONLY; {PLAN_SESSION}".encode())
    try:
        connection.execute(f"PREPARE judged AS {text}".encode())
        rows = connection.execute(f"EXPLAIN (COSTS OFF) EXECUTE judged{values}".encode())
        return "\n".join(row[0] for row in rows)
    finally:
        connection.execute("ROLLBACK")
        connection.execute("DEALLOCATE judged")


def used(plan: str) -> set[str]:
    """The indexes of large tables that a plan uses, without `durableq_`."""
    names = re.findall(r"(?:using|Bitmap Index Scan on) durableq_(\w+)", plan)
    return {name for name in names if name.startswith(LARGE)}


def test_no_statement_reads_a_whole_table(plans: Plans) -> None:
    found = {
        name: scanned
        for name, text in plans.items()
        if (scanned := {*re.findall(r"Seq Scan on durableq_(\w+)", text)} & {*LARGE})
    }
    assert found == READ_ALL


@pytest.mark.parametrize("name", INDEXES)
def test_the_plan_uses_the_index(name: str, plans: Plans) -> None:
    assert used(plans[name]) - OR_ALSO.get(name, set()) == INDEXES[name], plans[name]


@pytest.mark.parametrize("name", IN_ORDER)
def test_nothing_is_sorted(name: str, plans: Plans) -> None:
    assert SORT.findall(plans[name]) == [], plans[name]


def test_no_plan_starts_processes(plans: Plans) -> None:
    assert [name for name, text in plans.items() if "Workers Planned" in text] == []


def test_the_reader_of_plans_would_see_a_scan_and_a_sort(postgres_url: str) -> None:
    with DurableQ(postgres_url) as dq:
        dq.init()
    with connected(postgres_url) as connection:
        text = "SELECT id FROM durableq_message WHERE body = $1 ORDER BY sent_at_ms"
        found = plan(connection, text)
    assert "Seq Scan on durableq_message" in found
    assert SORT.search(found)
    assert split(postgres_url)[1] not in found
