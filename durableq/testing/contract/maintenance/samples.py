"""Samples: how a queue stood, once a minute, for charts."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import UnknownQueue
from durableq.model.info import Sample
from durableq.model.limits import SAMPLE_EVERY_MS, SAMPLES_KEPT_MS
from durableq.model.message import Reason
from durableq.model.queues import Counts
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    complete,
    drafts,
    fail,
    needs,
    send,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

EVERY_SECONDS = SAMPLE_EVERY_MS / 1000


def pass_time(store: FullStore, clock: FakeClock, times: int = 1) -> None:
    """Let maintenance run after each minute."""
    for _ in range(times):
        clock.advance(EVERY_SECONDS)
        assert store.maintain().due


def ages(samples: list[Sample], clock: FakeClock) -> list[float]:
    """Return the ages of samples in the time between two."""
    return [(clock.wall_ms() - sample.at_ms) / SAMPLE_EVERY_MS for sample in samples]


@needs(Capability.MAINTENANCE, Capability.INSPECT)
class SamplesContract(StoreCase):
    """When samples are taken, what they show, and when they go."""

    def test_a_sample_has_the_totals_and_the_messages_of_each_state(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        send(store, 1)
        complete(store, take(store))
        send(store, 2, delay=3600)
        send(store, 3)
        take(store, visibility_ms=3_600_000)
        store.send(ORDERS, drafts(4, 5, 6))
        send(store, 7, group="g")
        send(store, 8, group="g")
        pass_time(store, clock)
        [sample] = store.samples(ORDERS, 0)
        assert sample.at_ms == clock.wall_ms()
        assert sample.counts == Counts(ready=4, delayed=1, in_flight=1, blocked=1)
        info = store.queue(ORDERS)
        assert (sample.counters, sample.counts) == (info.counters, info.counts)
        assert sample.counters.sent == 8
        assert sample.counters.completed == 1

    def test_a_dead_letter_queue_has_samples_of_its_own(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        pass_time(store, clock)
        send(store)
        fail(store, take(store), reason=Reason.REJECTED)
        pass_time(store, clock)
        assert [sample.counts.ready for sample in store.samples(DEAD, 0)] == [0, 1]
        assert [sample.counters.moved_out for sample in store.samples(ORDERS, 0)] == [0, 1]

    def test_there_is_at_most_one_sample_a_minute(self, store: FullStore, clock: FakeClock) -> None:
        for number in range(6):
            send(store, number)
            clock.advance(EVERY_SECONDS / 2)
            assert store.maintain().due
        assert ages(store.samples(ORDERS, 0), clock) == [2.5, 1.5, 0.5]

    def test_a_queue_that_has_not_changed_gets_no_sample(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        pass_time(store, clock, 5)
        assert ages(store.samples(ORDERS, 0), clock) == [4]
        assert ages(store.samples(DEAD, 0), clock) == [4]

    def test_a_change_is_shown_between_the_last_two_looks(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        pass_time(store, clock, 5)
        send(store)
        pass_time(store, clock)
        samples = store.samples(ORDERS, 0)
        assert ages(samples, clock) == [5, 1, 0]
        assert [sample.counters.sent for sample in samples] == [0, 0, 1]

    def test_the_changes_of_a_pause_of_maintenance_are_between_two_samples(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        pass_time(store, clock)
        store.send(ORDERS, drafts(*range(5)))
        clock.advance(10 * EVERY_SECONDS)
        store.maintain()
        samples = store.samples(ORDERS, 0)
        assert ages(samples, clock) == [10, 0]
        assert [sample.counters.sent for sample in samples] == [0, 5]

    def test_the_first_sample_is_the_last_one_from_before(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        for number in range(4):
            send(store, number)
            pass_time(store, clock)
        since_ms = clock.wall_ms() - SAMPLE_EVERY_MS
        assert ages(store.samples(ORDERS, since_ms), clock) == [1, 0]
        assert ages(store.samples(ORDERS, since_ms - 1), clock) == [2, 1, 0]
        assert ages(store.samples(ORDERS, clock.wall_ms() + 1), clock) == [0]

    def test_old_samples_are_removed_but_the_last(self, store: FullStore, clock: FakeClock) -> None:
        for number in range(3):
            send(store, number)
            pass_time(store, clock)
        clock.advance(SAMPLES_KEPT_MS / 1000 - EVERY_SECONDS - 0.001)
        store.maintain()
        assert [sample.counters.sent for sample in store.samples(ORDERS, 0)] == [1, 2, 3]
        pass_time(store, clock)
        assert [sample.counters.sent for sample in store.samples(ORDERS, 0)] == [2, 3]
        pass_time(store, clock)
        assert [sample.counters.sent for sample in store.samples(ORDERS, 0)] == [3]
        pass_time(store, clock, 3)
        assert [sample.counters.sent for sample in store.samples(ORDERS, 0)] == [3]

    def test_of_many_old_samples_more_are_removed_than_are_taken(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        for number in range(15):
            send(store, number)
            pass_time(store, clock)
        clock.advance(SAMPLES_KEPT_MS / 1000)
        left = []
        for number in range(3):
            send(store, number)
            pass_time(store, clock)
            left.append(len(store.samples(ORDERS, 0)))
        assert left == [6, 3, 4]

    @needs(Capability.CONTROL)
    def test_the_samples_of_a_queue_go_with_it(self, store: FullStore, clock: FakeClock) -> None:
        pass_time(store, clock)
        store.delete_queue(ORDERS)
        with pytest.raises(UnknownQueue):
            store.samples(ORDERS, 0)
        store.declare_queue(ORDERS, {})
        assert store.samples(ORDERS, 0) == []

    @jumps
    def test_samples_have_the_dates_of_the_wall_clock_as_it_is_now(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        pass_time(store, clock)
        send(store)
        set_ahead(clock, jump_ms)
        pass_time(store, clock)
        assert ages(store.samples(ORDERS, 0), clock) == [1, 0]
        assert ages(store.samples(ORDERS, clock.wall_ms()), clock) == [0]
