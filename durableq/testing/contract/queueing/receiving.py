"""Receiving: the order of messages, and the bounds of the work."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import (
    MAX_RECEIVE,
    MAX_RECEIVE_BATCH,
    MAX_SET_ASIDE,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import Completion, State, draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    drafts,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


def _stand_behind(store: FullStore, clock: FakeClock, kind: str, number: int) -> str:
    """Send a message behind `number` others that a receive sets aside; return its id."""
    if kind == "expired":
        store.declare_queue(ORDERS, {"retention_ms": 1000})
        store.send(ORDERS, drafts(*range(number)))
        clock.advance(1)
        return send(store, "fresh")
    send(store, "first", key="k")
    first = take(store)
    if kind != "deferred":
        store.complete([Completion(first)])
    body = "another" if kind == "conflicting" else "first"
    store.send(ORDERS, [draft(body, key="k") for _ in range(number)])
    return send(store, "fresh")


class ReceivingContract(StoreCase):
    """The promises to a worker that receives."""

    def test_the_oldest_comes_first(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        assert bodies(receive(store, 2)) == ["1", "2"]
        assert bodies(receive(store, 2)) == ["3"]

    def test_priority_comes_before_age(self, store: FullStore) -> None:
        for priority in (0, 5, -5, 5):
            send(store, priority, priority=priority)
        messages = receive(store)
        assert bodies(messages) == ["5", "5", "0", "-5"]
        assert int(messages[0].id) < int(messages[1].id)

    def test_a_leased_message_is_not_received_again(self, store: FullStore) -> None:
        send(store)
        assert len(receive(store)) == 1
        assert store.receive(ORDERS, 1).idle

    @needs(Capability.INSPECT)
    def test_a_received_message_shows_its_lease(self, store: FullStore) -> None:
        message_id = send(store)
        [message] = receive(store, visibility_ms=7_000)
        assert message.state is State.IN_FLIGHT
        assert (message.receive_count, message.lease_left_ms) == (1, 7_000)
        assert receipt(message)[:2] == (ORDERS, message_id)
        seen = look(store, message_id)
        assert seen == message._replace(receipt=None)

    def test_the_length_of_a_lease_is_a_setting_of_the_queue(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"visibility_timeout_ms": 1234})
        send(store)
        [message] = receive(store)
        assert message.lease_left_ms == 1234

    @pytest.mark.parametrize("limit", [-1, 0, MAX_RECEIVE + 1, 1.5, True, "1", None])
    def test_a_limit_out_of_bounds_is_refused(self, store: FullStore, limit: Any) -> None:
        with pytest.raises(InvalidInput, match=str(MAX_RECEIVE)):
            store.receive(ORDERS, limit)

    @pytest.mark.parametrize("visibility_ms", [-1, 0, MAX_VISIBILITY_MS + 1])
    def test_a_lease_out_of_bounds_is_refused(self, store: FullStore, visibility_ms: int) -> None:
        with pytest.raises(InvalidInput, match=str(MAX_VISIBILITY_MS)):
            store.receive(ORDERS, 1, visibility_ms=visibility_ms)

    def test_an_owner_id_out_of_bounds_is_refused(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput):
            store.receive(ORDERS, 1, owner_id=1 << 32)

    def test_a_receive_from_an_unknown_queue_is_refused(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.receive("unknown", 1)

    def test_an_empty_queue_is_idle(self, store: FullStore) -> None:
        assert store.receive(ORDERS, 1).idle

    @pytest.mark.parametrize("kind", ["duplicate", "deferred", "conflicting", "expired"])
    def test_a_receive_finds_the_message_behind_many_that_it_sets_aside(
        self, store: FullStore, clock: FakeClock, kind: str
    ) -> None:
        fresh = _stand_behind(store, clock, kind, 50)
        received = store.receive(ORDERS, 1)
        assert [message.id for message in received.messages] == [fresh]
        assert len(received.duplicates) + received.set_aside == 50
        assert received.more
        after = store.receive(ORDERS, 1)
        assert after.idle
        assert not after.more

    @pytest.mark.parametrize("kind", ["duplicate", "deferred", "conflicting", "expired"])
    def test_a_receive_works_through_a_bounded_number_and_says_that_there_may_be_more(
        self, store: FullStore, clock: FakeClock, kind: str
    ) -> None:
        fresh = _stand_behind(store, clock, kind, MAX_SET_ASIDE + 1)
        first = store.receive(ORDERS, 1)
        assert first.messages == []
        assert len(first.duplicates) + first.set_aside == MAX_SET_ASIDE
        assert first.more
        second = store.receive(ORDERS, 2)
        assert [message.id for message in second.messages] == [fresh]
        assert len(second.duplicates) + second.set_aside == 1
        assert not second.more

    def test_a_receive_that_took_back_all_the_leases_it_may_says_that_there_may_be_more(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_receives": 1})
        store.send(ORDERS, drafts(*range(RECLAIM_BATCH + 1)))
        receive(store, RECLAIM_BATCH + 1)
        clock.advance(VISIBILITY_SECONDS)
        first = store.receive(ORDERS, 1)
        assert (first.messages, first.more, first.idle) == ([], True, False)
        second = store.receive(ORDERS, 1)
        assert (second.messages, second.more, second.idle) == ([], False, True)

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("number", [1, 15, 150])
    def test_a_receive_stops_looking_behind_duplicates_where_it_has_to(
        self, store: FullStore, clock: FakeClock, number: int
    ) -> None:
        _stand_behind(store, clock, "duplicate", number)
        last = send(store, "last")
        assert len(store.receive(ORDERS, 1).duplicates) == number
        assert store.queue(ORDERS).counts.ready == 1, "it looked no further than it had to"
        assert [message.id for message in store.receive(ORDERS, 5).messages] == [last]
        assert not store.receive(ORDERS, 5).more

    @pytest.mark.parametrize("limit", [1, 7, MAX_RECEIVE])
    def test_a_receive_of_any_limit_sets_aside_a_bounded_number(
        self, store: FullStore, clock: FakeClock, limit: int
    ) -> None:
        _stand_behind(store, clock, "expired", MAX_SET_ASIDE + 1)
        first = store.receive(ORDERS, limit)
        assert (first.messages, first.set_aside, first.more) == ([], MAX_SET_ASIDE, True)

    def test_a_receive_fills_its_limit_from_behind_the_messages_it_sets_aside(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 1000})
        store.send(ORDERS, drafts("old", "old", "old"))
        clock.advance(1)
        store.send(ORDERS, drafts(1, 2, 3))
        received = store.receive(ORDERS, 2)
        assert bodies(received.messages) == ["1", "2"]
        assert received.set_aside == 3

    def test_a_receive_takes_back_a_bounded_number_of_leases(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, drafts(*range(RECLAIM_BATCH + 1)))
        receive(store, RECLAIM_BATCH + 1)
        clock.advance(VISIBILITY_SECONDS)
        assert len(receive(store, MAX_RECEIVE_BATCH)) == RECLAIM_BATCH
        assert len(receive(store, MAX_RECEIVE_BATCH)) == 1

    @needs(Capability.INSPECT)
    def test_a_receive_makes_a_bounded_number_of_due_messages_ready(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        last = send(store, "last", delay=2)
        store.send(ORDERS, [draft(number, delay=1) for number in range(PROMOTE_BATCH)])
        clock.advance(2)
        take(store)
        counts = store.queue(ORDERS).counts
        assert (counts.ready, counts.delayed) == (PROMOTE_BATCH - 1, 1)
        assert look(store, last).state is State.DELAYED, "those that were due first come first"
        assert len(receive(store, MAX_RECEIVE_BATCH)) == PROMOTE_BATCH
        assert store.queue(ORDERS).counts.delayed == 0
