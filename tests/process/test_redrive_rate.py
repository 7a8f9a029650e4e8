"""A redrive task with a rate that several processes continue, one of which is killed."""

import os
import signal
from pathlib import Path

import pytest

from durableq import DurableQ, Requeue
from durableq.model.dead_letters import DeadLetterFilter, RedriveState
from durableq.model.flow.rate import default_burst
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.child import Nursery

DEAD_LETTERS = 14
#: The burst is 1, so two processes that do not share the rate are seen on a machine of any load.
RATE = 5
SENT_BACK = """
SELECT at_ms, message_id FROM durableq_history WHERE event = 'requeued' ORDER BY at_ms, id"""
#: The history has the time of the wall clock, and the rate is measured on the boot clock.
ROUNDING_MS = 2


@pytest.mark.parametrize("when", ["within", "after"])
def test_no_window_is_above_the_rate_and_each_dead_letter_is_sent_back_once(
    dq: DurableQ, db: Path, nursery: Nursery, when: str
) -> None:
    """One of two processes is killed, within a step or after it."""
    orders = dq.queue("orders")
    ids = orders.send_many(range(DEAD_LETTERS))
    for message in orders.receive(DEAD_LETTERS):
        message.reject("the bank is down")
    tasks = dq.store.require(Capability.REDRIVE)
    task = tasks.start_redrive(DeadLetterFilter(), Requeue("calm now"), rate=RATE)
    reading, writing = os.pipe()
    survivor = nursery.start("redrive", db, task.id, stdin=reading)
    killed = nursery.start("redrive", db, task.id, 3, when, stdin=reading)
    survivor.wait_line("READY")
    killed.wait_line("READY")
    os.close(writing)  # the end of their stdin: now they begin
    os.close(reading)
    assert killed.end() == -signal.SIGKILL
    assert survivor.process.poll() is None, "it was not killed half way"
    assert survivor.end() == 0
    done = tasks.redrive_task(task.id)
    assert (done.state, done.moved) == (RedriveState.DONE, DEAD_LETTERS)
    sent_back = plain.rows(db, SENT_BACK)
    assert sorted(message_id for _, message_id in sent_back) == sorted(map(int, ids))
    assert excess([at_ms for at_ms, _ in sent_back]) <= 0
    assert orders.info().counts.ready == DEAD_LETTERS
    plain.check_sound(db)


def excess(times_ms: list[int]) -> float:
    """Return the most messages that any window has beyond burst + rate x window."""
    return max(
        last + 1 - first - default_burst(RATE) - RATE * (until_ms - at_ms + ROUNDING_MS) / 1_000
        for first, at_ms in enumerate(times_ms)
        for last, until_ms in enumerate(times_ms)
        if last >= first
    )
