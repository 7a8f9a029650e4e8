"""SIGKILL before each statement of a call: all of its effects are there, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import EFFECT
from tests.process.child import Nursery


def prepare(db: Path, call: str) -> None:
    """Make a file in which the call has one message to act upon."""
    with DurableQ(db) as dq:
        orders = dq.queue("orders", max_receives=1)
        dq.queue("receipts")
        orders.send({"n": 1}, key="k")
        if call == "decide":
            orders.receive()[0].fail("to be recovered")
    plain.script(db, EFFECT)


def seen(db: Path) -> tuple[int, ...]:
    """Return the counts that a call changes."""
    counts = (
        "SELECT count(*) FROM effect",
        "SELECT sum(completed) FROM durableq_counters",
        "SELECT count(*) FROM durableq_idempotency WHERE status = 1",
        "SELECT count(*) FROM durableq_message",
        "SELECT count(*) FROM durableq_history",
        "SELECT sum(moved_out) FROM durableq_counters",
        "SELECT max(recovery_count) FROM durableq_message",
    )
    return tuple(plain.one(db, sql) for sql in counts)


#: The counts of `seen` before each call, and after it; no others are right.
CALLS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "transaction": ((0, 0, 0, 1, 0, 0, 0), (1, 1, 1, 1, 0, 0, 0)),
    "fail": ((0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 1, 2, 1, 0)),
    "decide": ((0, 0, 0, 1, 2, 1, 0), (0, 0, 0, 1, 3, 2, 1)),
    "send": ((0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 4, 0, 0, 0)),
}


@pytest.mark.parametrize("call", CALLS)
def test_killed_before_any_statement_a_call_is_done_wholly_or_not_at_all(
    call: str, tmp_path: Path, nursery: Nursery
) -> None:
    db = tmp_path / "queue.db"
    prepare(db, call)
    child = nursery.start("sweep", call, db)
    assert child.end() == 0, child.complaints
    files = sorted(tmp_path.glob("killed-*.db"))
    assert len(files) == int(child.said[-1]) > 4
    before, after = CALLS[call]
    found = [seen(path) for path in files]
    assert set(found) == {before, after}
    assert (found[0], found[-1]) == (before, after), "it died at no statement, or at every one"
    for path in files:
        plain.check_sound(path)
