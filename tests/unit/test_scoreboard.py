"""The memory that a worker shares with its supervisor."""

from __future__ import annotations

import os

import pytest

from durableq.model.message import Receipt
from durableq.supervisor.scoreboard import SLOTS, Scoreboard, Stage, shared_memory
from tests.support import wait_for

NOW_NS = 5_000_000_000


def receipt(message_id: str, token: str = "token") -> Receipt:
    return Receipt("orders", message_id, token)


def test_the_supervisor_reads_a_scoreboard_that_its_worker_has_closed() -> None:
    memory = shared_memory()
    ours, theirs = Scoreboard(memory), Scoreboard(memory)
    os.close(memory)
    assert (ours.stage, ours.owner_id, list(ours.calls())) == (Stage.STARTING, 0, [])
    theirs.register(7)
    theirs.reach(Stage.READY)
    theirs.begin("token", "5", NOW_NS)
    theirs.close()
    assert (ours.stage, ours.owner_id) == (Stage.READY, 7)
    assert [(one.token, one.message_id) for one in ours.calls()] == [("token", "5")]


def test_a_call_is_recorded_from_its_start_until_the_message_is_settled() -> None:
    scoreboard = Scoreboard()
    slot = scoreboard.begin("token", "5", NOW_NS, timeout_ns=60_000)
    assert slot is not None
    (call,) = scoreboard.calls()
    assert (call.began_ns, call.deadline_ns) == (NOW_NS, NOW_NS + 60_000)
    assert not call.has_returned
    scoreboard.set_process_group(slot, 1234)
    assert [one.group for one in scoreboard.calls()] == [1234]
    scoreboard.mark_returned(slot)
    assert [one.has_returned for one in scoreboard.calls()] == [True]
    assert [one.group for one in scoreboard.calls()] == [0], (
        "the number may be another group's by now"
    )
    scoreboard.end(slot)
    assert list(scoreboard.calls()) == []


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
def test_a_call_is_matched_by_the_receipt_of_a_message_or_a_batch(
    noted: str, of: Receipt, covered: bool
) -> None:
    scoreboard = Scoreboard()
    scoreboard.begin("token", noted, NOW_NS)
    (call,) = scoreboard.calls()
    assert call.matches(of) is covered


def test_calls_beyond_the_slots_are_not_recorded_and_slots_are_reused() -> None:
    scoreboard = Scoreboard()
    slots = [scoreboard.begin("token", str(number), NOW_NS) for number in range(SLOTS)]
    assert scoreboard.begin("token", "one too many", NOW_NS) is None
    assert slots[0] is not None
    scoreboard.end(slots[0])
    assert scoreboard.begin("token", "another", NOW_NS) == slots[0]
    assert len(list(scoreboard.calls())) == SLOTS


def test_a_worker_whose_beat_is_overdue_is_late() -> None:
    scoreboard = Scoreboard()
    assert not scoreboard.is_late
    scoreboard.beat(60_000)
    assert not scoreboard.is_late
    scoreboard.beat(1)
    wait_for(lambda: scoreboard.is_late, what="a millisecond to pass")
    assert scoreboard.beat_interval_ms == 1


@pytest.mark.parametrize("stage", Stage)
def test_a_worker_has_ended_in_the_stages_after_ready(stage: Stage) -> None:
    assert stage.ended is (stage.name in {"DRAINED", "STOPPED", "USED_UP"})
