"""The removal of messages whose `expires_in` has ended, where no receive meets them."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.message import Outcome, draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    needs,
    send,
    story,
    take,
)
from durableq.testing.contract.queueing.expiry import LONG_MS, SECONDS, Wait, waits
from durableq.testing.fakes import FakeClock


@needs(Capability.MAINTENANCE)
class PrunedExpiryContract(StoreCase):
    """The end of messages that no receive meets."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @waits
    @pytest.mark.parametrize("is_pruned", [True, False], ids=["prune", "maintain"])
    @pytest.mark.parametrize("on_expiry", [0, 1], ids=["drop", "dead"])
    def test_no_message_is_stranded_in_a_paused_queue(
        self, store: FullStore, clock: FakeClock, wait: Wait, is_pruned: bool, on_expiry: int
    ) -> None:
        message_id = wait(store)
        store.declare_queue(ORDERS, {"paused": 1, "on_expiry": on_expiry})
        store.maintain()
        clock.advance(SECONDS - 0.001)
        assert store.prune().expired == 0
        clock.advance(0.001)
        assert (store.prune() if is_pruned else store.maintain()).expired == 1
        assert store.queue(DEAD).counts.ready == on_expiry
        reason = "message_expired"
        assert story(store, message_id)[-1] == ("buried" if on_expiry else "expired", reason)
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_messages_in_flight_are_left_to_their_receivers(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        send(store, expires_in=SECONDS)
        clock.advance(SECONDS)
        assert store.prune(limit=1).expired == 1
        assert complete(store, lease) == [Outcome.DONE]

    @needs(Capability.INSPECT)
    def test_a_slice_ends_a_bounded_number_of_messages_and_the_next_ones_the_rest(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, [draft(number, expires_in=SECONDS) for number in range(25)])
        store.maintain()
        clock.advance(SECONDS)
        ended = []
        while store.queue(ORDERS).counts.present:
            ended.append(store.maintain(limit=10).expired)
            clock.advance(0.25)
        assert ended == [10, 10, 5]
