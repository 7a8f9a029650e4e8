"""Messages that are counted before they are received, for batches in a window."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import UnknownQueue
from durableq.model.message import Gather, Ready
from durableq.store.core import Capability, Receive
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    drafts,
    fail,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


class GatheringContract(StoreCase):
    """`count_ready`, and receives that gather."""

    def test_an_empty_queue_has_nothing_to_gather(self, store: FullStore) -> None:
        assert store.count_ready(ORDERS, 10) == Ready(0, 0)
        with pytest.raises(UnknownQueue):
            store.count_ready("none", 10)

    def test_ready_messages_are_counted_to_the_limit(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        clock.advance(2)
        store.send(ORDERS, drafts(1, 2))
        assert store.count_ready(ORDERS, 10) == Ready(3, 2_000)
        assert store.count_ready(ORDERS, 2) == Ready(2, 2_000)
        assert len(receive(store)) == 3, "counting leases nothing"

    def test_the_wait_of_a_delayed_message_begins_when_it_is_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, delay=5)
        clock.advance(4.999)
        assert store.count_ready(ORDERS, 10) == Ready(0, 0)
        clock.advance(1.001)
        assert store.count_ready(ORDERS, 10) == Ready(1, 1_000)

    @needs(Capability.INSPECT)
    def test_a_message_whose_lease_has_ended_counts(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        take(store, visibility_ms=1_000)
        clock.advance(0.999)
        assert store.count_ready(ORDERS, 10) == Ready(0, 0)
        clock.advance(0.501)
        assert store.count_ready(ORDERS, 10) == Ready(1, 500)

    def test_a_retry_counts_when_it_is_due(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        fail(store, take(store), retry_in_ms=3_000)
        clock.advance(3)
        assert store.count_ready(ORDERS, 10) == Ready(1, 0)

    def test_messages_that_a_batch_leaves_are_gathered_anew(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        gather = Gather(2, 5_000)
        assert len(store.receive(ORDERS, 2, gather=gather).messages) == 2
        left = store.receive(ORDERS, 2, gather=gather)
        assert (left.messages, left.idle, left.wait_ms) == ([], True, 5_000)
        clock.advance(4.999)
        (left,) = store.together([Receive(ORDERS, 2, gather=gather)])  # type: ignore[assignment]
        assert (left.messages, left.wait_ms) == ([], 1)
        clock.advance(0.001)
        assert len(store.receive(ORDERS, 2, gather=gather).messages) == 1
        nothing = store.receive(ORDERS, 2, gather=gather)
        assert nothing.messages == []

    def test_a_window_is_at_most_a_third_of_the_lease(self, store: FullStore) -> None:
        send(store)
        gather = Gather(2, 5_000)
        asked = store.receive(ORDERS, 2, visibility_ms=3_000, gather=gather)
        assert (asked.messages, asked.wait_ms) == ([], 1_000)
        waited = store.receive(ORDERS, 2, visibility_ms=3_000, wait_ms=20, gather=gather)
        assert (waited.messages, waited.wait_ms) == ([], 1_000)
