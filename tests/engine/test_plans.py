"""The hot statements use their index with any backlog: no scan, no sort."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from durableq.engines.sqlite.driver import driver, is_affected
from durableq.model.dead_letters import DeadLetterFilter, DeadLetterGroup
from durableq.model.message import State
from durableq.store.core import Capability
from tests.engine import plain

pytestmark = pytest.mark.skipif(
    is_affected(driver.sqlite_version_info), reason="each SQLite words its plans in its own way"
)

ROWID = "USING INTEGER PRIMARY KEY (rowid=?)"
RECORD = "USING PRIMARY KEY (queue_id=? AND key=?)"
MESSAGE = "durableq_message"
KEYS = "durableq_idempotency"
HISTORY = "durableq_history_message"
OF_MESSAGE = f"SEARCH durableq_history USING INDEX {HISTORY} (message_id=?)"
OF_QUEUE = [
    f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_{index} (queue_id=?)"
    for index in ("ready", "delayed", "leased", "blocked")
]
#: Its table has one row.
REVISION = ("SCALAR SUBQUERY 1", "SCAN durableq_version")

_LEASES = f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_leased (queue_id=?)"
FEW_LEASES = {"CO-ROUTINE leases", "SCAN leases", _LEASES}  # compared with a limit
PLANS: dict[str, tuple[str, set[str]]] = {
    "QUEUE": (
        sql.QUEUE,
        {
            "SEARCH durableq_queue USING INDEX sqlite_autoindex_durableq_queue_1 (name=?)",
            f"SEARCH target {ROWID}",
            "SCAN durableq_version",
            "SCALAR SUBQUERY 2",
        },
    ),
    "SENT": (sql.SENT, {f"SEARCH durableq_counters {ROWID}"}),
    "RECEIVE_FROM": (
        sql.RECEIVE_FROM,
        {
            *REVISION,
            "SEARCH durableq_queue USING INDEX sqlite_autoindex_durableq_queue_1 (name=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_leased "
            "(queue_id=? AND lease_until_ms<?)",
        },
    ),
    "READY": (
        sql.READY,
        {
            f"SEARCH {MESSAGE} USING INDEX durableq_message_ready (queue_id=?)",
            f"SEARCH {KEYS} {RECORD} LEFT-JOIN",
        },
    ),
    "DUE": (
        sql.DUE,
        {
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)"
        },
    ),
    "PROMOTE": (sql.PROMOTE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "EXPIRED_LEASES": (
        sql.EXPIRED_LEASES,
        {f"SEARCH {MESSAGE} USING INDEX durableq_message_leased (queue_id=? AND lease_until_ms<?)"},
    ),
    "EXPIRED_MESSAGES": (
        sql.EXPIRED_MESSAGES,
        {
            f"SEARCH {MESSAGE} USING INDEX durableq_message_expiry (expires_at_ms<?)",
            f"SEARCH durableq_queue {ROWID}",
        },
    ),
    "LEASE": (sql.LEASE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "EXTEND": (sql.EXTEND, {f"SEARCH {MESSAGE} {ROWID}"}),
    "COMPLETE": (sql.COMPLETE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "LEASED": (sql.LEASED, {f"SEARCH {MESSAGE} {ROWID}"}),
    "PUT_BACK": (sql.PUT_BACK, {f"SEARCH {MESSAGE} {ROWID}"}),
    "BURY": (sql.BURY, {f"SEARCH {MESSAGE} {ROWID}"}),
    "REPORT_PROGRESS": (sql.REPORT_PROGRESS, {f"SEARCH {MESSAGE} {ROWID}"}),
    "NAMED": (sql.NAMED, {f"SEARCH {MESSAGE} {ROWID}"}),
    "CANCEL": (sql.CANCEL, {f"SEARCH {MESSAGE} {ROWID}"}),
    "DELAY": (sql.DELAY, {f"SEARCH {MESSAGE} {ROWID}"}),
    "RUN_NOW": (sql.RUN_NOW, {f"SEARCH {MESSAGE} {ROWID}"}),
    "OWNER_LEASE": (sql.OWNER_LEASE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "LEASE_ONE": (sql.LEASE_ONE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "COMPLETE_ONE": (sql.COMPLETE_ONE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "LEASED_ONE": (sql.LEASED_ONE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "TAKE_NEW_KEYS": (
        sql.TAKE_NEW_KEYS,
        {f"SEARCH {MESSAGE} {ROWID}", "USE TEMP B-TREE FOR ORDER BY"},  # of the ids given
    ),
    "TAKE_NEW_KEYS_ONE": (sql.TAKE_NEW_KEYS_ONE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "COMPLETE_KEYS": (sql.COMPLETE_KEYS, {f"SEARCH {KEYS} {RECORD}"}),
    "COMPLETE_KEYS_ONE": (sql.COMPLETE_KEYS_ONE, {f"SEARCH {KEYS} {RECORD}"}),
    "HAS_DEFERRED": (
        sql.HAS_DEFERRED,
        {f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_deferred (queue_id=?)"},
    ),
    "COMPLETE_KEY": (sql.COMPLETE_KEY, {f"SEARCH {KEYS} {RECORD}"}),
    "DROP_KEY": (sql.DROP_KEY, {f"SEARCH {KEYS} {RECORD}"}),
    "WAKE_DEFERRED": (
        sql.WAKE_DEFERRED,
        {f"SEARCH {MESSAGE} USING INDEX durableq_message_deferred (queue_id=? AND key=?)"},
    ),
    "READY_IN": (
        sql.READY_IN,
        {
            *REVISION,
            "SEARCH durableq_queue USING INDEX sqlite_autoindex_durableq_queue_1 (name=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_ready (queue_id=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed (queue_id=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_leased (queue_id=?)",
        },
    ),
    # The next rows of all queues, a bounded number.
    "PEEK_NEAR": (
        sql.PEEK_NEAR,
        {
            "CO-ROUTINE near",
            "SEARCH durableq_message USING INTEGER PRIMARY KEY (rowid>?)",
            "SCAN near",
        },
    ),
    # Only this queue is read, and sorted.
    "PEEK_FAR": (
        sql.PEEK_FAR,
        {
            *("COMPOUND QUERY", "LEFT-MOST SUBQUERY", "UNION ALL", "USE TEMP B-TREE FOR ORDER BY"),
            *(f"CO-ROUTINE {state}" for state in ("ready", "delayed", "in_flight", "blocked")),
            *(f"SCAN {state}" for state in ("ready", "delayed", "in_flight", "blocked")),
            *OF_QUEUE,
        },
    ),
    "IN_QUEUE": (
        sql.IN_QUEUE,
        {"COMPOUND QUERY", "LEFT-MOST SUBQUERY", "UNION ALL", *OF_QUEUE},
    ),
    "PURGE": (
        sql.PURGE,
        {
            f"SEARCH {MESSAGE} {ROWID}",
            *("COMPOUND QUERY", "LEFT-MOST SUBQUERY", "UNION ALL"),
            *OF_QUEUE,
        },
    ),
    # Delayed messages and those in flight are counted; of the ready ones it looks for one.
    "INFOS": (
        sql.INFOS,
        {
            "SCAN durableq_queue USING INDEX sqlite_autoindex_durableq_queue_1",
            f"SEARCH durableq_counters {ROWID} LEFT-JOIN",
            f"SEARCH durableq_flow {ROWID} LEFT-JOIN",
            f"SEARCH pair {ROWID} LEFT-JOIN",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms>?)",
            *(plan for plan in OF_QUEUE if "_delayed" not in plan),
        },
    ),
    "FLOW": (
        sql.FLOW,
        {f"SEARCH durableq_queue {ROWID}", f"SEARCH durableq_counters {ROWID}", *FEW_LEASES},
    ),
    "FLOW_OF_BREAKER": (
        sql.FLOW_OF_BREAKER,
        {
            *FEW_LEASES,
            f"SEARCH durableq_queue {ROWID}",
            f"SEARCH durableq_counters {ROWID}",
            f"SEARCH durableq_flow {ROWID}",
        },
    ),
    "LET_THROUGH": (
        sql.LET_THROUGH,
        {
            f"SEARCH {MESSAGE} {ROWID}",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms=?)",
        },
    ),
    "COUNT_IN_FLIGHT": (
        sql.COUNT_IN_FLIGHT,
        {
            "SCALAR SUBQUERY 1",
            f"SEARCH durableq_counters {ROWID}",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_leased (queue_id=?)",
        },
    ),
    "COUNT_GATHERED": (
        sql.COUNT_GATHERED,
        {
            *(
                "COMPOUND QUERY",
                "LEFT-MOST SUBQUERY",
                "UNION ALL",
                "CO-ROUTINE first",
                "SCAN first",
            ),
            f"SEARCH {MESSAGE} USING INDEX durableq_message_ready (queue_id=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_leased "
            "(queue_id=? AND lease_until_ms<?)",
        },
    ),
    "NEXT_RANK": (
        sql.NEXT_RANK,
        {f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_ready (queue_id=? AND rank>?)"},
    ),
    # A bounded number of the first.
    "OLDEST_OF_LEVEL": (
        sql.OLDEST_OF_LEVEL,
        {
            "CO-ROUTINE first",
            f"SEARCH {MESSAGE} USING INDEX durableq_message_ready "
            "(queue_id=? AND rank>? AND rank<?)",
            "SEARCH first",
        },
    ),
    # Dead letters are read in order of their groups, from the index alone; groups are sorted.
    "GROUPS": (
        sql.GROUPS,
        {
            "CO-ROUTINE kind",
            "SEARCH m USING COVERING INDEX durableq_message_burial (source_queue_id>?)",
            "SCAN kind",
            "SEARCH newest USING COVERING INDEX durableq_message_burial (source_queue_id=? AND "
            "burial_reason=? AND burial_fingerprint=? AND enqueued_at_ms=?)",
            f"SEARCH source {ROWID} LEFT-JOIN",
            f"SEARCH died {ROWID} LEFT-JOIN",
            OF_MESSAGE,
            "USE TEMP B-TREE FOR ORDER BY",
        },
    ),
    # One page of the table, and of the history what a filter by error needs.
    "DEAD_LETTER_PAGE": (
        sql.DEAD_LETTER_PAGE,
        {
            "SEARCH m USING INDEX durableq_message_dead (id>?)",
            f"SEARCH own {ROWID}",
            f"SEARCH source {ROWID} LEFT-JOIN",
            f"SEARCH died {ROWID}",
            OF_MESSAGE,
        },
    ),
    "HISTORY": (
        sql.HISTORY,
        {OF_MESSAGE, f"SEARCH durableq_queue {ROWID} LEFT-JOIN"},
    ),
    "RECOVERIES": (
        sql.RECOVERIES,
        {
            "SEARCH back USING INDEX durableq_history_queue (queue_id=? AND at_ms>?)",
            f"SEARCH later USING INDEX {HISTORY} (message_id=? AND id>?)",
            f"SEARCH died USING INDEX {HISTORY} (message_id=? AND id>?)",
            f"SEARCH m {ROWID}",
            "USE TEMP B-TREE FOR LAST TERM OF ORDER BY",
        },
    ),
    # Only messages in flight are read and sorted, never the backlog.
    "LEASED_BY": (
        sql.LEASED_BY,
        {
            f"SCAN {MESSAGE} USING INDEX durableq_message_leased",
            f"SEARCH own {ROWID}",
            f"SEARCH source {ROWID} LEFT-JOIN",
            "USE TEMP B-TREE FOR ORDER BY",
        },
    ),
}
DEAD = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
INSERT INTO durableq_message (queue_id, source_queue_id, burial_reason, burial_fingerprint, state,
    rank, priority, deferred, receive_count, recovery_count, lease_until_ms, delayed_until_ms,
    enqueued_at_ms, sent_at_ms, first_received_at_ms, retention_from_ms, expires_at_ms,
    debounce_until_ms, receipt, owner_id, body_bytes, body_format, sequence, body)
SELECT queue.dead_letter_queue_id, queue.id, 'rejected', 'kind ' || (i % 20), 0, 0, 0, 0, 0, 0, 0,
    0, i, i, 0, i, 0, 0, zeroblob(16), 1 << 40, 1, 0, 0, '1'
FROM n JOIN durableq_queue AS queue ON queue.name = 'orders'"""
#: Steps of SQLite's virtual machine for a dead letter: to count it in its group, and to list it.
GROUPED, LISTED = 20, 50
OF_ITS_IDS = re.compile("LIST SUBQUERY|SCAN json_each VIRTUAL TABLE|CORRELATED SCALAR SUBQUERY")
BACKLOG = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO durableq_message (queue_id, state, rank, priority, deferred, receive_count,
    recovery_count, lease_until_ms, delayed_until_ms, enqueued_at_ms, sent_at_ms,
    first_received_at_ms, retention_from_ms, expires_at_ms, debounce_until_ms, receipt, owner_id,
    body_bytes, body_format, sequence, body)
SELECT queue.id, {state}, 0, 0, 0, 0, 0, {later} + i, {later} + i, 0, 0, {later}, {later} + i,
    {later}, 0, zeroblob(16), 1 << 40, 1, 0, 0, '1'
FROM n JOIN durableq_queue AS queue ON queue.name = 'orders'"""


def plan(db: Path, statement: str) -> set[str]:
    """Return the steps of a statement's plan, without those that read its list of ids."""
    compiled = re.sub(r"(?<!:):\w+|\?\d+", "NULL", statement)
    steps = [row[3] for row in plain.rows(db, f"EXPLAIN QUERY PLAN {compiled}")]
    return {step for step in steps if not OF_ITS_IDS.match(step)}


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_uses_the_index(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected


def test_the_reader_of_plans_would_see_a_scan_and_a_sort(dq: DurableQ, db: Path) -> None:
    unindexed = "SELECT id FROM durableq_message WHERE body = :body ORDER BY sent_at_ms"
    assert plan(db, unindexed) == {"SCAN durableq_message", "USE TEMP B-TREE FOR ORDER BY"}


def steps_of(dq: DurableQ, ask: Callable[[], object]) -> int:
    """Return the number of SQLite's virtual machine instructions of a call.

    It is the least of three: on a slow machine a call may find that the stored time is due, which
    the write before renews.
    """
    store: Any = dq.store
    raw, counts = store._database.session().raw, []
    for _ in range(3):
        with store._database.write():
            pass
        steps: list[int] = []
        raw.set_progress_handler(partial(steps.append, 1), 1)
        try:
            ask()
        finally:
            raw.set_progress_handler(None, 1)
        counts.append(len(steps))
    return min(counts)


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.label)
def test_looking_ahead_costs_the_same_with_any_backlog(
    dq: DurableQ, db: Path, state: State
) -> None:
    dq.queue("orders").send(1, delay=3600)
    dq.queue("orders").send(2)
    dq.queue("orders").receive()
    dq.queue("orders").send(3)

    def look() -> None:
        dq.store.ready_in_ms(["orders", "orders-dlq"])

    before = steps_of(dq, look)
    plain.script(db, BACKLOG.format(state=int(state), later=1 << 42))
    assert before > 20
    assert steps_of(dq, look) <= before


def test_naming_a_queue_costs_the_same_with_any_backlog(dq: DurableQ, db: Path) -> None:
    dq.queue("orders", max_receives=5).send(1)

    def name_it() -> None:
        dq.queue("orders", max_receives=5).producer()

    before = steps_of(dq, name_it)
    plain.script(db, BACKLOG.format(state=int(State.READY), later=1 << 42))
    assert before > 20
    assert steps_of(dq, name_it) <= before


def test_counting_a_queue_costs_the_same_with_any_backlog(dq: DurableQ, db: Path) -> None:
    dq.queue("orders").send_many([1] * 1_000)

    def count() -> None:
        assert dq.store.require(Capability.INSPECT).queues()

    before = steps_of(dq, count)
    plain.script(db, BACKLOG.format(state=int(State.READY), later=1 << 42))
    plain.script(db, "UPDATE durableq_counters SET sent = sent + 100000 WHERE sent > 0")
    assert before > 20
    assert steps_of(dq, count) <= before + 20  # the ends of its ranges lie between other rows
    (orders, _) = dq.store.require(Capability.INSPECT).queues()
    assert orders.counts.ready == 101_000


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.label)
def test_peeking_into_a_queue_costs_the_same_with_any_backlog_beside_it(
    dq: DurableQ, db: Path, state: State
) -> None:
    dq.queue("orders").send(1)
    dq.store.declare_queue("mail", {})

    def peek() -> None:
        assert dq.store.require(Capability.INSPECT).peek("mail", 20) == []

    plain.script(db, BACKLOG.format(state=int(state), later=1 << 42))
    before = steps_of(dq, peek)
    plain.script(db, BACKLOG.format(state=int(state), later=1 << 42))
    assert steps_of(dq, peek) <= before < 100_000


def test_grouping_costs_few_steps_for_a_dead_letter_and_none_for_others(
    dq: DurableQ, db: Path
) -> None:
    dq.queue("orders").send(1)
    plain.script(db, DEAD)
    found: list[DeadLetterGroup] = []

    def group() -> None:
        found[:] = dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()

    before = steps_of(dq, group)
    assert [group.count for group in found] == [500] * 20
    assert before <= 10_000 * GROUPED
    plain.script(db, BACKLOG.format(state=int(State.READY), later=1 << 42))
    assert steps_of(dq, group) <= before


def test_a_page_of_dead_letters_costs_the_same_with_any_number_of_others(
    dq: DurableQ, db: Path
) -> None:
    dq.queue("orders").send(1)
    plain.script(db, DEAD)

    def page() -> None:
        wanted = DeadLetterFilter(queue="orders")
        assert len(dq.store.require(Capability.DEAD_LETTERS).dead_letters(wanted, 100)) == 100

    before = steps_of(dq, page)
    plain.script(db, DEAD)
    plain.script(db, BACKLOG.format(state=int(State.READY), later=1 << 42))
    assert steps_of(dq, page) <= before < 110 * LISTED
