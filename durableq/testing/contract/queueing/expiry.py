"""Expiry: a message that has not succeeded in time is dropped, or dead."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from collections.abc import Callable

import pytest

from durableq.model.decisions import Requeue
from durableq.model.errors import InvalidInput
from durableq.model.message import Outcome, Reason, Receipt, Refusal, draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    decide,
    fail,
    look,
    needs,
    receive,
    send,
    story,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

SECONDS = 60

#: Leases that outlast the messages.
LONG_MS = 10 * 1_000 * SECONDS

Wait = Callable[[FullStore], str]
Settle = Callable[[FullStore, FakeClock, Receipt], object]


def ready(store: FullStore) -> str:
    """Send a message that expires."""
    return send(store, expires_in=SECONDS)


def delayed(store: FullStore) -> str:
    """Send with a delay that ends just before the message expires."""
    return send(store, expires_in=SECONDS, delay=SECONDS - 0.001)


def waiting_for_its_retry(store: FullStore) -> str:
    """Fail with a wait that is longer than the message lives."""
    message_id = send(store, expires_in=SECONDS)
    assert fail(store, take(store), retry_in_ms=LONG_MS) is Outcome.RETRY
    return message_id


def behind_its_key(store: FullStore) -> str:
    """Send behind a message that has the key in progress."""
    send(store, "first", key="k")
    take(store, visibility_ms=LONG_MS)
    message_id = send(store, key="k", expires_in=SECONDS)
    assert store.receive(ORDERS, 1).set_aside == 1
    return message_id


WAITS = [ready, delayed, waiting_for_its_retry, behind_its_key]
waits = pytest.mark.parametrize("wait", WAITS, ids=[wait.__name__ for wait in WAITS])


def failed(store: FullStore, clock: FakeClock, lease: Receipt) -> None:
    """Fail, with receives left."""
    assert fail(store, lease) is Outcome.EXPIRED


def released(store: FullStore, clock: FakeClock, lease: Receipt) -> None:
    """Release."""
    assert store.release([lease]) == [Outcome.EXPIRED]


def lease_ended(store: FullStore, clock: FakeClock, lease: Receipt) -> None:
    """Let the lease end."""
    clock.advance(LONG_MS / 1_000)
    assert receive(store) == []


ENDS = [failed, released, lease_ended]
ends = pytest.mark.parametrize("end", ENDS, ids=[end.__name__ for end in ENDS])


class ExpiryContract(StoreCase):
    """The lives of messages with `expires_in`."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @waits
    def test_no_receive_returns_a_message_that_has_expired(
        self, store: FullStore, clock: FakeClock, wait: Wait
    ) -> None:
        message_id = wait(store)
        clock.advance(SECONDS)
        assert store.ready_in_ms([ORDERS]) == 0, "a receive that waits would not meet it"
        received = store.receive(ORDERS, 10)
        assert (received.messages, received.set_aside) == ([], 1)
        assert store.message(message_id) is None
        assert story(store, message_id)[-1] == ("expired", "message_expired")
        assert store.queue(ORDERS).counters.expired == 1
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @waits
    def test_a_queue_may_move_expired_messages_to_its_dead_letter_queue(
        self, store: FullStore, clock: FakeClock, wait: Wait
    ) -> None:
        store.declare_queue(ORDERS, {"on_expiry": 1})
        message_id = wait(store)
        clock.advance(SECONDS)
        assert receive(store) == []
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert dead_letter.reason is Reason.MESSAGE_EXPIRED
        assert story(store, message_id)[-1] == ("buried", "message_expired")
        assert store.queue(ORDERS).counters.expired == 0
        clock.advance(10 * SECONDS)
        assert len(receive(store, queue=DEAD)) == 1, "a dead letter does not expire"
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_message_is_delivered_until_it_expires(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, expires_in=SECONDS)
        assert look(store, message_id).expires_at_ms == clock.wall_ms() + 1_000 * SECONDS
        clock.advance(SECONDS - 0.001)
        [message] = receive(store)
        assert message.expires_at_ms == clock.wall_ms() + 1

    def test_a_queue_gives_its_messages_an_expiry_unless_the_sender_does(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, "before")
        store.declare_queue(ORDERS, {"expires_in_ms": 1_000 * SECONDS})
        send(store, "short", expires_in=1)
        send(store, "queue")
        store.declare_queue(ORDERS, {"expires_in_ms": 0})
        send(store, "none")
        clock.advance(1)
        left = receive(store)
        assert bodies(left) == ['"before"', '"queue"', '"none"']
        store.release([message.receipt for message in left if message.receipt])
        clock.advance(SECONDS - 1)
        assert bodies(receive(store)) == ['"before"', '"none"']

    @needs(Capability.INSPECT)
    def test_a_completion_after_the_expiry_wins(self, store: FullStore, clock: FakeClock) -> None:
        send(store, expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        clock.advance(2 * SECONDS)
        assert store.extend([lease], LONG_MS) == [Outcome.DONE], "the handler is not interrupted"
        assert complete(store, lease) == [Outcome.DONE]
        counters = store.queue(ORDERS).counters
        assert (counters.completed, counters.expired) == (1, 0)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @ends
    def test_a_message_expires_instead_of_another_receive(
        self, store: FullStore, clock: FakeClock, end: Settle
    ) -> None:
        message_id = send(store, expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        clock.advance(SECONDS)
        end(store, clock, lease)
        assert story(store, message_id)[-1] == ("expired", "message_expired")
        assert store.queue(ORDERS).counters.expired == 1
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS)
    @ends
    def test_a_message_dies_instead_of_another_receive_where_the_queue_says_so(
        self, store: FullStore, clock: FakeClock, end: Settle
    ) -> None:
        store.declare_queue(ORDERS, {"on_expiry": 1})
        message_id = send(store, expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        clock.advance(SECONDS)
        end(store, clock, lease)
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert dead_letter.reason is Reason.MESSAGE_EXPIRED

    @needs(Capability.DEAD_LETTERS)
    def test_the_last_failure_of_an_expired_message_is_the_reason_of_its_death(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        clock.advance(SECONDS)
        assert fail(store, lease, reason=Reason.REJECTED) is Outcome.BURIED
        assert story(store, message_id)[-1] == ("buried", "rejected")

    @ends
    def test_an_expired_message_frees_those_behind_its_key(
        self, store: FullStore, clock: FakeClock, end: Settle
    ) -> None:
        send(store, "first", key="k", expires_in=SECONDS)
        lease = take(store, visibility_ms=LONG_MS)
        send(store, "second", key="k")
        assert receive(store) == []
        clock.advance(SECONDS)
        if end is lease_ended:
            clock.advance(LONG_MS / 1_000)
        else:
            end(store, clock, lease)
        assert bodies(receive(store)) == ['"second"']

    @needs(Capability.DEAD_LETTERS)
    def test_an_expired_message_ends_before_its_key_is_looked_at(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, key="k")
        complete(store, take(store))
        message_id = send(store, key="k", expires_in=SECONDS)
        clock.advance(SECONDS)
        received = store.receive(ORDERS, 1)
        assert (received.duplicates, received.set_aside) == ([], 1)
        assert story(store, message_id) == [("expired", "message_expired")]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_redriven_message_has_the_expiry_of_the_queue_from_when_it_is_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, expires_in=SECONDS)
        fail(store, take(store), reason=Reason.REJECTED)
        assert look(store, message_id).expires_at_ms is None
        clock.advance(2 * SECONDS)
        decide(store, Requeue())
        assert look(store, message_id).expires_at_ms is None, "its sender's time is over"
        fail(store, take(store), reason=Reason.REJECTED)
        store.declare_queue(ORDERS, {"expires_in_ms": 1_000 * SECONDS})
        decide(store, Requeue(delay=2 * SECONDS))
        assert look(store, message_id).expires_at_ms == clock.wall_ms() + 3_000 * SECONDS

    @pytest.mark.parametrize("settings", [{}, {"delay_ms": 5_000}, {"expires_in_ms": 5_000}])
    def test_a_message_that_expires_before_it_is_due_is_refused(
        self, store: FullStore, settings: dict[str, int]
    ) -> None:
        store.declare_queue(ORDERS, settings)
        delay = None if "delay_ms" in settings else 5
        expires_in = None if "expires_in_ms" in settings else 5
        with pytest.raises(InvalidInput, match="delay of 5 s and an expires_in of 5 s"):
            store.send(ORDERS, [draft("a"), draft("b", delay=delay, expires_in=expires_in)])
        assert receive(store) == []

    def test_settings_by_which_each_message_expires_before_it_is_due_are_refused(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"delay_ms": 5_000})
        with pytest.raises(InvalidInput, match="delay of 5 s and an expires_in of 5 s"):
            store.declare_queue(ORDERS, {"expires_in_ms": 5_000})

    def test_a_dead_letter_queue_has_no_expiry(self, store: FullStore) -> None:
        for change in ({"expires_in_ms": 1_000}, {"on_expiry": 1}, {"priority_aging_ms": 1_000}):
            with pytest.raises(InvalidInput, match="is for sends"):
                store.declare_queue(DEAD, change)
        store.declare_queue(DEAD, {"expires_in_ms": 0, "retention_ms": 1_000})

    @needs(Capability.CONTROL)
    def test_a_message_cannot_be_rescheduled_beyond_its_expiry(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, expires_in=SECONDS)
        late_ms = 1_000 * SECONDS
        assert store.reschedule([message_id], delay_ms=late_ms) == [Refusal.TOO_LATE]
        assert store.reschedule([message_id], delay_ms=late_ms - 1) == [None]
        clock.advance(SECONDS)
        assert store.reschedule([message_id]) == [Refusal.TOO_LATE]
        assert store.cancel([message_id]) == [None]

    @jumps
    def test_a_jump_of_the_wall_clock_expires_no_message(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        send(store, expires_in=SECONDS)
        set_ahead(clock, jump_ms)
        clock.advance(SECONDS - 1)
        lease = take(store)
        set_ahead(clock, -jump_ms)
        assert store.release([lease]) == [Outcome.DONE]
        clock.advance(1)
        assert receive(store) == []
