"""Priority aging: a level of priority is worth so much waiting."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from durableq.model.decisions import Requeue
from durableq.model.message import Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    decide,
    fail,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

#: A level of priority, in seconds.
LEVEL = 10


class AgingContract(StoreCase):
    """The order of receiving in a queue with `priority_aging`."""

    def test_the_lowest_priority_is_out_within_levels_times_aging(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        """A steady stream of the highest priority takes each receive until then."""
        levels = 3
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        send(store, "high", priority=levels)
        send(store, "low")
        waited = 0
        while True:
            [message] = receive(store, 1)
            if message.body == '"low"':
                break
            assert message.receipt is not None
            complete(store, message.receipt)
            clock.advance(1)
            waited += 1
            assert waited <= levels * LEVEL
            send(store, "high", priority=levels)
        assert waited == levels * LEVEL

    def test_without_aging_a_higher_priority_always_goes_first(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, "low")
        clock.advance(86_400)
        send(store, "high", priority=1)
        assert bodies(receive(store)) == ['"high"', '"low"']

    def test_messages_of_one_priority_are_in_order(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        for number in range(5):
            send(store, number)
            clock.advance(number % 2)
        assert bodies(receive(store)) == ["0", "1", "2", "3", "4"]

    def test_the_wait_counts_from_when_a_message_is_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        send(store, "delayed", delay=2 * LEVEL)
        clock.advance(LEVEL + 1)
        send(store, "high", priority=1)
        clock.advance(LEVEL)
        assert bodies(receive(store)) == ['"high"', '"delayed"']

    def test_a_retried_message_keeps_its_rank(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        send(store, "retried")
        fail(store, take(store), retry_in_ms=2_000 * LEVEL)
        clock.advance(LEVEL + 1)
        send(store, "high", priority=1)
        clock.advance(LEVEL)
        assert bodies(receive(store)) == ['"retried"', '"high"']

    @needs(Capability.DEAD_LETTERS)
    def test_a_redriven_message_waits_from_then(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        send(store, "dead")
        fail(store, take(store), reason=Reason.REJECTED)
        clock.advance(1)
        send(store, "other")
        clock.advance(1)
        decide(store, Requeue())
        assert bodies(receive(store)) == ['"other"', '"dead"']

    @needs(Capability.INSPECT)
    def test_the_oldest_message_is_shown_at_any_rank(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000 * LEVEL})
        since_ms = clock.wall_ms()
        send(store, "low", priority=-5)
        clock.advance(1)
        send(store, "high", priority=5)
        assert store.queue(ORDERS).oldest_ready_ms == since_ms
