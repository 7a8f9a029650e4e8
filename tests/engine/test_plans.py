"""The hot statements use their index, whatever the backlog: no scan, no sort."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sql import statements as sql
from durableq.engines.sql.statement import Statement
from tests.engine import plain

ROWID = "USING INTEGER PRIMARY KEY (rowid=?)"
RECORD = "USING PRIMARY KEY (queue_id=? AND key=?)"
MESSAGE = "durableq_message"
KEYS = "durableq_idempotency"

PLANS: dict[str, tuple[Statement, set[str]]] = {
    "QUEUE": (
        sql.QUEUE,
        {"SEARCH durableq_queue USING INDEX sqlite_autoindex_durableq_queue_1 (name=?)"},
    ),
    "COUNT": (sql.COUNT, {f"SEARCH durableq_queue {ROWID}"}),
    "READY": (
        sql.READY,
        {
            f"SEARCH {MESSAGE} USING INDEX durableq_message_ready (queue_id=?)",
            f"SEARCH {KEYS} {RECORD} LEFT-JOIN",
        },
    ),
    "PROMOTE": (
        sql.PROMOTE,
        {
            f"SEARCH {MESSAGE} USING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)"
        },
    ),
    "EXPIRED_LEASES": (
        sql.EXPIRED_LEASES,
        {f"SEARCH {MESSAGE} USING INDEX durableq_message_leased (queue_id=? AND lease_until_ms<?)"},
    ),
    "LEASE": (sql.LEASE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "EXTEND": (sql.EXTEND, {f"SEARCH {MESSAGE} {ROWID}"}),
    "COMPLETE": (sql.COMPLETE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "HELD": (sql.HELD, {f"SEARCH {MESSAGE} {ROWID}"}),
    "PUT_BACK": (sql.PUT_BACK, {f"SEARCH {MESSAGE} {ROWID}"}),
    "BURY": (sql.BURY, {f"SEARCH {MESSAGE} {ROWID}"}),
    "OWNER_LEASE": (sql.OWNER_LEASE, {f"SEARCH {MESSAGE} {ROWID}"}),
    "COMPLETE_KEY": (sql.COMPLETE_KEY, {f"SEARCH {KEYS} {RECORD}"}),
    "DROP_KEY": (sql.DROP_KEY, {f"SEARCH {KEYS} {RECORD}"}),
    "WAKE_DEFERRED": (
        sql.WAKE_DEFERRED,
        {f"SEARCH {MESSAGE} USING INDEX durableq_message_deferred (queue_id=? AND key=?)"},
    ),
}
OF_ITS_IDS = ("LIST SUBQUERY", "SCAN anon_1 VIRTUAL TABLE")


def plan(db: Path, statement: Statement) -> set[str]:
    """The steps of a statement's plan, without those that read its own list of ids."""
    marks = [None] * statement.sql.count("?")
    steps = [row[3] for row in plain.rows(db, f"EXPLAIN QUERY PLAN {statement.sql}", *marks)]
    return {step for step in steps if not step.startswith(OF_ITS_IDS)}


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_of(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected


def test_the_reader_of_plans_would_see_a_scan_and_a_sort(dq: DurableQ, db: Path) -> None:
    unindexed = Statement.__new__(Statement)
    unindexed.sql = "SELECT id FROM durableq_message WHERE body = ? ORDER BY sent_at_ms"
    assert plan(db, unindexed) == {"SCAN durableq_message", "USE TEMP B-TREE FOR ORDER BY"}
