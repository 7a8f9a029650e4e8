"""Judge the findings after a kill or a power cut: only two states are right."""

from __future__ import annotations

from typing import Any

Seen = dict[str, Any]
BEFORE = {
    "restore": "none",
    "restore_beside_a_log": "none",
    "replace": "old",
    "replace_garbage": "old",
    "back_up": "none",
}
#: The mode of the database that a restore replaces.
MODE = 0o640
AFTER = dict.fromkeys(BEFORE, "new") | {"back_up": "old"}


def tells_which(call: str, seen: Seen) -> bool:
    """Return whether the next command finds that state and, once the call had begun, names it."""
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
    """Return whether the call can be repeated, and keeps the database that it replaces."""
    if call == "back_up":
        return bool(seen["source"] == "old")
    mine = [name for name in seen["left"] if name.endswith((".copying", ".partial"))]
    known = set(seen["aside"]) <= {"old", "new", "empty"}
    kept = BEFORE[call] != "old" or "old" in seen["aside"]
    return bool(seen["again"] == ["done", "new"] and not mine and known and kept)


def survives(seen: Seen) -> bool:
    """Return whether an image is the old database or the new one, or keeps its answers.

    A second cut begins with the image of the first, which stays unless a restore replaces it.
    """
    call, is_first = seen["call"], "before" not in seen
    if call in {"begin", "work"}:
        return keeps_answers(seen)
    before = seen.get("before", BEFORE.get(call))
    after = before if call == "open_again" else AFTER[call]
    if seen["plain"] not in ({after} if seen["answers"] else {before, after}):
        return False
    if call.startswith("replace") and is_first and seen["mode"] != MODE:
        return False
    if call == "replace" and before == after and seen["noted"]:  # nothing tells one from the other
        said = " ".join(seen["next"]["said"])
        return "restored database, whole" in said or "database of before, unchanged" in said
    looked_again = is_first and ("again" in seen or "source" in seen)
    return tells_which(call, seen) and (not looked_again or is_clean(call, seen))


def keeps_answers(seen: Seen) -> bool:
    """Return whether each message whose send was answered is there, until its completion began."""
    if seen["refused"] or seen["check"] != "ok":
        return False
    sent, begun, completed = (
        {number for answer in seen["answers"] for number in answer.get(wanted, [])}
        for wanted in ("sent", "completing", "completed")
    )
    there = set(seen["messages"])
    return sent - begun <= there and not completed & there
