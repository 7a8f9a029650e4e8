"""What a worker notes in shared memory, as its supervisor reads it."""

from __future__ import annotations

import os

import pytest

from durableq.board import SLOTS, Board, Stage, shared_memory
from durableq.message import Receipt
from tests.support import wait_for


def receipt(message_id: str, token: str = "token") -> Receipt:
    return Receipt("orders", message_id, token)


def test_what_one_side_notes_the_other_reads_also_when_the_first_has_let_go() -> None:
    memory = shared_memory()
    ours, theirs = Board(memory), Board(memory)
    os.close(memory)
    assert (ours.stage, ours.holder, ours.settled, list(ours.begun())) == (Stage.STARTING, 0, 0, [])
    theirs.register(7)
    theirs.reach(Stage.READY)
    theirs.settle(2)
    theirs.settle(3)
    theirs.begin("token", "5")
    theirs.close()
    assert (ours.stage, ours.holder, ours.settled) == (Stage.READY, 7, 5)
    assert [(one.token, one.message_id) for one in ours.begun()] == [("token", "5")]


def test_a_message_is_noted_from_when_it_is_begun_until_it_is_settled() -> None:
    board = Board()
    slot = board.begin("token", "5", timeout_ms=60_000)
    assert slot is not None
    (begun,) = board.begun()
    assert begun.deadline_ns - begun.began_ns == 60_000 * 1_000_000
    assert not begun.has_returned
    board.run(slot, 1234)
    assert [one.group for one in board.begun()] == [1234]
    board.return_from(slot)
    assert [one.has_returned for one in board.begun()] == [True]
    assert [one.group for one in board.begun()] == [0], "the number may be another group's by now"
    board.end(slot)
    assert list(board.begun()) == []


@pytest.mark.parametrize(
    ("noted", "of", "covered"),
    [
        ("5", receipt("5"), True),
        ("5", receipt("6"), False),
        ("5", receipt("5", "another token"), False),
        ("", receipt("5"), True),
        ("", receipt("6"), True),
        ("", receipt("5", "another token"), False),
    ],
    ids=str,
)
def test_a_message_or_a_batch_is_told_by_its_receipt(
    noted: str, of: Receipt, covered: bool
) -> None:
    board = Board()
    board.begin("token", noted)
    (begun,) = board.begun()
    assert begun.covers(of) is covered


def test_more_than_it_has_room_for_goes_unnoted_and_room_comes_back() -> None:
    board = Board()
    slots = [board.begin("token", str(number)) for number in range(SLOTS)]
    assert board.begin("token", "one too many") is None
    assert slots[0] is not None
    board.end(slots[0])
    assert board.begin("token", "another") == slots[0]
    assert len(list(board.begun())) == SLOTS


def test_who_has_not_beaten_in_time_is_late_and_who_has_not_begun_to_is_not() -> None:
    board = Board()
    assert not board.is_late
    board.beat(60_000)
    assert not board.is_late
    board.beat(1)
    wait_for(lambda: board.is_late, what="a millisecond to pass")
    assert board.rhythm_ms == 1


@pytest.mark.parametrize("stage", Stage)
def test_a_worker_has_ended_once_it_says_why(stage: Stage) -> None:
    assert stage.ended is (stage.name in {"DRAINED", "STOPPED", "USED_UP"})
