"""Backup and restore with a fault at every file operation: the old database or the new one, whole.

Each sweep ends in one list of the faults after which something was wrong; it must be empty.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import Sweep

Seen = dict[str, Any]
BEFORE = {
    "restore": "none",
    "restore_beside_a_log": "none",
    "replace": "old",
    "replace_garbage": "old",
    "back_up": "none",
}
AFTER = dict.fromkeys(BEFORE, "new") | {"back_up": "old"}
OURS = ("DatabaseUnusable", "StorageFull", "Busy", "Conflict")


def tells_which(call: str, seen: Seen) -> bool:
    """Whether the next command finds that state, and says which, once the call had begun."""
    following, found = seen["next"]["state"], seen["plain"]
    said = " ".join(seen["next"]["said"])
    if not seen["noted"]:
        return following in (found, "empty") or following.startswith("ForeignDatabase")
    if found == "none":
        return "was interrupted" in following and "Run it again: `durableq " in following
    if call == "back_up":
        return following == found and f"{'copy.db'} is whole" in said
    if found == "new":
        return following == found and "is the restored database, whole" in said
    is_same = following == found or following.startswith("ForeignDatabase")
    return is_same and "is the database of before, unchanged" in said


def is_clean(call: str, seen: Seen) -> bool:
    """Whether the call can be repeated, and leaves the new database and what it replaced."""
    if call == "back_up":
        return bool(seen["source"] == "old")
    mine = [name for name in seen["left"] if name.endswith((".copying", ".partial"))]
    known = set(seen["aside"]) <= {"old", "new", "empty"}
    kept = BEFORE[call] != "old" or "old" in seen["aside"]
    return bool(seen["again"] == ["done", "new"] and not mine and known and kept)


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
        assert seen["raced"][0] == stored, seen  # all are at the path, none in what was set aside
        assert seen["state"] == ("new" if seen["answer"] == "done" else seen["state"]), seen
        assert seen["state"] in {"new", "old", "empty"}, seen
