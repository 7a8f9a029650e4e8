"""The rate of a redrive task: no window of time has more, and no time is lost."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import random
from typing import Any

import pytest

from durableq.model.dead_letters import DeadLetterFilter, RedriveState, RedriveTask
from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict, InvalidInput, NotFound
from durableq.model.flow.rate import default_burst
from durableq.model.limits import MAX_RATE, MIN_RATE
from durableq.model.message import Failure, Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    counters_reconcile,
    drafts,
    kill,
    needs,
    receipt,
    receive,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

EVERY = DeadLetterFilter()

#: A step: the lease clock in ms, and the messages that it sent back.
Step = tuple[int, int]


def bury(store: FullStore, number: int) -> None:
    """Let so many messages die."""
    store.send(ORDERS, drafts(*range(number)))
    failure = Failure(Reason.REJECTED, "ValueError", "no")
    store.fail([(receipt(message), failure) for message in receive(store, number)])


def start(store: FullStore, number: int, rate: float | None) -> RedriveTask:
    """Start a task for so many dead letters."""
    bury(store, number)
    return store.start_redrive(EVERY, Requeue("calm now"), rate=rate)


def excess(steps: list[Step], rate: float) -> float:
    """Return the most messages that any window has beyond burst + rate x window."""
    return max(
        sum(moved for _, moved in steps[first : last + 1])
        - default_burst(rate)
        - rate * (steps[last][0] - at_ms) / 1_000
        for first, (at_ms, _) in enumerate(steps)
        for last in range(first, len(steps))
    )


@needs(Capability.REDRIVE)
class RedriveRateContract(StoreCase):
    """The rate of a redrive task."""

    def test_a_rate_is_stored_with_its_redrive_task(self, store: FullStore) -> None:
        task = start(store, 2, 0.5)
        assert (task.rate, task.wait_ms) == (0.5, 0)
        assert store.redrive_task(task.id) == task
        assert store.start_redrive(EVERY, Requeue()).rate is None

    def test_a_step_sends_back_as_many_as_the_rate_allows(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        task = store.continue_redrive(start(store, 12, 50).id, 100)
        assert (task.moved, task.state) == (5, RedriveState.RUNNING)
        assert 0 < task.wait_ms <= 41  # until half of the burst is there
        clock.advance(0.001)
        again = store.continue_redrive(task.id, 100)
        assert (again.moved, again.wait_ms) == (5, task.wait_ms - 1)
        assert again.updated_at_ms == task.updated_at_ms
        assert store.redrive_task(task.id).wait_ms == again.wait_ms
        clock.advance(again.wait_ms / 1_000)
        assert store.continue_redrive(task.id, 100).moved == 7

    @pytest.mark.parametrize("rate", [7, 30, 100, 400])
    @needs(Capability.INSPECT)
    def test_no_window_has_more_than_burst_and_rate_allow(
        self, store: FullStore, clock: FakeClock, rate: int
    ) -> None:
        rng = random.Random(rate)
        task, steps = start(store, 80, rate), [(clock.lease_ms(), 0)]
        while task.state is RedriveState.RUNNING:
            before = task.moved
            task = store.continue_redrive(task.id, rng.randint(1, 20))
            steps.append((clock.lease_ms(), task.moved - before))
            clock.advance(rng.choice([0, 0.001, 0.003, 0.02, 0.1]))
        assert task.moved == sum(moved for _, moved in steps) == 80
        assert excess(steps, rate) <= 0
        assert counters_reconcile(store)

    @pytest.mark.parametrize("rate", [10, 40, 1_000])
    def test_one_that_waits_as_told_has_the_whole_rate(
        self, store: FullStore, clock: FakeClock, rate: int
    ) -> None:
        task, began_ms = start(store, 100, rate), clock.lease_ms()
        while task.state is RedriveState.RUNNING:
            task = store.continue_redrive(task.id, 100)
            clock.advance(task.wait_ms / 1_000)
        ideal_ms = (100 - default_burst(rate)) / rate * 1_000
        took_ms = clock.lease_ms() - began_ms
        assert ideal_ms <= took_ms <= ideal_ms * 1.02 + 3

    def test_the_last_message_ends_a_redrive_without_a_wait(self, store: FullStore) -> None:
        task = store.continue_redrive(start(store, 1, MIN_RATE).id, 10)
        assert (task.state, task.moved, task.wait_ms) == (RedriveState.DONE, 1, 0)
        empty = store.start_redrive(EVERY, Requeue(), rate=MIN_RATE)
        assert store.continue_redrive(empty.id, 10).state is RedriveState.DONE

    def test_dead_letters_that_are_skipped_are_not_counted_against_the_rate(
        self, store: FullStore
    ) -> None:
        kill(store)
        take(store, DEAD)
        task = start(store, 1, MIN_RATE)
        steps = [store.continue_redrive(task.id, 10) for _ in range(2)]
        assert [(step.moved, step.skipped) for step in steps] == [(0, 1), (1, 1)]
        assert steps[-1].state is RedriveState.DONE

    @jumps
    def test_a_jump_of_the_wall_clock_changes_no_wait(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        task = store.continue_redrive(start(store, 3, 1).id, 10)
        set_ahead(clock, jump_ms)
        again = store.continue_redrive(task.id, 10)
        assert (again.moved, again.wait_ms) == (1, task.wait_ms)

    def test_a_rate_can_be_changed_while_its_redrive_runs(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        task = store.continue_redrive(start(store, 50, 0.01).id, 100)
        assert (task.moved, task.wait_ms) == (1, 100_001)
        faster = store.set_redrive_rate(task.id, 100)
        assert faster.rate == 100
        assert faster.wait_ms <= 51  # the debt of the slow rate is cut to a burst
        clock.advance(faster.wait_ms / 1_000)
        task = store.continue_redrive(task.id, 100)
        assert task.moved == 6
        slower = store.set_redrive_rate(task.id, 0.1)
        clock.advance(slower.wait_ms / 1_000)
        assert store.continue_redrive(task.id, 100).moved == 7
        clock.advance(9.9)
        assert store.continue_redrive(task.id, 100).moved == 7
        free = store.set_redrive_rate(task.id, None)
        assert (free.rate, free.wait_ms) == (None, 0)
        assert store.continue_redrive(task.id, 100).moved == 50

    def test_the_rate_of_a_redrive_that_has_ended_cannot_be_changed(self, store: FullStore) -> None:
        done = store.continue_redrive(start(store, 1, 5).id, 10)
        with pytest.raises(Conflict, match=r"has ended \(done\), so its rate"):
            store.set_redrive_rate(done.id, 50)
        cancelled = store.cancel_redrive(store.start_redrive(EVERY, Requeue()).id)
        with pytest.raises(Conflict, match="cancelled"):
            store.set_redrive_rate(cancelled.id, None)
        with pytest.raises(NotFound):
            store.set_redrive_rate("77", 50)
        assert store.redrive_task(done.id) == done

    @pytest.mark.parametrize(
        "rate", [0, -1, float("nan"), float("inf"), MAX_RATE + 1, MIN_RATE / 2, True, "5"]
    )
    def test_a_rate_that_is_no_rate_is_refused(self, store: FullStore, rate: Any) -> None:
        task = start(store, 2, 5)
        sentence = "The rate of a redrive is a number of messages a second from 0.000001 to 1000000"
        with pytest.raises(InvalidInput, match=sentence):
            store.start_redrive(EVERY, Requeue(), rate=rate)
        with pytest.raises(InvalidInput, match=sentence):
            store.set_redrive_rate(task.id, rate)
        assert store.redrive_tasks() == [task]

    def test_a_discard_has_no_rate(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput, match="leave out the rate 5"):
            store.start_redrive(EVERY, Discard("x"), rate=5)
        task = store.start_redrive(EVERY, Discard("x"))
        with pytest.raises(InvalidInput, match="leave out the rate 5"):
            store.set_redrive_rate(task.id, 5)
