"""The removal of messages over their retention, which counts from when they became due."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.message import Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    counters_reconcile,
    fail,
    needs,
    receive,
    send,
    story,
    take,
)
from durableq.testing.contract.queueing.retention import (
    LEASE_MS,
    RETENTION_SECONDS,
    WAIT_SECONDS,
    Wait,
    ways,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.MAINTENANCE)
class PrunedRetentionContract(StoreCase):
    """The end of a message's retention, and of its wait before that."""

    @needs(Capability.DEAD_LETTERS)
    @ways
    def test_a_wait_longer_than_the_retention_ends_in_a_delivery(
        self, store: FullStore, clock: FakeClock, wait: Wait
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1_000 * RETENTION_SECONDS})
        wait(store)
        clock.advance(WAIT_SECONDS - 0.001)
        assert (store.prune().expired, store.maintain().expired) == (0, 0)
        assert receive(store) == []
        clock.advance(0.001)
        assert (store.prune().expired, bodies(receive(store))) == (0, ['"a"'])

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @ways
    @pytest.mark.parametrize("looked", [False, True], ids=["unseen", "made ready before"])
    def test_retention_begins_when_a_message_is_due(
        self, store: FullStore, clock: FakeClock, wait: Wait, looked: bool
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1_000 * RETENTION_SECONDS})
        wait(store)
        clock.advance(WAIT_SECONDS)
        if looked:
            store.release([take(store)])
        clock.advance(RETENTION_SECONDS - 0.001)
        assert store.prune().expired == 0
        clock.advance(0.001)
        assert store.prune().expired == 1
        assert store.queue(ORDERS).counts.present == 0
        assert counters_reconcile(store)

    def test_a_deferred_message_is_due_when_its_key_is_settled(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1_000 * RETENTION_SECONDS})
        send(store, key="k")
        lease = take(store, visibility_ms=LEASE_MS)
        message_id = send(store, key="k")
        assert store.receive(ORDERS, 1).set_aside == 1
        clock.advance(RETENTION_SECONDS + 1)
        assert store.prune().expired == 0
        fail(store, lease, reason=Reason.REJECTED)
        clock.advance(RETENTION_SECONDS - 1)
        assert [message.id for message in receive(store)] == [message_id]

    @needs(Capability.DEAD_LETTERS)
    def test_a_dead_letter_counts_from_its_death(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(DEAD, {"retention_ms": 1_000 * RETENTION_SECONDS})
        message_id = send(store, delay=WAIT_SECONDS)
        clock.advance(WAIT_SECONDS)
        lease = take(store)
        clock.advance(1)
        fail(store, lease, reason=Reason.REJECTED)
        clock.advance(RETENTION_SECONDS)
        assert store.prune().expired == 1
        assert story(store, message_id)[-1] == ("expired", "expired")
