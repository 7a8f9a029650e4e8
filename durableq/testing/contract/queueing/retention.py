"""Retention, which counts from when a message becomes due, however it came to wait."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from collections.abc import Callable

import pytest

from durableq.model.decisions import Requeue, Retry
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    decide,
    fail,
    kill,
    look,
    needs,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

RETENTION_SECONDS = 60

WAIT_SECONDS = 100

LEASE_MS = 1_000 * WAIT_SECONDS

Wait = Callable[[FullStore], object]


def delayed(store: FullStore) -> object:
    """Send with a delay."""
    return send(store, delay=WAIT_SECONDS)


def delayed_by_its_queue(store: FullStore) -> object:
    """Send to a queue that delays."""
    store.declare_queue(ORDERS, {"delay_ms": LEASE_MS})
    return send(store)


def asked_later(store: FullStore) -> object:
    """Fail with a wait, as RetryLater does."""
    send(store)
    return fail(store, take(store), retry_in_ms=LEASE_MS)


def backed_off(store: FullStore) -> object:
    """Fail with the backoff of the queue; its random part is one half."""
    store.declare_queue(ORDERS, {"backoff_base_ms": 2 * LEASE_MS, "backoff_max_ms": 2 * LEASE_MS})
    send(store)
    return fail(store, take(store))


def requeued(store: FullStore) -> object:
    """Send a dead letter back with a delay."""
    kill(store)
    return decide(store, Requeue(delay=WAIT_SECONDS))


def retried(store: FullStore) -> object:
    """Send a dead letter back with another body and a delay."""
    kill(store)
    return decide(store, Retry("a", delay=WAIT_SECONDS))


WAITS = [delayed, delayed_by_its_queue, asked_later, backed_off, requeued, retried]

ways = pytest.mark.parametrize("wait", WAITS, ids=[wait.__name__ for wait in WAITS])


class RetentionContract(StoreCase):
    """Deliveries before and after the end of a message's retention."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_expired_message_is_not_delivered(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 60_000})
        old = send(store, "old")
        clock.advance(59.999)
        send(store, "new")
        clock.advance(0.001)
        received = store.receive(ORDERS, 10)
        assert bodies(received.messages) == ['"new"']
        assert received.set_aside == 1
        assert not received.idle
        assert store.message(old) is None
        assert story(store, old) == [("expired", "expired")]
        assert store.queue(ORDERS).counters.expired == 1

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @ways
    def test_a_message_is_not_delivered_after_its_wait_and_its_retention(
        self, store: FullStore, clock: FakeClock, wait: Wait
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1_000 * RETENTION_SECONDS})
        wait(store)
        clock.advance(WAIT_SECONDS + RETENTION_SECONDS)
        assert receive(store) == []
        assert store.queue(ORDERS).counters.expired == 1

    def test_the_end_of_a_lease_does_not_bring_the_wait_back(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1_000 * RETENTION_SECONDS})
        message_id = send(store, delay=WAIT_SECONDS)
        clock.advance(WAIT_SECONDS)
        take(store, visibility_ms=1)
        clock.advance(0.001)
        assert [message.id for message in receive(store)] == [message_id]

    @needs(Capability.INSPECT)
    def test_a_message_that_is_due_shows_no_delay(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store, delay=1)
        clock.advance(1)
        lease = take(store)
        assert look(store, message_id).delayed_until_ms == 0
        store.release([lease])
        assert look(store, message_id).delayed_until_ms == 0
        assert store.ready_in_ms([ORDERS]) == 0

    def test_a_duplicate_delayed_beyond_the_life_of_the_record_is_delivered(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 1_000 * RETENTION_SECONDS})
        send(store, key="k")
        complete(store, take(store))
        send(store, key="k", delay=WAIT_SECONDS)
        clock.advance(WAIT_SECONDS)
        assert len(receive(store)) == 1
