"""Messages that were sent before a change of priority aging are ranked again, in slices."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
from durableq.model.message import draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

#: More than the rows of one slice.
MANY = 5_000


def maintain(store: FullStore, clock: FakeClock) -> int:
    """Let maintenance run until it has nothing to do soon; return the number of slices."""
    clock.advance(MAINTENANCE_EVERY_MS / 1_000)
    slices = 0
    while store.maintain().due:
        slices += 1
        clock.advance(MAINTENANCE_AGAIN_MS / 1_000)
    return slices


@needs(Capability.MAINTENANCE)
class RankedAgainContract(StoreCase):
    """The order of receiving after a change of settings."""

    def test_messages_of_before_are_ranked_by_aging_and_by_priority_again(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, "old")
        leased = take(store)
        clock.advance(21)
        send(store, "high", priority=2)
        store.declare_queue(ORDERS, {"priority_aging_ms": 10_000})
        maintain(store, clock)
        store.release([leased])
        found = receive(store)
        assert bodies(found) == ['"old"', '"high"']
        store.declare_queue(ORDERS, {"priority_aging_ms": 0})
        maintain(store, clock)
        store.release([message.receipt for message in found if message.receipt])
        assert bodies(receive(store)) == ['"high"', '"old"']

    @needs(Capability.INSPECT)
    def test_a_long_queue_is_ranked_in_several_slices_and_loses_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.maintain()
        store.send(ORDERS, [draft(number, priority=number % 3) for number in range(MANY)])
        clock.advance(60)
        store.declare_queue(ORDERS, {"priority_aging_ms": 1_000})
        assert maintain(store, clock) > 2
        assert store.queue(ORDERS).counts.ready == MANY
        send(store, "later", priority=3)
        priorities = [message.priority for message in receive(store, 1_000)]
        assert priorities == [2] * 1_000, "in the order of their ranks: levels are a second apart"
        rest = [len(receive(store, 1_000)) for _ in range(1, MANY // 1_000)]
        assert rest == [1_000] * len(rest)
        assert bodies(receive(store)) == ['"later"'], "the others waited a minute longer"
