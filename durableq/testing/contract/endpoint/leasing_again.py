"""Leases that are taken up again after their end."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.decisions import Requeue
from durableq.model.errors import Conflict, InvalidInput
from durableq.model.message import Message, Outcome, Reason, Receipt
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    complete,
    decide,
    fail,
    needs,
    receipt,
    receive,
    send,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.ENDPOINT)
class LeaseAgainContract(StoreCase):
    """The receipt of the last receive holds after its lease, until the next receive."""

    def _again(self, store: FullStore, message: Message) -> Receipt | None:
        return store.lease_again(
            receipt(message), message.receive_count, message.recovery_count, 5_000
        )

    def _returned(self, store: FullStore, **draft_of: Any) -> Message:
        send(store, 1, **draft_of)
        [message] = receive(store)
        store.extend([receipt(message)], 0)
        return message

    @needs(Capability.INSPECT)
    def test_a_returned_message_is_leased_under_its_receipt(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message = self._returned(store)
        assert self._again(store, message) == receipt(message)
        assert store.message(message.id) == message._replace(receipt=None, lease_left_ms=5_000)
        clock.advance(4)
        assert receive(store) == []
        assert complete(store, receipt(message)) == [Outcome.DONE]
        assert self._again(store, message) is None

    @needs(Capability.INSPECT)
    def test_a_message_in_flight_stays_under_the_receipt_of_its_last_receive(
        self, store: FullStore
    ) -> None:
        first = self._returned(store)
        [second] = receive(store)
        assert self._again(store, first) == self._again(store, second) == receipt(second)
        assert store.message(first.id) == second._replace(receipt=None)

    def test_a_message_that_was_received_since_is_not_leased(self, store: FullStore) -> None:
        first = self._returned(store)
        [second] = receive(store)
        store.extend([receipt(second)], 0)
        assert self._again(store, first) is None
        assert self._again(store, second) == receipt(second)

    @needs(Capability.DEAD_LETTERS)
    def test_a_redriven_message_is_not_leased(self, store: FullStore) -> None:
        send(store, 1)
        [message] = receive(store)
        fail(store, receipt(message), reason=Reason.REJECTED)
        assert self._again(store, message) is None
        decide(store, Requeue())
        store.extend([receipt(one) for one in receive(store)], 0)
        assert self._again(store, message) is None

    @needs(Capability.CONTROL)
    def test_a_message_that_only_a_receive_can_lease_is_refused(self, store: FullStore) -> None:
        send(store, 0)
        [waiting] = receive(store)
        fail(store, receipt(waiting), retry_in_ms=60_000)
        keyed = self._returned(store, key="k")
        for message in (keyed, waiting):
            with pytest.raises(Conflict, match="only a receive"):
                self._again(store, message)
        store.purge(ORDERS)
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        grouped = self._returned(store, group="g")
        with pytest.raises(Conflict, match="only a receive"):
            self._again(store, grouped)

    def test_it_counts_as_in_flight(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_in_flight": 1})
        message = self._returned(store)
        assert self._again(store, message)
        send(store, 2)
        assert receive(store) == []
        complete(store, receipt(message))
        assert len(receive(store)) == 1

    def test_a_length_out_of_bounds_is_refused(self, store: FullStore) -> None:
        message = self._returned(store)
        with pytest.raises(InvalidInput, match="visibility timeout"):
            store.lease_again(receipt(message), 1, 0, 0)
