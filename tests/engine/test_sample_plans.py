"""Samples are read and removed by the key of their table: no scan, no sort."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from tests.engine.test_plans import MESSAGE, OF_QUEUE, ROWID, plan, pytestmark

__all__ = ["pytestmark"]

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
}


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_uses_the_index(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected
