"""Backup and restore with a fault at every file operation: the old database or the new one, whole.

Each sweep ends in one list of the faults after which something was wrong; it must be empty.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import Sweep
from tests.faults.judging import AFTER, BEFORE, Seen, is_clean, tells_which

OURS = ("DatabaseUnusable", "StorageFull", "Busy", "Conflict")


@pytest.mark.parametrize("call", BEFORE)
def test_killed_at_any_operation_there_is_the_old_database_or_the_new_one(
    call: str, sweep: Sweep
) -> None:
    found = sweep(call, "kill")
    assert len(found) > 15
    assert {seen["plain"] for seen in found} == {BEFORE[call], AFTER[call]}
    bad = [
        seen
        for seen in found
        if not seen["answer"].startswith("killed")
        or not tells_which(call, seen)
        or not is_clean(call, seen)
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("call", "error"),
    [("restore", "EIO"), ("replace", "EIO"), ("replace", "ENOSPC"), ("back_up", "EIO")],
)
def test_an_operation_that_fails_makes_the_call_fail_or_does_not_matter(
    call: str, error: str, sweep: Sweep
) -> None:
    found = sweep(call, error)
    assert len(found) > 15

    def is_true(seen: Seen) -> bool:
        answer: str = seen["answer"]
        if answer == "done" or "is in place and whole" in answer:
            return bool(seen["plain"] == AFTER[call])
        return bool(answer.startswith(OURS) and seen["plain"] == BEFORE[call])

    assert {seen["plain"] for seen in found} == {BEFORE[call], AFTER[call]}
    assert [seen for seen in found if not (is_true(seen) and is_clean(call, seen))] == []


@pytest.mark.parametrize("call", ["restore", "replace"])
def test_no_send_that_is_answered_during_a_restore_is_lost(call: str, sweep: Sweep) -> None:
    """A sender that looked before the restore began sends between any two steps, and after it."""
    found = sweep(call, "race")
    outcomes = {seen["answer"].partition(":")[0] for seen in found}
    assert outcomes == {"done", "Conflict"}
    for seen in found:
        stored = sum(answer.isdigit() for answer in seen["sent"])
        assert seen["raced"][0] == stored, seen  # all are at the path, none in the files set aside
        assert seen["state"] == ("new" if seen["answer"] == "done" else seen["state"]), seen
        assert seen["state"] in {"new", "old", "empty"}, seen
