"""Receives that are counted, and those that are one too many."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_RECEIVES
from durableq.model.message import Outcome, Reason, Received, State
from durableq.model.settings import changes_from
from durableq.store.core import Capability, Extend, Receive, Settle
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    fail,
    failure,
    look,
    needs,
    newest,
    receipt,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

AT_RECEIVE = {"bury_at": 1, "max_receives": 2, "backoff_base_ms": 10_000}
FIFO = {"group_concurrency": 1}


def let_it_end(store: FullStore, clock: FakeClock, times: int = 1) -> None:
    """Receive the one message that is ready, and let its lease end; this often."""
    for _ in range(times):
        take(store)
        clock.advance(VISIBILITY_SECONDS)


class UnlimitedReceivesContract(StoreCase):
    """`max_receives` can be off."""

    def test_off_is_none_in_python_and_0_in_the_store(self, store: FullStore) -> None:
        changes = changes_from(max_receives=None)
        assert changes == {"max_receives": 0}
        settings = store.declare_queue(ORDERS, changes).settings
        assert settings.max_receives == 0
        assert settings.as_options()["max_receives"] is None
        for value in (0, -1, MAX_RECEIVES + 1):
            with pytest.raises(InvalidInput, match="max_receives"):
                store.declare_queue(ORDERS, changes_from(max_receives=value))

    @needs(Capability.INSPECT)
    def test_without_max_receives_no_failure_and_no_ended_lease_is_the_last(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_receives": 0})
        message_id = send(store)
        for _ in range(3):
            assert fail(store, take(store), retry_in_ms=0) is Outcome.RETRY
            let_it_end(store, clock)
            assert store.extend([take(store)], 0) == [Outcome.DONE]
        assert look(store, message_id).receive_count == 9
        assert look(store, message_id).queue == ORDERS

    @needs(Capability.INSPECT)
    def test_a_rejected_message_is_dead_without_max_receives_too(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_receives": 0})
        message_id = send(store)
        assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
        assert look(store, message_id).queue == DEAD


class BuryAtReceiveContract(StoreCase):
    """A queue with `bury_at` "receive", as SQS has it."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_ended_lease_counts_and_leaves_no_wait_and_no_event(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        let_it_end(store, clock)
        [message] = receive(store)
        assert message.receive_count == 2
        assert story(store, message_id) == []

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_receive_that_is_one_too_many_buries(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        let_it_end(store, clock, 2)
        assert look(store, message_id).queue == ORDERS
        assert store.receive(ORDERS, 1) == Received([], [], 1)
        found = look(store, message_id)
        assert (found.queue, found.source_queue, found.state) == (DEAD, ORDERS, State.READY)
        assert story(store, message_id) == [("buried", "too_many_receives")]
        assert newest(store, message_id).detail == {"receives": 2}
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_the_others_are_delivered_by_the_receive_that_buries(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        poison = send(store, "poison")
        let_it_end(store, clock, 2)
        send(store, "sound")
        assert bodies(receive(store, 1)) == ['"sound"']
        assert look(store, poison).queue == DEAD

    @needs(Capability.INSPECT)
    def test_the_limit_that_counts_is_that_of_the_receive(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        let_it_end(store, clock, 2)
        store.declare_queue(ORDERS, {"max_receives": 3})
        let_it_end(store, clock)
        store.declare_queue(ORDERS, {"max_receives": 0})
        let_it_end(store, clock)
        store.declare_queue(ORDERS, {"max_receives": 1})
        assert receive(store) == []
        assert look(store, message_id).queue == DEAD

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_explicit_failure_waits_as_in_any_queue_and_its_last_one_buries(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        assert fail(store, take(store)) is Outcome.RETRY
        assert look(store, message_id).state is State.DELAYED
        clock.advance(10)
        assert fail(store, take(store)) is Outcome.BURIED
        assert newest(store, message_id).reason == Reason.HANDLER_ERROR

    @needs(Capability.INSPECT, Capability.FLEET)
    def test_a_lost_worker_is_no_failure_there(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        take(store, owner_id=7)
        if Capability.FLEET in store.capabilities:
            assert store.reclaim(owner_id=7) == 1
        else:
            clock.advance(VISIBILITY_SECONDS)
        assert [message.id for message in receive(store)] == [message_id]

    @needs(Capability.INSPECT)
    def test_an_expired_message_expires_rather_than_being_buried(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store, expires_in=2 * VISIBILITY_SECONDS)
        let_it_end(store, clock, 2)
        assert receive(store) == []
        assert store.message(message_id) is None
        assert store.queue(ORDERS).counters.expired == 1
        assert counters_reconcile(store)

    def test_a_key_is_free_behind_a_message_that_is_one_too_many(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        send(store, 1, key="k")
        let_it_end(store, clock, 2)
        send(store, 2, key="k")
        assert bodies(receive(store)) == ["2"]

    @needs(Capability.INSPECT)
    def test_a_dead_letter_queue_with_the_setting_buries_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        store.declare_queue(DEAD, {"bury_at": 1, "max_receives": 1})
        message_id = send(store)
        fail(store, take(store), reason=Reason.REJECTED)
        for count in range(1, 4):
            [message] = receive(store, queue=DEAD)
            assert (message.id, message.receive_count) == (message_id, count)
            clock.advance(VISIBILITY_SECONDS)

    @needs(Capability.INSPECT)
    def test_a_group_goes_on_behind_a_message_that_is_one_too_many(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE | FIFO)
        first = send(store, 1, group="g")
        send(store, 2, group="g")
        send(store, 3, group="g")
        let_it_end(store, clock, 2)
        assert receive(store, 1) == []
        assert look(store, first).queue == DEAD
        for body in ("2", "3"):
            [message] = receive(store)
            assert message.body == body
            complete(store, receipt(message))
        assert counters_reconcile(store)

    def test_a_group_keeps_its_order_when_leases_end(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE | FIFO)
        for body in range(3):
            send(store, body, group="g")
        batch = receive(store, by_group=True)
        assert bodies(batch) == ["0", "1", "2"]
        clock.advance(VISIBILITY_SECONDS)
        for body in range(3):
            [message] = receive(store)
            assert message.body == str(body)
            complete(store, receipt(message))


class CountedReturnContract(StoreCase):
    """An extension by 0 returns a message, and the receive counts."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_extension_by_0_returns_the_message_counted(self, store: FullStore) -> None:
        message_id = send(store)
        lease = take(store)
        assert store.extend([lease], 0) == [Outcome.DONE]
        assert store.extend([lease], 0) == [Outcome.STALE]
        [message] = receive(store)
        assert message.receive_count == 2
        assert story(store, message_id) == []
        complete(store, receipt(message))
        assert store.extend([receipt(message)], 0) == [Outcome.GONE]

    def test_an_extension_by_0_is_a_call_of_together(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        outcomes, received = store.together([Extend([lease], 0), Receive(ORDERS, 1)])
        assert outcomes == [Outcome.DONE]
        assert isinstance(received, Received)
        assert [message.receive_count for message in received.messages] == [2]
        again = store.together([Settle([], [(lease, failure())]), Extend([lease], 0)])
        assert again == [[Outcome.STALE], [Outcome.STALE]]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_extension_by_0_after_the_last_receive_buries(self, store: FullStore) -> None:
        message_id = send(store)
        for _ in range(2):
            assert store.extend([take(store)], 0) == [Outcome.DONE]
        assert store.extend([take(store)], 0) == [Outcome.BURIED]
        assert look(store, message_id).queue == DEAD
        assert story(store, message_id) == [("buried", "too_many_receives")]
        assert newest(store, message_id).detail == {"receives": 3}
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_an_extension_by_0_leaves_the_last_receive_to_a_queue_that_buries_there(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, AT_RECEIVE)
        message_id = send(store)
        for _ in range(2):
            assert store.extend([take(store)], 0) == [Outcome.DONE]
        assert look(store, message_id).state is State.READY
        assert receive(store) == []
        assert look(store, message_id).queue == DEAD

    @needs(Capability.INSPECT)
    def test_an_extension_by_0_ends_a_message_that_has_expired(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, expires_in=1)
        lease = take(store)
        clock.advance(1)
        assert store.extend([lease], 0) == [Outcome.EXPIRED]
        assert store.message(message_id) is None

    def test_an_extension_by_0_frees_the_key(self, store: FullStore) -> None:
        send(store, 1, key="k")
        lease = take(store)
        send(store, 1, key="k")
        assert receive(store) == []
        assert store.extend([lease], 0) == [Outcome.DONE]
        assert len(receive(store)) == 1

    def test_an_extension_by_0_keeps_the_place_in_the_group(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, FIFO)
        for body in range(3):
            send(store, body, group="g")
        assert store.extend([take(store)], 0) == [Outcome.DONE]
        assert bodies(receive(store)) == ["0"]

    @needs(Capability.INSPECT)
    def test_a_dead_letter_is_returned_as_often_as_asked(self, store: FullStore) -> None:
        message_id = send(store)
        fail(store, take(store), reason=Reason.REJECTED)
        for _ in range(4):
            assert store.extend([take(store, DEAD)], 0) == [Outcome.DONE]
        assert look(store, message_id).receive_count == 4
