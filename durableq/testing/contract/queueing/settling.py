"""Settling: a good receipt ends its lease in one way, any other changes nothing."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.message import Completion, Event, Outcome, Reason, Receipt, State
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    drafts,
    fail,
    failure,
    kill,
    look,
    needs,
    newest,
    receipt,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock, FakeRandom


def settle_in_each_way(store: FullStore, lease: Receipt) -> list[Outcome]:
    """Try every operation of the core that takes a receipt; return the outcomes."""
    return [
        *store.complete([Completion(lease)]),
        *store.complete([Completion(lease, None, "a key")]),
        *store.fail([(lease, failure())]),
        *store.release([lease]),
        *store.extend([lease], 1),
    ]


class SettlingContract(StoreCase):
    """The outcomes of a message when its owner settles it."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_completed_message_has_ended(self, store: FullStore) -> None:
        message_id = send(store)
        assert complete(store, take(store)) == [Outcome.DONE]
        assert store.message(message_id) is None
        assert store.history(message_id) == []
        assert store.queue(ORDERS).counters.completed == 1
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_stale_receipt_can_do_nothing(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store)
        stale = take(store)
        clock.advance(VISIBILITY_SECONDS)
        lease = take(store)
        before = (store.queues(), store.message(message_id), store.history(message_id))
        assert set(settle_in_each_way(store, stale)) == {Outcome.STALE}
        assert before == (store.queues(), store.message(message_id), store.history(message_id))
        assert complete(store, lease) == [Outcome.DONE]

    def test_the_receipt_of_a_message_that_went_back_is_stale(self, store: FullStore) -> None:
        send(store)
        released = take(store)
        assert store.release([released]) == [Outcome.DONE]
        assert set(settle_in_each_way(store, released)) == {Outcome.STALE}
        failed = take(store)
        fail(store, failed)
        assert set(settle_in_each_way(store, failed)) == {Outcome.STALE}

    def test_the_receipt_of_a_message_that_has_ended_is_gone(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        complete(store, lease)
        assert set(settle_in_each_way(store, lease)) == {Outcome.GONE}

    def test_the_receipt_of_a_message_that_died_is_stale(self, store: FullStore) -> None:
        send(store)
        lease = take(store)
        fail(store, lease, reason=Reason.REJECTED)
        take(store, DEAD)
        assert set(settle_in_each_way(store, lease)) == {Outcome.STALE}

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"queue": DEAD}, id="another queue"),
            pytest.param({"queue": "unknown"}, id="an unknown queue"),
            pytest.param({"token": "0" * 32}, id="an unknown token"),
        ],
    )
    def test_a_receipt_must_match_in_every_part(self, store: FullStore, changes: Any) -> None:
        send(store)
        forged = take(store)._replace(**changes)
        assert set(settle_in_each_way(store, forged)) == {Outcome.STALE}

    @pytest.mark.parametrize(
        "nonsense", ["0", "-1", "x", "", " 1", "01", "1_0", "²", "٣", "9" * 30, "1; drop"]
    )
    def test_a_receipt_that_names_no_message_is_gone(self, store: FullStore, nonsense: str) -> None:
        send(store)
        lease = take(store)
        assert set(settle_in_each_way(store, lease._replace(message_id=nonsense))) == {Outcome.GONE}

    def test_a_lease_that_ran_out_unnoticed_can_still_be_settled(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        lease = take(store)
        clock.advance(2 * VISIBILITY_SECONDS)
        assert complete(store, lease) == [Outcome.DONE]

    def test_a_receipt_survives_being_written_down(self, store: FullStore) -> None:
        send(store)
        assert complete(store, Receipt.parse(str(take(store)))) == [Outcome.DONE]

    @needs(Capability.INSPECT)
    def test_a_refused_receipt_does_not_hold_up_the_others(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        first, second, third = map(receipt, receive(store))
        complete(store, second)
        assert complete(store, first, second, third) == [Outcome.DONE, Outcome.GONE, Outcome.DONE]
        assert store.queue(ORDERS).counts.present == 0

    @needs(Capability.INSPECT)
    def test_a_receipt_given_twice_is_judged_twice(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        first, second, third = map(receipt, receive(store))
        assert complete(store, first, first) == [Outcome.DONE, Outcome.GONE]
        assert store.release([second, second]) == [Outcome.DONE, Outcome.STALE]
        outcomes = store.fail([(third, failure()), (third, failure())])
        assert outcomes == [Outcome.RETRY, Outcome.STALE]
        assert store.queue(ORDERS).counters.completed == 1

    @needs(Capability.INSPECT)
    def test_messages_of_several_receives_and_queues_settle_together(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        send(store)
        send(store, queue="mail")
        send(store)
        leases = [take(store), take(store, "mail"), take(store)]
        assert complete(store, *leases) == [Outcome.DONE] * 3
        assert store.queue(ORDERS).counters.completed == 2
        assert store.queue("mail").counters.completed == 1

    @needs(Capability.INSPECT)
    def test_the_backoff_of_a_failure_is_random(
        self, store: FullStore, clock: FakeClock, rng: FakeRandom
    ) -> None:
        message_id = send(store)
        assert fail(store, take(store)) is Outcome.RETRY
        seen = look(store, message_id)
        assert (seen.state, seen.receive_count) == (State.DELAYED, 1)
        assert seen.delayed_until_ms == clock.wall_ms() + 500
        clock.advance(0.5)
        rng.value = 0.25
        fail(store, take(store))
        assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 500
        assert rng.throws == 2

    def test_a_failure_without_a_wait_is_ready_at_once(
        self, store: FullStore, rng: FakeRandom
    ) -> None:
        rng.value = 0.0
        send(store)
        assert fail(store, take(store)) is Outcome.RETRY
        [message] = receive(store)
        assert message.receive_count == 2

    @needs(Capability.INSPECT)
    def test_a_handler_may_choose_the_wait(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store)
        fail(store, take(store), retry_in_ms=7_000)
        assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 7_000
        clock.advance(7)
        fail(store, take(store), retry_in_ms=0)
        assert look(store, message_id).state is State.READY

    @needs(Capability.INSPECT)
    def test_the_last_receive_ends_in_the_dead_letter_queue(self, store: FullStore) -> None:
        message_id = send(store)
        outcomes = [fail(store, take(store), retry_in_ms=0) for _ in range(3)]
        assert outcomes == [Outcome.RETRY, Outcome.RETRY, Outcome.BURIED]
        assert look(store, message_id).queue == DEAD

    @needs(Capability.DEAD_LETTERS)
    @pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.UNDECODABLE])
    def test_a_permanent_failure_buries_at_once(self, store: FullStore, reason: Reason) -> None:
        message_id = send(store)
        assert fail(store, take(store), reason=reason, retry_in_ms=0) is Outcome.BURIED
        assert story(store, message_id) == [("failed", reason), ("buried", reason)]

    @needs(Capability.DEAD_LETTERS)
    def test_a_failure_is_kept_whole_in_history(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store)
        fail(store, take(store))
        event = newest(store, message_id)
        assert (event.message_id, event.queue, event.event) == (message_id, ORDERS, Event.FAILED)
        assert (event.at_ms, event.actor) == (clock.wall_ms(), "worker-1")
        assert event.reason == Reason.HANDLER_ERROR
        assert (event.error_type, event.error_message) == ("ValueError", "no such order")
        assert (event.traceback, dict(event.detail)) == ("Traceback ...", {})

    def test_each_counted_failure_draws_one_random_number(
        self, store: FullStore, rng: FakeRandom
    ) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        first, second, third = map(receipt, receive(store))
        complete(store, second)
        failures = [(first, failure()), (second, failure()), (third, failure(Reason.REJECTED))]
        outcomes = store.fail(failures, actor="w")
        assert outcomes == [Outcome.RETRY, Outcome.GONE, Outcome.BURIED]
        assert rng.throws == 2

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_released_message_is_ready_and_uncounted(self, store: FullStore) -> None:
        message_id = send(store)
        assert store.release([take(store)]) == [Outcome.DONE]
        seen = look(store, message_id)
        assert (seen.state, seen.receive_count, seen.lease_left_ms) == (State.READY, 0, 0)
        assert store.history(message_id) == []
        [message] = receive(store)
        assert message.receive_count == 1

    def test_empty_batches_have_no_outcomes(self, store: FullStore) -> None:
        assert store.complete([]) == store.fail([]) == store.release([]) == []

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_a_buried_message_is_the_same_message_in_another_queue(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        sent_ms = clock.wall_ms()
        clock.advance(5)
        message_id = kill(store, {"n": 1}, key="k", attributes={"a": 1}, priority=3)
        dead = look(store, message_id)
        assert (dead.queue, dead.source_queue) == (DEAD, ORDERS)
        assert (dead.state, dead.receive_count, dead.recovery_count) == (State.READY, 0, 0)
        assert (dead.body, dead.key, dead.attributes) == ('{"n":1}', "k", '{"a":1}')
        assert dead.priority == 3
        assert dead.enqueued_at_ms == dead.sent_at_ms == sent_ms + 5_000
        assert store.record(ORDERS, "k") is None
        source, grave = store.queue(ORDERS).counters, store.queue(DEAD).counters
        assert (source.moved_out, grave.moved_in) == (1, 1)
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_failing_recovery_never_buries_again(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        for _ in range(5):
            assert fail(store, take(store, DEAD), reason=Reason.REJECTED) is Outcome.RETRY
            clock.advance(300)
        seen = look(store, message_id)
        assert (seen.queue, seen.receive_count) == (DEAD, 5)

    def test_a_released_dead_letter_is_offered_again(self, store: FullStore) -> None:
        kill(store)
        assert store.release([take(store, DEAD)]) == [Outcome.DONE]
        [dead_letter] = receive(store, queue=DEAD)
        assert dead_letter.receive_count == 1
