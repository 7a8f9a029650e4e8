"""Groups: their rates, and batches of one group."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.message import Served, State, draft
from durableq.store.core import Capability, Receive
from durableq.testing.contract.case import (
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    fail,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.contract.queueing.groups import GroupCase, drain, send_group
from durableq.testing.fakes import FakeClock


class GroupRateContract(StoreCase):
    """`group_rate` and `group_burst`: each group has a rate of its own."""

    def test_each_group_has_its_own_rate(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 5, "group_rate": 10, "group_burst": 2})
        send_group(store, "a", *range(4))
        send_group(store, "b", *range(10, 14))
        assert bodies(receive(store)) == ["0", "1", "10", "11"]
        assert receive(store) == []
        clock.advance(0.101)
        assert bodies(receive(store)) == ["2", "12"]

    @needs(Capability.INSPECT)
    def test_a_head_is_delayed_until_the_next_token_of_its_group(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1})
        _, second = send_group(store, "a", 1, 2)
        complete(store, take(store))
        assert look(store, second).state is State.DELAYED
        assert store.ready_in_ms([ORDERS]) == 1_001
        clock.advance(1.001)
        assert drain(store) == ["2"]

    def test_an_empty_group_remembers_its_rate(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1})
        send_group(store, "a", 1)
        assert drain(store) == ["1"]
        send_group(store, "a", 2)
        assert receive(store) == []
        clock.advance(1.001)
        assert drain(store) == ["2"]

    def test_a_released_message_waits_for_another_token(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1})
        send_group(store, "a", 1, 2)
        store.release([take(store)])
        assert receive(store) == []
        clock.advance(1.001)
        assert bodies(receive(store)) == ["1"]

    def test_messages_without_a_group_have_no_rate(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1})
        store.send(ORDERS, [draft(1), draft(2)])
        assert drain(store) == ["1", "2"]

    def test_a_deferred_message_takes_no_token(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1})
        send(store, "x", key="k")
        owner = take(store)
        send(store, "x", key="k", group="a")
        assert receive(store) == []  # it waits for its key
        store.release([owner])
        complete(store, take(store))
        send(store, 2, group="a")
        receive(store)  # the duplicate ends
        assert drain(store) == ["2"]

    def test_a_faster_rate_applies_at_once(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 0.001})
        send_group(store, "a", 1)
        assert drain(store) == ["1"]
        store.declare_queue(ORDERS, {"group_rate": 1})
        clock.advance(1.001)
        send_group(store, "a", 2)
        assert drain(store) == ["2"]


class GroupBatchContract(GroupCase):
    """Receives by group: consecutive messages of one, under one token."""

    def test_a_batch_has_consecutive_messages_of_one_group(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3, 4)
        send_group(fifo, "b", 5)
        assert bodies(receive(fifo, 3, by_group=True)) == ["1", "2", "3"]
        assert bodies(receive(fifo, 3, by_group=True)) == ["5"]
        assert receive(fifo, by_group=True) == []

    def test_the_rest_of_a_group_waits_for_the_whole_batch(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3)
        batch = receive(fifo, 2, by_group=True)
        complete(fifo, receipt(batch[0]))
        assert receive(fifo) == []
        complete(fifo, receipt(batch[1]))
        assert drain(fifo) == ["3"]

    def test_messages_that_go_back_from_a_batch_stay_in_order(self, fifo: FullStore) -> None:
        send_group(fifo, "a", *range(1, 6))
        first, second, *behind = map(receipt, receive(fifo, 4, by_group=True))
        complete(fifo, first)
        fifo.release(behind[::-1])
        fail(fifo, second, retry_in_ms=0)
        assert drain(fifo) == ["2", "3", "4", "5"]

    def test_a_batch_whose_lease_ended_is_tried_again_one_by_one(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send_group(fifo, "a", 1, 2, 3)
        receive(fifo, 2, by_group=True)
        clock.advance(VISIBILITY_SECONDS)
        again = receive(fifo, 3, by_group=True)
        assert bodies(again) == ["1"]
        complete(fifo, *map(receipt, again))
        again = receive(fifo, 3, by_group=True)
        assert bodies(again) == ["2"]
        complete(fifo, *map(receipt, again))
        assert drain(fifo) == ["3"]

    def test_a_batch_ends_before_a_message_that_waits(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send_group(fifo, "a", 1, 2)
        send(fifo, 3, group="a", delay=5)
        send_group(fifo, "a", 4)
        batch = receive(fifo, 10, by_group=True)
        assert bodies(batch) == ["1", "2"]
        complete(fifo, *map(receipt, batch))
        clock.advance(5)
        assert bodies(receive(fifo, 10, by_group=True)) == ["3", "4"]

    def test_a_key_comes_once_in_a_batch(self, fifo: FullStore) -> None:
        send_group(fifo, "a", "x", key="k")
        send_group(fifo, "a", "x", key="k")
        send_group(fifo, "a", 3)
        batch = receive(fifo, 10, by_group=True)
        assert bodies(batch) == ['"x"']
        complete(fifo, *map(receipt, batch))
        assert fifo.receive(ORDERS, 1).duplicates
        assert drain(fifo) == ["3"]

    def test_a_message_without_a_group_comes_alone(self, fifo: FullStore) -> None:
        fifo.send(ORDERS, [draft(1), draft(2)])
        assert bodies(receive(fifo, 10, by_group=True)) == ["1"]

    def test_a_batch_takes_no_more_than_the_tokens_of_its_group(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1, "group_burst": 3})
        send_group(store, "a", *range(5))
        assert bodies(receive(store, 10, by_group=True)) == ["0", "1", "2"]

    def test_a_batch_takes_no_more_than_may_be_in_flight(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "max_in_flight": 2})
        send_group(store, "a", *range(5))
        assert bodies(receive(store, 10, by_group=True)) == ["0", "1"]

    def test_a_batch_is_received_in_one_transaction_with_others(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        (received,) = fifo.together([Receive(ORDERS, 10, by_group=True)])
        assert bodies(received.messages) == ["1", "2"]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "terms",
        [{"by_group": True}, {"served": Served(fill_groups=True)}],
        ids=["by group", "filled"],
    )
    def test_a_message_that_leaves_a_group_in_a_receive_lets_none_of_the_batch_go(
        self, store: FullStore, clock: FakeClock, terms: dict[str, Any]
    ) -> None:
        """Several may be active; one is over its time when the others are received."""
        store.declare_queue(ORDERS, {"group_concurrency": 2})
        store.send(ORDERS, [draft(0, group="a", expires_in=1)])
        send_group(store, "a", *range(1, 5))
        clock.advance(2)
        batch = receive(store, 10, **terms)
        assert bodies(batch) == ["1", "2", "3", "4"]
        complete(store, *map(receipt, batch))
        send_group(store, "a", 5, 6)
        assert bodies(receive(store, 10)) == ["5", "6"], "as many are active as may be"
