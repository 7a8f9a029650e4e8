"""Transactions: settling commits together with the sends, or nothing does."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert
# ruff: noqa: PT012 - an error at the end of a transaction needs the transaction in the block

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from durableq.model.errors import Conflict, InvalidBody, StaleReceipt, UnknownQueue, Unsupported
from durableq.model.message import Completion, Event, Outcome, Reason, State
from durableq.store.core import OTHER_THREAD, Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    drafts,
    failure,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


class HandlerFailed(Exception):
    """The error of a handler in these tests."""


def open_another(store: FullStore) -> None:
    """Open a transaction, and commit it."""
    with store.transaction([]):
        pass


@needs(Capability.TRANSACTIONS)
class TransactionsContract(StoreCase):
    """The promises to a handler inside `message.transaction()`."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_transaction_commits_everything_together(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        store.send(ORDERS, drafts(1, 2))
        first, second = map(receipt, receive(store))
        with store.transaction([first, second], actor="w") as tx:
            [sent] = tx.send("mail", drafts("hello"))
            tx.settle([Completion(first)], [(second, failure())])
        assert store.message(first.message_id) is None
        assert look(store, second.message_id).state is State.DELAYED
        [event] = store.history(second.message_id)
        assert (event.event, event.actor) == (Event.FAILED, "w")
        assert [message.id for message in receive(store, queue="mail")] == [sent]
        assert counters_reconcile(store)

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_an_exception_undoes_everything(self, store: FullStore) -> None:
        send(store, key="k")
        lease = take(store)
        before = (store.queues(), store.record(ORDERS, "k"))
        with pytest.raises(HandlerFailed), store.transaction([lease]) as tx:
            tx.send(ORDERS, drafts("never"))
            tx.settle([Completion(lease, "1")], [])
            raise HandlerFailed
        assert before == (store.queues(), store.record(ORDERS, "k"))
        assert complete(store, lease) == [Outcome.DONE]

    def test_a_transaction_that_settles_nothing_keeps_the_lease(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        with store.transaction([lease]) as tx:
            tx.send(ORDERS, drafts("more"))
        assert store.extend([lease], 1) == [Outcome.DONE]
        assert bodies(receive(store)) == ['"more"']

    def test_a_stale_receipt_opens_no_transaction(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        stale = take(store)
        clock.advance(VISIBILITY_SECONDS)
        good = take(store)
        with (
            pytest.raises(StaleReceipt, match=f"message {stale.message_id}\\b"),
            store.transaction([good, stale]),
        ):
            pytest.fail("The body ran under a stale receipt.")
        complete(store, good)
        with pytest.raises(StaleReceipt, match="has ended"), store.transaction([good]):
            pytest.fail("The body ran for a message that has ended.")

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.INSPECT)
    def test_settling_a_stale_receipt_undoes_everything(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, drafts(1, 2))
        stale = take(store)
        good = take(store, visibility_ms=100_000)
        clock.advance(VISIBILITY_SECONDS)
        store.reclaim()
        before = store.queues()
        with pytest.raises(StaleReceipt) as caught, store.transaction([good]) as tx:
            tx.send(ORDERS, drafts("never"))
            tx.settle([Completion(good)], [(stale, failure())])
        assert caught.value.message_id == stale.message_id
        assert store.queues() == before
        assert store.history(good.message_id) == []

    @needs(Capability.INSPECT)
    def test_a_lease_that_ran_out_unnoticed_still_carries_a_transaction(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        lease = take(store)
        clock.advance(VISIBILITY_SECONDS)
        with store.transaction([lease]) as tx:
            tx.settle([Completion(lease)], [])
        assert store.message(lease.message_id) is None

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_a_key_is_completed_in_its_transaction(self, store: FullStore) -> None:
        send(store, key="k")
        [message] = receive(store)
        second = send(store, key="k")
        store.receive(ORDERS, 1)
        with store.transaction([receipt(message)]) as tx:
            tx.settle([Completion(receipt(message), '{"paid":1}', "k")], [])
        record = store.record(ORDERS, "k")
        assert record is not None
        assert record.result == '{"paid":1}'
        assert look(store, second).state is State.READY

    @needs(Capability.INSPECT)
    def test_a_message_can_be_buried_in_a_transaction(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        with store.transaction([lease]) as tx:
            tx.settle([], [(lease, failure(Reason.REJECTED))])
        assert look(store, lease.message_id).queue == DEAD

    @needs(Capability.INSPECT)
    def test_sending_obeys_the_same_rules_inside(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 6})
        with pytest.raises(UnknownQueue), store.transaction([]) as tx:
            tx.send("unknown", drafts("a"))
        with pytest.raises(InvalidBody), store.transaction([]) as tx:
            tx.send(ORDERS, drafts("a"))
            tx.send(ORDERS, drafts("a", "12345"))
        assert store.queue(ORDERS).counters.sent == 0

    @needs(Capability.INSPECT)
    def test_a_batch_refused_inside_is_undone_alone(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 6})
        with store.transaction([]) as tx:
            tx.send(ORDERS, drafts("a"))
            with pytest.raises(InvalidBody):
                tx.send(ORDERS, drafts("b", "12345"))
        assert bodies(receive(store)) == ['"a"']
        assert counters_reconcile(store)

    @needs(Capability.FLEET, Capability.INSPECT)
    @pytest.mark.parametrize(
        "operation",
        [
            pytest.param(lambda store: store.send(ORDERS, drafts("a")), id="send"),
            pytest.param(lambda store: store.receive(ORDERS, 1), id="receive"),
            pytest.param(lambda store: store.complete([]), id="complete"),
            pytest.param(lambda store: store.reclaim(), id="reclaim"),
            pytest.param(lambda store: store.declare_queue(ORDERS, {}), id="declare"),
            pytest.param(open_another, id="transaction"),
        ],
    )
    def test_other_operations_of_the_thread_are_refused_inside(
        self, store: FullStore, operation: Callable[[FullStore], object]
    ) -> None:
        send(store)
        lease = take(store)
        with store.transaction([lease]) as tx:
            with pytest.raises(Conflict, match=r"tx\.send"):
                operation(store)
            tx.settle([Completion(lease)], [])
        assert store.message(lease.message_id) is None
        operation(store)

    @needs(Capability.INSPECT)
    def test_reads_inside_a_transaction_see_its_writes(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        with store.transaction([lease]) as tx:
            [sent] = tx.send(ORDERS, drafts("a"))
            assert look(store, sent).state is State.READY
            assert store.queue(ORDERS).counts.in_flight == 1
        assert look(store, sent).body == '"a"'

    def test_another_thread_gets_its_turn_afterwards(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        received: list[object] = []
        other = threading.Thread(target=lambda: received.extend(receive(store)))
        with store.transaction([lease]) as tx:
            other.start()
            tx.send(ORDERS, drafts("a", "b"))
            tx.settle([Completion(lease)], [])
        other.join(timeout=10)
        assert len(received) == 2

    @needs(Capability.INSPECT)
    def test_a_transaction_that_is_over_takes_no_writes(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        with store.transaction([lease]) as tx:
            pass
        with pytest.raises(Conflict, match="over"):
            tx.send(ORDERS, drafts("late"))
        with pytest.raises(Conflict, match="over"):
            tx.settle([Completion(lease)], [])
        assert look(store, lease.message_id).state is State.IN_FLIGHT
        assert store.queue(ORDERS).counters.sent == 1
        with store.transaction([lease]), pytest.raises(Conflict, match="over"):
            tx.send(ORDERS, drafts("into another"))
        assert complete(store, lease) == [Outcome.DONE]

    @needs(Capability.INSPECT)
    def test_another_thread_cannot_write_in_it(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        refused: list[Exception] = []

        def write() -> None:
            for call in (
                lambda: tx.send(ORDERS, drafts("x")),
                lambda: tx.settle([Completion(lease)], []),
            ):
                try:
                    call()
                except Conflict as error:
                    refused.append(error)

        with store.transaction([lease]) as tx:
            other = threading.Thread(target=write)
            other.start()
            other.join(timeout=10)
            tx.settle([Completion(lease)], [])
        assert [str(error) for error in refused] == [OTHER_THREAD] * 2
        assert store.queue(ORDERS).counters.sent == 1

    @needs(Capability.INSPECT)
    def test_a_connection_to_something_else_cannot_carry_a_message(self, store: FullStore) -> None:
        with pytest.raises(Unsupported):
            store.send(ORDERS, drafts("a"), connection=object())
        assert store.peek(ORDERS, 10) == []
        send(store)
        lease = take(store)
        with pytest.raises(Unsupported):
            store.settle_joining([Completion(lease)], [], connection=object())
        assert complete(store, lease) == [Outcome.DONE]
