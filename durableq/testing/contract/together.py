"""Several operations in one transaction: settling of both kinds, group commit, and waiting."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import threading
import time

import pytest

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import MAX_WAIT_MS
from durableq.model.message import Completion, Outcome, Reason, Received, State
from durableq.store.core import Capability, Extend, Receive, Release, Send, Settle
from durableq.testing.contract.case import (
    DEAD,
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
from durableq.testing.fakes import FakeClock


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
    def test_calls_run_in_order_and_return_what_each_operation_returns(
        self, store: FullStore
    ) -> None:
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

    def test_an_idle_receive_says_when_a_message_may_come(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        assert store.receive(ORDERS, 1).wait_ms is None
        send(store, delay=3)
        assert store.receive(ORDERS, 1).wait_ms == 3_000
        clock.advance(1)
        assert store.receive(ORDERS, 1).wait_ms == 2_000
        clock.advance(2)
        assert len(store.receive(ORDERS, 1).messages) == 1

    def test_a_receive_waits_for_a_message(self, store: FullStore) -> None:
        sender = threading.Timer(0.1, send, [store])
        sender.start()
        received = store.receive(ORDERS, 1, wait_ms=MAX_WAIT_MS)
        sender.join()
        assert len(received.messages) == 1

    def test_a_receive_waits_no_longer_than_told(self, store: FullStore) -> None:
        start = time.monotonic()
        send(store, delay=3600)
        received = store.receive(ORDERS, 1, wait_ms=50)
        assert (received.messages, received.wait_ms) == ([], 3_600_000)
        assert time.monotonic() - start >= 0.05

    @pytest.mark.parametrize("wait_ms", [-1, MAX_WAIT_MS + 1])
    def test_a_wait_has_bounds(self, store: FullStore, wait_ms: int) -> None:
        with pytest.raises(InvalidInput):
            store.receive(DEAD, 1, wait_ms=wait_ms)
