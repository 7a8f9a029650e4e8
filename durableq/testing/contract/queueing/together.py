"""Several operations in one transaction: settling of both kinds, and group commit."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.message import Completion, Outcome, Reason, Received, State
from durableq.store.core import Capability, Extend, Receive, Release, Send, Settle
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
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


class TogetherContract(StoreCase):
    """Batches of unlike operations."""

    @needs(Capability.INSPECT)
    def test_completions_and_failures_settle_in_one_call(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        first, second, third = map(receipt, receive(store))
        failures = [(second, failure()), (third, failure(Reason.REJECTED))]
        outcomes = store.settle([Completion(first)], failures, actor="w")
        assert outcomes == [Outcome.DONE, Outcome.RETRY, Outcome.BURIED]
        assert store.settle([Completion(first)], [(third, failure())]) == [
            Outcome.GONE,
            Outcome.STALE,
        ]
        assert counters_reconcile(store)

    def test_nothing_to_settle_has_no_outcomes(self, store: FullStore) -> None:
        assert store.settle([], []) == []
        assert store.together([]) == []

    @needs(Capability.INSPECT)
    def test_calls_run_in_order_and_return_the_result_of_each(self, store: FullStore) -> None:
        lease = take(store) if send(store) else None
        assert lease is not None
        sent, received, extended, settled = store.together(
            [
                Send(ORDERS, drafts("b")),
                Receive(ORDERS, 10),
                Extend([lease], 60_000),
                Settle([Completion(lease)]),
            ]
        )
        assert isinstance(received, Received)
        assert [message.id for message in received.messages] == sent
        assert (extended, settled) == ([Outcome.DONE], [Outcome.DONE])
        leases = [receipt(message) for message in received.messages]
        assert store.together([Release(leases)]) == [[Outcome.DONE]]
        assert look(store, leases[0].message_id).state is State.READY
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_call_that_fails_is_undone_alone(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 8})
        before, refused, unknown, after = store.together(
            [
                Send(ORDERS, drafts(1)),
                Send(ORDERS, drafts(2, "too long for this queue")),
                Send("no-such-queue", drafts(3)),
                Send(ORDERS, drafts(4)),
            ]
        )
        assert isinstance(refused, InvalidInput)
        assert isinstance(unknown, UnknownQueue)
        assert isinstance(before, list)
        assert isinstance(after, list)
        assert [message.id for message in store.peek(ORDERS, 10)] == [*before, *after]
        assert store.queue(ORDERS).counters.sent == 2
        assert counters_reconcile(store)
