"""A call whose file operations fail raises a true error, and the next call works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Write = Callable[..., list[dict[str, Any]]]
FULL = {"ENOSPC": "is full", "EDQUOT": "quota", "EFBIG": "may not become larger"}


def check(seen: list[dict[str, Any]]) -> set[str]:
    """Check that only our errors were raised and the next send worked; return the answers."""
    assert len(seen) > 1
    for found in seen:
        assert found.get("ours"), found
        assert found["next"] == "done", found
        assert found["integrity"] == "ok", found
        if found["answer"] == "done":
            continue
        stored = found["new"] or found["large"]
        if found["answer"] != "OutcomeUnknown":
            assert not stored, found
        if stored:
            assert "undone" not in found["says"], found
    return {found["answer"] for found in seen}


@pytest.mark.parametrize("call", ["open", "thread"])
@pytest.mark.parametrize("error", ["EMFILE", "EIO"])
def test_an_opening_that_failed_leaves_nothing_that_cannot_write(
    write: Write, call: str, error: str
) -> None:
    """SQLite opens a file for reading that it may not open for writing, and leaves it so."""
    seen = write(call, error, "once")
    assert check(seen) >= {"DatabaseUnusable", "done"}
    assert any("for reading only" in found["says"] for found in seen)


@pytest.mark.xdist_group("SQLite libraries")  # one worker starts the warm process of each
@pytest.mark.parametrize("call", ["beside", "later", "create"])
def test_an_index_that_could_not_be_opened_for_writing_is_opened_again(
    write_with_library: Write, call: str
) -> None:
    """SQLite opens the log's index for reading then, if another process has made it."""
    seen = write_with_library(call, "EMFILE", "index")
    assert check(seen) == {"DatabaseUnusable", "done"}
    refused = seen[0]
    assert (refused["operation"], refused["answer"]) == ("create shop.db-shm", "DatabaseUnusable")
    assert ("for reading only" in refused["says"]) == (call != "create")


@pytest.mark.parametrize(("call", "error"), [*(("open", e) for e in FULL), ("large", "ENOSPC")])
def test_a_disk_without_room_is_no_failing_disk(write: Write, call: str, error: str) -> None:
    seen = write(call, error, "on")
    assert "StorageFull" in check(seen)
    for found in seen:
        if found["answer"] != "done" and "for reading only" not in found["says"]:
            assert FULL[error] in found["says"], found


def test_a_commit_that_a_full_disk_undid_is_no_unknown_outcome(write: Write) -> None:
    seen = write("send", "ENOSPC", "on")
    assert check(seen) == {"StorageFull", "OutcomeUnknown"}
    for found in seen:
        assert (found["answer"] == "StorageFull") == found["operation"].startswith("pwrite")


def test_any_other_commit_that_fails_is_an_unknown_outcome(write: Write) -> None:
    assert check(write("send", "EIO", "once")) == {"OutcomeUnknown"}


@pytest.mark.parametrize("call", ["maintain", "migrate"])
def test_an_error_after_the_commit_does_not_say_that_it_was_undone(write: Write, call: str) -> None:
    seen = write(call, "EIO", "once")
    check(seen)
    assert any(found["answer"] != "done" for found in seen)
    assert not any("undone" in found["says"] for found in seen)
    if call == "migrate":
        assert any(found["says"].startswith("The tables are upgraded, but") for found in seen)
