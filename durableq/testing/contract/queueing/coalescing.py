"""Deduplication at send, and messages that replace older ones with the same replace_key."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import QueueFull, UnknownQueue
from durableq.model.flow.sending import OnFull
from durableq.model.message import Outcome, Reason, State, draft
from durableq.store.capabilities import Transaction
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    fail,
    look,
    needs,
    newest,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

WINDOW_SECONDS = 300


def _send_and_fail(tx: Transaction) -> None:
    tx.send(ORDERS, [draft(2, replace_key="k", deduplication_id="d")])
    tx.send("unknown", [draft(3)])


class DeduplicationContract(StoreCase):
    """One message for each deduplication id within its window."""

    @needs(Capability.INSPECT)
    def test_a_second_send_returns_the_id_of_the_first(self, store: FullStore) -> None:
        first = send(store, "a", deduplication_id="d")
        assert send(store, "b", deduplication_id="d") == first
        assert send(store, "c", deduplication_id="another") != first
        assert send(store, "d") != first
        counters = store.queue(ORDERS).counters
        assert (counters.sent, counters.deduplicated) == (3, 1)
        assert bodies(receive(store)) == ['"a"', '"c"', '"d"']

    def test_the_first_is_known_after_it_has_ended(self, store: FullStore) -> None:
        first = send(store, deduplication_id="d")
        complete(store, take(store))
        assert send(store, deduplication_id="d") == first
        assert store.receive(ORDERS, 1).idle

    def test_an_id_is_free_again_after_its_window(self, store: FullStore, clock: FakeClock) -> None:
        first = send(store, deduplication_id="d")
        clock.advance(WINDOW_SECONDS - 0.001)
        assert send(store, deduplication_id="d") == first
        clock.advance(0.001)
        second = send(store, deduplication_id="d")
        assert second != first
        assert send(store, deduplication_id="d") == second

    def test_the_window_is_a_setting_of_the_queue(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"deduplication_window_ms": 1_000})
        first = send(store, deduplication_id="d")
        clock.advance(1)
        assert send(store, deduplication_id="d") != first

    def test_each_queue_has_ids_of_its_own(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        first = send(store, deduplication_id="d")
        assert send(store, queue="mail", deduplication_id="d") != first

    def test_equal_ids_in_one_batch_are_one_message(self, store: FullStore) -> None:
        made = [draft(body, deduplication_id=name) for body, name in ((1, "d"), (2, "e"), (3, "d"))]
        first, second, third = store.send(ORDERS, made)
        assert (first == third, first == second) == (True, False)
        assert bodies(receive(store)) == ["1", "2"]

    def test_a_send_that_was_refused_is_not_remembered(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1})
        first = send(store)
        with pytest.raises(QueueFull):
            send(store, deduplication_id="d")
        store.declare_queue(ORDERS, {"on_full": OnFull.SHED})
        assert send(store, deduplication_id="d") == ""
        complete(store, take(store))
        assert send(store, deduplication_id="d") not in {first, ""}

    def test_a_send_that_adds_nothing_fits_into_a_full_queue(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1})
        first = send(store, deduplication_id="d")
        assert send(store, deduplication_id="d") == first

    @needs(Capability.CONTROL)
    def test_a_queue_made_again_knows_no_ids(self, store: FullStore) -> None:
        send(store, "old", deduplication_id="d")
        store.delete_queue(ORDERS, force=True)
        store.declare_queue(ORDERS, {})
        send(store, "new", deduplication_id="d")
        assert bodies(receive(store)) == ['"new"']

    @needs(Capability.MAINTENANCE)
    def test_ids_whose_window_is_over_are_removed(self, store: FullStore, clock: FakeClock) -> None:
        for number in range(3):
            send(store, deduplication_id=f"d{number}")
        assert store.prune().records == 0
        clock.advance(WINDOW_SECONDS)
        assert [store.prune(limit=2).records for _ in range(3)] == [2, 1, 0]


class CoalescingContract(StoreCase):
    """Only the newest message with a replace_key waits."""

    @needs(Capability.INSPECT, Capability.DEAD_LETTERS)
    def test_a_newer_message_replaces_the_one_that_waits(self, store: FullStore) -> None:
        ids = [send(store, number, replace_key="k") for number in range(3)]
        send(store, "another", replace_key="j")
        counters = store.queue(ORDERS).counters
        assert (counters.sent, counters.replaced) == (4, 2)
        assert story(store, ids[0]) == [("replaced", "")]
        assert newest(store, ids[1]).detail == {"by": ids[2]}
        assert bodies(receive(store)) == ["2", '"another"']
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_thousand_sends_leave_one_message(self, store: FullStore) -> None:
        for start in range(0, 1_000, 100):
            store.send(ORDERS, [draft(start + n, replace_key="k") for n in range(100)])
        assert store.queue(ORDERS).counts.present == 1
        assert store.queue(ORDERS).counters.replaced == 999
        assert bodies(receive(store)) == ["999"]
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_message_in_flight_is_left_alone_and_the_new_one_waits(
        self, store: FullStore
    ) -> None:
        first = send(store, 1, replace_key="k")
        lease = take(store)
        send(store, 2, replace_key="k")
        send(store, 3, replace_key="k")
        assert look(store, first).state is State.IN_FLIGHT
        assert bodies(receive(store)) == ["3"]
        assert complete(store, lease) == [Outcome.DONE]

    def test_delayed_messages_and_those_that_wait_for_their_retry_are_replaced(
        self, store: FullStore
    ) -> None:
        send(store, 1, replace_key="k")
        assert fail(store, take(store), retry_in_ms=60_000) is Outcome.RETRY
        send(store, 2, replace_key="k", delay=60)
        send(store, 3, replace_key="k")
        assert bodies(receive(store)) == ["3"]

    @needs(Capability.DEAD_LETTERS)
    def test_dead_letters_are_not_replaced(self, store: FullStore) -> None:
        dead = send(store, 1, replace_key="k")
        assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
        send(store, 2, replace_key="k")
        assert store.dead_letter(dead) is not None
        assert bodies(receive(store)) == ["2"]

    def test_the_new_message_has_its_own_options_and_place(self, store: FullStore) -> None:
        send(store, 1, replace_key="k", priority=9, key="a")
        send(store, 2)
        last = send(store, 3, replace_key="k", key="b", attributes={"n": 1})
        second, third = receive(store)
        assert (second.body, third.id) == ("2", last)
        assert (third.priority, third.key, third.attributes) == (0, "b", '{"n":1}')

    def test_a_replacement_fits_into_a_full_queue(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1, "max_backlog_bytes": 3})
        send(store, 1, replace_key="k")
        send(store, 222, replace_key="k")
        with pytest.raises(QueueFull):
            send(store, 3, replace_key="j")
        store.declare_queue(ORDERS, {"on_full": OnFull.SHED})
        assert send(store, 4_444, replace_key="k") == "", "and the older one stays"
        assert bodies(receive(store)) == ["222"]

    @needs(Capability.TRANSACTIONS)
    def test_a_transaction_that_is_undone_replaces_nothing(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, queue="mail")
        send(store, 1, replace_key="k")
        lease = take(store, "mail")
        with (
            pytest.raises(UnknownQueue),
            store.transaction([lease]) as tx,
        ):
            _send_and_fail(tx)
        assert bodies(receive(store)) == ["1"]
        send(store, 3, deduplication_id="d")
        assert bodies(receive(store)) == ["3"]

    @needs(Capability.INSPECT)
    def test_a_debounced_message_waits_until_no_newer_one_has_come(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"delay_ms": 60_000})
        for number in range(3):
            message_id = send(store, number, replace_key="k", debounce=10)
            assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 10_000
            clock.advance(9)
        assert store.receive(ORDERS, 1).idle
        clock.advance(1)
        assert bodies(receive(store)) == ["2"]

    def test_a_debounce_ends_after_max_wait_from_the_first(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        for number in range(4):
            assert store.receive(ORDERS, 1).idle
            send(store, number, replace_key="k", debounce=10, max_wait=25)
            clock.advance(8)
        assert bodies(receive(store)) == ["3"], "32 seconds after the first"
        send(store, 5, replace_key="k", debounce=10, max_wait=25)
        clock.advance(9.999)
        assert store.receive(ORDERS, 1).idle, "the one in flight is no start of another debounce"
        clock.advance(0.001)
        assert bodies(receive(store)) == ["5"]

    def test_a_debounce_that_is_over_delays_no_more(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, 1, replace_key="k", debounce=10, max_wait=15)
        clock.advance(20)
        send(store, 2, replace_key="k", debounce=10, max_wait=15)
        assert bodies(receive(store)) == ["2"]
