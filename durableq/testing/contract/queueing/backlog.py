"""Backlog limits: how much a queue stores at most, and what a send to a full one does."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import asyncio
import threading

import pytest

from durableq.model.decisions import Requeue
from durableq.model.errors import Conflict, InvalidInput, QueueFull
from durableq.model.flow.sending import OnFull
from durableq.model.message import Completion, Outcome, Reason
from durableq.store.core import Capability, Send, Settle
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    decide,
    drafts,
    fail,
    kill,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

BLOCK = {"max_backlog": 2, "on_full": OnFull.BLOCK, "block_timeout_ms": 50}


class BacklogContract(StoreCase):
    """The promises about a full queue."""

    def test_a_send_to_a_full_queue_is_refused_with_its_numbers(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 3})
        store.send(ORDERS, drafts(1, 2))
        with pytest.raises(
            QueueFull, match=r"stores 2 messages, its max_backlog is 3, and the send adds 2"
        ) as refused:
            store.send(ORDERS, drafts(3, 4))
        assert refused.value.queue == ORDERS
        assert bodies(receive(store)) == ["1", "2"]

    def test_a_message_counts_until_it_has_ended(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1})
        send(store)
        lease = take(store)
        with pytest.raises(QueueFull):
            send(store)
        assert complete(store, lease) == [Outcome.DONE]
        send(store)

    def test_a_batch_that_can_never_fit_is_refused_at_once(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK | {"block_timeout_ms": 60_000})
        with pytest.raises(InvalidInput, match=r"3 messages .* never fit .* is 2 messages"):
            store.send(ORDERS, drafts(1, 2, 3))
        store.declare_queue(ORDERS, {"max_backlog_bytes": 4})
        with pytest.raises(InvalidInput, match=r"5 bytes can never fit .* is 4 bytes"):
            send(store, "abc")

    def test_bytes_are_those_of_the_bodies(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog_bytes": 10})
        store.send(ORDERS, drafts("ü", "abc"))
        with pytest.raises(QueueFull, match=r"stores 9 bytes .* is 10, and the send adds 2"):
            send(store, 12)
        send(store, 1)

    def test_bytes_that_are_there_are_counted_when_the_limit_is_set(self, store: FullStore) -> None:
        store.send(ORDERS, drafts("abc", "abc"))
        take(store)
        store.declare_queue(ORDERS, {"max_backlog_bytes": 11})
        with pytest.raises(QueueFull, match="stores 10 bytes"):
            send(store, 12)
        send(store, 1)

    @needs(Capability.CONTROL, Capability.DEAD_LETTERS)
    def test_bytes_are_free_however_a_message_ends(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        settings = {"max_backlog_bytes": 5, "retention_ms": 1_000, "max_receives": 1}

        def is_full(message_id: str) -> str:
            with pytest.raises(QueueFull):
                send(store, 1)
            return message_id

        store.declare_queue(ORDERS, settings)
        is_full(send(store, "abc", key="k"))
        assert store.complete([Completion(take(store), None, "k")]) == [Outcome.DONE]
        is_full(send(store, "abc", key="k"))
        assert len(store.receive(ORDERS, 1).duplicates) == 1
        is_full(send(store, "abd", key="k"))
        assert store.receive(ORDERS, 1).set_aside == 1, "buried: another payload"
        is_full(send(store, "abc"))
        assert fail(store, take(store), reason=Reason.TIMEOUT) is Outcome.BURIED
        assert store.cancel([is_full(send(store, "abc"))]) == [None]
        is_full(send(store, "abc"))
        clock.advance(1.1)
        assert store.receive(ORDERS, 1).set_aside == 1, "expired"
        is_full(send(store, "abc"))
        assert store.purge(ORDERS) == 1
        is_full(send(store, "abc"))

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_an_accepted_message_is_never_refused_again(self, store: FullStore) -> None:
        """It may die, and come back, however full the queues are."""
        store.declare_queue(ORDERS, {"max_backlog": 1, "max_backlog_bytes": 3})
        kill(store, "a")
        send(store, "b")
        assert decide(store, Requeue("again")) is Outcome.DONE
        assert store.queue(ORDERS).counts.present == 2
        with pytest.raises(QueueFull, match="stores 2 messages, its max_backlog is 1"):
            send(store, 1)
        assert complete(store, take(store)) == [Outcome.DONE]
        with pytest.raises(QueueFull, match="stores 1 messages, its max_backlog is 1"):
            send(store, 1)
        assert complete(store, take(store)) == [Outcome.DONE]
        send(store, 1)
        assert counters_reconcile(store)

    def test_a_dead_letter_queue_has_no_backlog_limit(self, store: FullStore) -> None:
        for setting in ("max_backlog", "max_backlog_bytes", "min_free_bytes"):
            with pytest.raises(InvalidInput, match=rf"{setting} is for sends, .*'{DEAD}'"):
                store.declare_queue(DEAD, {setting: 1})

    @needs(Capability.INSPECT)
    def test_messages_that_do_not_fit_are_shed_and_counted(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 2, "on_full": OnFull.SHED})
        first, second, *shed = store.send(ORDERS, drafts(1, 2, 3, 4))
        assert [first != "", second != "", *shed] == [True, True, "", ""]
        assert send(store) == ""
        info = store.queue(ORDERS)
        assert (info.counters.sent, info.counters.shed, info.counts.present) == (2, 3, 2)
        assert bodies(receive(store)) == ["1", "2"]

    @needs(Capability.INSPECT)
    def test_of_large_and_small_messages_those_are_shed_that_do_not_fit(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"max_backlog_bytes": 6, "on_full": OnFull.SHED})
        ids = store.send(ORDERS, drafts(1, "abcd", "ab", 2, 3))
        assert [one != "" for one in ids] == [True, False, True, True, False]
        assert store.queue(ORDERS).counters.shed == 2

    def test_a_send_waits_for_room_until_its_time_is_over(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK)
        store.send(ORDERS, drafts(1, 2))
        with pytest.raises(QueueFull, match=r"waited for 0.05 s \(block_timeout\)"):
            send(store, 3)
        assert bodies(receive(store)) == ["1", "2"]

    def test_a_send_that_waits_is_stored_as_soon_as_there_is_room(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK | {"block_timeout_ms": 60_000})
        store.send(ORDERS, drafts(1, 2))
        sent: list[str] = []
        sender = threading.Thread(target=lambda: sent.append(send(store, 3)), daemon=True)
        sender.start()
        assert complete(store, take(store)) == [Outcome.DONE]
        sender.join(60)
        assert len(sent) == 1
        assert bodies(receive(store)) == ["2", "3"]

    def test_a_send_on_an_event_loop_does_not_wait(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK | {"block_timeout_ms": 60_000})
        store.send(ORDERS, drafts(1, 2))

        async def send_in_a_coroutine() -> str:
            return send(store, 3)

        with pytest.raises(QueueFull, match=r"cannot wait.*await queue\.asend"):
            asyncio.run(send_in_a_coroutine())

    @needs(Capability.TRANSACTIONS)
    def test_a_send_in_a_transaction_does_not_wait(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK | {"block_timeout_ms": 60_000})
        store.send(ORDERS, drafts(1, 2))
        lease = take(store)
        with (
            pytest.raises(QueueFull, match=r"cannot wait: it is part of a transaction"),
            store.transaction([lease]) as tx,
        ):
            tx.send(ORDERS, drafts(3))

    def test_a_send_together_with_others_does_not_wait(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, BLOCK | {"block_timeout_ms": 60_000})
        store.send(ORDERS, drafts(1, 2))
        done = Settle([Completion(take(store))])
        refused, outcomes, sent = store.together(
            [Send(ORDERS, drafts(3)), done, Send(ORDERS, drafts(4))]
        )
        assert isinstance(refused, QueueFull)
        assert outcomes == [Outcome.DONE]
        assert isinstance(sent, list)
        assert bodies(receive(store)) == ["2", "4"]

    def test_a_look_tells_whether_a_refused_send_may_fit(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 2})
        store.send(ORDERS, drafts(1, 2))
        with pytest.raises(QueueFull) as one:
            store.send(ORDERS, drafts(3))
        with pytest.raises(QueueFull) as two:
            store.send(ORDERS, drafts(3, 4))
        assert not store.has_room(one.value)
        complete(store, take(store))
        assert store.has_room(one.value)
        assert not store.has_room(two.value)
        assert bodies(receive(store)) == ["2"], "a look stores nothing"

    def test_a_limit_below_the_backlog_refuses_sends_until_there_is_room(
        self, store: FullStore
    ) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        store.declare_queue(ORDERS, {"max_backlog": 2})
        for _ in range(2):
            with pytest.raises(QueueFull):
                send(store, 4)
            assert complete(store, take(store)) == [Outcome.DONE]
        send(store, 4)
        store.declare_queue(ORDERS, {"max_backlog": 0})
        send(store, 5)

    @needs(Capability.INSPECT)
    def test_a_full_queue_is_a_conflict(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1})
        send(store)
        with pytest.raises(Conflict, match="Send later, when workers have completed messages"):
            send(store)
        assert store.queue(ORDERS).counters.sent == 1
