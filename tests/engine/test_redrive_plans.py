"""The statements of redrive tasks read no message twice that they have passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from durableq.engines.sqlite.driver import driver, is_affected
from tests.engine.test_plans import OF_MESSAGE, ROWID, plan

pytestmark = pytest.mark.skipif(
    is_affected(driver.sqlite_version_info), reason="each SQLite words its plans in its own way"
)

PLANS: dict[str, tuple[str, set[str]]] = {
    # Only dead letters are read, from the redrive task's position on, in order of id, not sorted.
    "LETTERS_MEANT": (
        sql.DEAD_LETTERS_MEANT,
        {
            "SEARCH m USING INDEX durableq_message_dead (id>?)",
            f"SEARCH source {ROWID} LEFT-JOIN",
            f"SEARCH died {ROWID} LEFT-JOIN",
            OF_MESSAGE,
        },
    ),
    # Ready messages of one queue are read, from the task's position on; a page of each is sorted.
    "READY_MEANT": (
        sql.READY_MEANT,
        {
            *("MERGE (UNION ALL)", "LEFT", "RIGHT"),
            *(f"{step} anon_{part}" for step in ("CO-ROUTINE", "SCAN") for part in (1, 2)),
            "SEARCH m USING INDEX durableq_message_ready (queue_id=? AND rank=? AND id>? AND id<?)",
            "SEARCH m USING INDEX durableq_message_ready (queue_id=? AND rank>?)",
            f"SEARCH source {ROWID} LEFT-JOIN",
            OF_MESSAGE,
            "USE TEMP B-TREE FOR ORDER BY",
        },
    ),
    "DELAYED_MEANT": (
        sql.DELAYED_MEANT,
        {
            "SEARCH m USING INDEX durableq_message_delayed (queue_id=?)",
            f"SEARCH source {ROWID} LEFT-JOIN",
            OF_MESSAGE,
        },
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_begins_at_the_position_of_the_task(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected
