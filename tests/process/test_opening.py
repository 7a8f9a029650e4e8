"""Opening: many processes at one missing file, and a process that forks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine import plain
from tests.process.child import Nursery

PROCESSES = 6


def test_processes_that_open_a_missing_file_at_once_agree_on_one(
    db: Path, nursery: Nursery
) -> None:
    reading, writing = os.pipe()
    children = [nursery.start("open_together", db, stdin=reading) for _ in range(PROCESSES)]
    os.close(reading)
    for child in children:
        child.wait_line("READY")
    assert not db.exists()
    os.close(writing)  # the end of each child's stdin
    assert [(child.end(), child.complaints) for child in children] == [(0, "")] * PROCESSES
    ids = sorted(int(child.said[1]) for child in children)
    assert ids == list(range(1, PROCESSES + 1))
    assert len(plain.column(db, "SELECT version_num FROM durableq_version")) == 1
    assert plain.column(db, "SELECT name FROM durableq_queue ORDER BY id") == [
        "orders",
        "orders-dlq",
    ]
    plain.check_sound(db)


def test_a_forked_child_uses_the_application_and_the_parent_goes_on(
    db: Path, nursery: Nursery
) -> None:
    child = nursery.start("fork", db)
    assert child.end() == 0, child.complaints
    assert child.said == ["0", "0", "0"]
    assert plain.counters(db, "orders") | {"sent": 8, "completed": 3} == plain.counters(
        db, "orders"
    )
    bodies = set(plain.column(db, "SELECT body FROM durableq_message"))
    assert '"after"' in bodies
    plain.check_sound(db)


@pytest.mark.parametrize(
    ("then", "status"), [("leave", "8"), ("write", "8"), ("raise", "9"), ("exit", "7")]
)
def test_a_child_forked_in_a_transaction_cannot_end_it(
    db: Path, nursery: Nursery, then: str, status: str
) -> None:
    """The parent undoes the transaction after the child has left it: nothing of it is stored."""
    parent = nursery.start("fork_in_transaction", db, then)
    assert parent.end() == 0, parent.complaints
    assert parent.said == [status]
    assert plain.column(db, "SELECT name FROM effect") == []
    assert plain.column(db, "SELECT count(*) FROM durableq_message WHERE state = 0") == [2]
    plain.check_sound(db)


@pytest.mark.parametrize("then", ["look", "close"])
def test_a_forked_child_closes_no_connection_of_any_thread(
    db: Path, nursery: Nursery, then: str
) -> None:
    """Closing one would wait for a lock for ever, or undo writes of the parent."""
    child = nursery.start("fork_beside", db, then)
    assert child.end() == 0, child.complaints
    assert child.said == ["0"]
