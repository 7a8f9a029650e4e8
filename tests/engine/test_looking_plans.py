"""Charts and searches read by keys and indexes: no scan of a table, no sort of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from tests.engine.test_plans import MESSAGE, OF_QUEUE, ROWID, plan, pytestmark

__all__ = ["pytestmark"]

#: The messages of a queue in each state.
OF_STATES = {"COMPOUND QUERY", "LEFT-MOST SUBQUERY", "UNION ALL", *OF_QUEUE}
WINDOW = {
    "CO-ROUTINE near",
    "SEARCH durableq_message USING INTEGER PRIMARY KEY (rowid<?)",
    "SCAN near",
}
EVENT = "SEARCH durableq_history USING INTEGER PRIMARY KEY (rowid{}?)"
#: A body, if a text is wanted.
READ = f"SEARCH read {ROWID}"
PLANS: dict[str, tuple[str, set[str]]] = {
    # Each queue, and its last sample.
    "STANDING": (
        sql.STANDING,
        {
            "SCAN durableq_queue USING COVERING INDEX sqlite_autoindex_durableq_queue_1",
            f"SEARCH durableq_counters {ROWID} LEFT-JOIN",
            "SEARCH first USING PRIMARY KEY (queue_id=?)",
            "SEARCH last USING PRIMARY KEY (queue_id=? AND at_ms=?) LEFT-JOIN",
            "SEARCH newest USING PRIMARY KEY (queue_id=?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms<?)",
            f"SEARCH {MESSAGE} USING COVERING INDEX durableq_message_delayed "
            "(queue_id=? AND delayed_until_ms>?)",
            *(plan for plan in OF_QUEUE if "_leased" in plan or "_blocked" in plan),
        },
    ),
    "SAMPLES": (
        sql.SAMPLES,
        {
            "SCALAR SUBQUERY 1",
            "SEARCH durableq_sample USING PRIMARY KEY (queue_id=? AND at_ms>?)",
            "SEARCH newest USING PRIMARY KEY (queue_id=? AND at_ms<?)",
        },
    ),
    "PRUNE_SAMPLES": (
        sql.PRUNE_SAMPLES,
        {
            "SCALAR SUBQUERY 1",
            "SEARCH durableq_sample USING PRIMARY KEY (queue_id=? AND at_ms=?)",
            "SEARCH old USING PRIMARY KEY (queue_id=? AND at_ms<?)",
            "SEARCH newest USING PRIMARY KEY (queue_id=? AND at_ms<?)",
        },
    ),
    "COUNT_CANDIDATES": (sql.COUNT_CANDIDATES, {*OF_STATES, "CO-ROUTINE some", "SCAN some"}),
    "SEARCH_QUEUE": (sql.SEARCH_QUEUE, {*OF_STATES, f"SEARCH {MESSAGE} {ROWID}", READ}),
    # The next rows of all queues, a bounded number.
    "SEARCH_WINDOW": (sql.SEARCH_WINDOW, {*WINDOW, READ}),
    "LOOKED_AT": (sql.LOOKED_AT, WINDOW),
    "EVENTS_AFTER": (sql.EVENTS_AFTER, {EVENT.format(">")}),
    "EVENTS_BEFORE": (sql.EVENTS_BEFORE, {EVENT.format("<")}),
    "EVENT_BEFORE_GONE": (sql.EVENT_BEFORE_GONE, {EVENT.format("<")}),
    "EVENT_HEAD": (sql.EVENT_HEAD, {EVENT.format("=")}),
    "FIRST_EVENT_SINCE": (
        sql.FIRST_EVENT_SINCE,
        {
            "SEARCH durableq_queue USING COVERING INDEX sqlite_autoindex_durableq_queue_1",
            "SEARCH durableq_history USING COVERING INDEX durableq_history_queue "
            "(queue_id=? AND at_ms>?)",
        },
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_uses_the_index(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected
