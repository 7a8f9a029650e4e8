"""Decisions: no dead letter leaves without one, and each is recorded."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from datetime import timedelta

import pytest

from durableq.model.decisions import Decision, Discard, Hold, Release, Requeue, Retry
from durableq.model.errors import Conflict, InvalidBody, InvalidInput
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.model.message import FOREVER_MS, Event, Outcome, State
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    counters_reconcile,
    decide,
    fail,
    kill,
    look,
    needs,
    newest,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.DEAD_LETTERS)
class DecisionsContract(StoreCase):
    """The promises to recovery."""

    @needs(Capability.INSPECT)
    def test_a_discarded_dead_letter_has_ended(self, store: FullStore, clock: FakeClock) -> None:
        message_id = kill(store)
        clock.advance(1)
        assert decide(store, Discard("never valid")) is Outcome.DONE
        assert store.message(message_id) is None
        event = newest(store, message_id)
        assert (event.event, event.queue) == (Event.DISCARDED, DEAD)
        assert (event.reason, event.actor) == ("never valid", "recovery:1")
        assert (event.at_ms, dict(event.detail)) == (clock.wall_ms(), {"recovery_count": 0})
        assert store.queue(DEAD).counters.discarded == 1
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_requeued_dead_letter_starts_anew(self, store: FullStore, clock: FakeClock) -> None:
        message_id = kill(store, {"n": 1}, key="k", priority=2)
        clock.advance(60)
        assert decide(store, Requeue("it was the network")) is Outcome.DONE
        event = newest(store, message_id)
        assert (event.event, event.queue) == (Event.REQUEUED, DEAD)
        assert (event.reason, dict(event.detail)) == ("it was the network", {"recovery_count": 1})
        [message] = receive(store)
        assert (message.id, message.source_queue, message.body) == (message_id, None, '{"n":1}')
        assert (message.receive_count, message.recovery_count, message.generation) == (1, 1, 2)
        assert (message.key, message.priority) == ("k", 2)
        assert message.enqueued_at_ms == message.sent_at_ms + 60_000 == clock.wall_ms()
        assert store.dead_letter(message_id) is None
        source, grave = store.queue(ORDERS).counters, store.queue(DEAD).counters
        assert (source.moved_in, grave.moved_out) == (1, 1)
        assert counters_reconcile(store)

    def test_a_retried_dead_letter_has_a_changed_body(self, store: FullStore) -> None:
        message_id = kill(store, {"n": 1})
        assert decide(store, Retry({"n": 2}, "smaller")) is Outcome.DONE
        assert newest(store, message_id).event is Event.RETRIED
        assert bodies(receive(store)) == ['{"n":2}']

    def test_a_retried_body_may_be_bytes(self, store: FullStore) -> None:
        kill(store, {"n": 1})
        decide(store, Retry(b"\x00"))
        assert bodies(receive(store)) == [b"\x00"]

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize(
        "decision",
        [Requeue(delay=2.5), Retry("b", delay=2.5), Requeue(delay=timedelta(seconds=2.5))],
    )
    def test_a_decision_may_delay_a_message(
        self, store: FullStore, clock: FakeClock, decision: Decision
    ) -> None:
        message_id = kill(store)
        decide(store, decision)
        seen = look(store, message_id)
        assert (seen.queue, seen.state) == (ORDERS, State.DELAYED)
        assert seen.delayed_until_ms == clock.wall_ms() + 2_500

    @needs(Capability.INSPECT)
    def test_a_changed_body_over_the_limit_is_refused_whole(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 6})
        ids = [kill(store), kill(store)]
        first, second = map(receipt, receive(store, queue=DEAD))
        with pytest.raises(InvalidBody):
            store.decide([(first, Discard("x")), (second, Retry("12345"))])
        assert all(look(store, message_id).state is State.IN_FLIGHT for message_id in ids)
        assert store.queue(DEAD).counters.discarded == 0

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("decision", [Retry({1, 2}), Requeue(delay=-1), Retry(1, delay=1e12)])
    def test_a_decision_that_cannot_be_applied_is_refused(
        self, store: FullStore, decision: Decision
    ) -> None:
        message_id = kill(store)
        with pytest.raises(InvalidInput):
            decide(store, decision)
        assert look(store, message_id).state is State.IN_FLIGHT

    @needs(Capability.INSPECT, Capability.MAINTENANCE)
    def test_a_held_dead_letter_waits_for_a_person(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        assert decide(store, Hold("ask Ann")) is Outcome.DONE
        seen = look(store, message_id)
        assert (seen.held, seen.delayed_until_ms) == (True, FOREVER_MS)
        event = newest(store, message_id)
        assert (event.event, event.reason) == (Event.HELD, "ask Ann")
        counts = store.queue(DEAD).counts
        assert (counts.held, counts.delayed, counts.present) == (1, 0, 1)
        clock.advance(10 * 365 * 24 * 3600)
        assert store.receive(DEAD, 10).idle
        assert store.prune().expired == 0

    @needs(Capability.INSPECT, Capability.MAINTENANCE)
    def test_a_released_dead_letter_is_received_again(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        decide(store, Hold("ask Ann"))
        clock.advance(10 * 365 * 24 * 3600)
        assert store.decide_by_id(DEAD, [message_id], Release("Ann knows"), actor="ann") == [
            message_id
        ]
        seen = look(store, message_id)
        assert (seen.held, seen.state, seen.source_queue) == (False, State.READY, ORDERS)
        event = newest(store, message_id)
        assert (event.event, event.queue) == (Event.RELEASED, DEAD)
        assert (event.reason, event.actor) == ("Ann knows", "ann")
        assert dict(event.detail) == {"recovery_count": 0}
        assert counters_reconcile(store)
        assert store.prune().expired == 0
        assert [message.id for message in receive(store, queue=DEAD)] == [message_id]

    @needs(Capability.INSPECT)
    def test_dead_letters_are_leased_by_id_in_order_of_id(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        held = kill(store, "held")
        decide(store, Hold())
        delayed = kill(store, "delayed")
        fail(store, take(store, DEAD), retry_in_ms=1000)
        kill(store, "not chosen")
        ready = kill(store, "ready")
        ids = [ready, held, delayed, "nonsense", "٣", "9" * 30]
        leased = store.lease_dead_letters(DEAD, ids)
        assert bodies(leased) == ['"held"', '"delayed"', '"ready"']
        for message in leased:
            assert (message.state, message.delayed_until_ms) == (State.IN_FLIGHT, 0)
            assert not look(store, message.id).held
        assert bodies(receive(store, queue=DEAD)) == ['"not chosen"']

    def test_a_leased_dead_letter_cannot_be_leased_by_id(self, store: FullStore) -> None:
        message_id = kill(store)
        take(store, DEAD)
        assert store.lease_dead_letters(DEAD, [message_id]) == []

    @needs(Capability.INSPECT)
    def test_too_many_ids_lease_no_dead_letter(self, store: FullStore) -> None:
        message_id = kill(store)
        decide(store, Hold())
        with pytest.raises(InvalidInput):
            store.lease_dead_letters(DEAD, [message_id] * (MAX_RECEIVE_BATCH + 1))
        assert look(store, message_id).held
        assert store.lease_dead_letters(DEAD, []) == []

    def test_a_dead_letter_is_leased_by_id_even_after_its_retention(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        decide(store, Hold())
        store.declare_queue(DEAD, {"retention_ms": 1000})
        clock.advance(10)
        [message] = store.lease_dead_letters(DEAD, [message_id])
        assert message.id == message_id

    @needs(Capability.INSPECT)
    def test_retention_ends_dead_letters_too(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(DEAD, {"retention_ms": 1000})
        message_id = kill(store)
        clock.advance(1)
        assert store.receive(DEAD, 1).set_aside == 1
        assert store.message(message_id) is None
        assert newest(store, message_id).queue == DEAD

    @needs(Capability.INSPECT)
    def test_a_decision_needs_a_dead_letter(self, store: FullStore) -> None:
        kill(store)
        dead_letter = take(store, DEAD)
        living_id = send(store)
        living = take(store)
        with pytest.raises(Conflict, match="not a dead letter"):
            store.decide([(dead_letter, Discard("x")), (living, Discard("x"))])
        assert look(store, dead_letter.message_id).state is State.IN_FLIGHT
        assert look(store, living_id).state is State.IN_FLIGHT

    def test_a_stale_receipt_cannot_decide(self, store: FullStore, clock: FakeClock) -> None:
        kill(store)
        stale = take(store, DEAD)
        clock.advance(VISIBILITY_SECONDS)
        lease = take(store, DEAD)
        decisions: list[Decision] = [Discard("x"), Retry(1), Requeue(), Hold()]
        for decision in decisions:
            assert store.decide([(stale, decision)]) == [Outcome.STALE]
        assert store.decide([(lease, Hold()), (lease, Hold())]) == [Outcome.DONE, Outcome.STALE]
        assert store.decide([]) == []

    @needs(Capability.INSPECT)
    def test_a_dead_letter_is_decided_once(self, store: FullStore) -> None:
        kill(store)
        lease = take(store, DEAD)
        outcomes = store.decide([(lease, Discard("x")), (lease, Requeue())])
        assert outcomes == [Outcome.DONE, Outcome.GONE]
        assert store.queue(ORDERS).counters.moved_in == 0

    @needs(Capability.INSPECT)
    def test_dead_letters_are_decided_by_id_in_one_step_held_ones_too(
        self, store: FullStore
    ) -> None:
        held, free, taken = kill(store, 1), kill(store, 2), kill(store, 3)
        (receipt_of_held,) = map(receipt, store.lease_dead_letters(DEAD, [held]))
        store.decide([(receipt_of_held, Hold("ask Ann"))])
        store.lease_dead_letters(DEAD, [taken])
        ids = [held, free, taken, "999"]
        assert sorted(store.decide_by_id(DEAD, ids, Requeue("again"))) == sorted([held, free])
        assert look(store, taken).state is State.IN_FLIGHT
        assert {message.id for message in store.peek(ORDERS, 10)} == {held, free}

    @needs(Capability.INSPECT)
    def test_a_dead_letter_whose_decision_by_id_is_refused_is_held_as_before(
        self, store: FullStore
    ) -> None:
        held = kill(store)
        decide(store, Hold("ask Ann"))
        with pytest.raises(InvalidInput):
            store.decide_by_id(DEAD, [held], Requeue(delay=-1))
        assert look(store, held).held

    @needs(Capability.INSPECT)
    def test_a_living_message_cannot_be_leased_by_id(self, store: FullStore) -> None:
        message_id = send(store)
        assert store.lease_dead_letters(ORDERS, [message_id]) == []
        assert look(store, message_id).state is State.READY

    def test_dead_letters_of_a_paused_queue_are_leased_by_id(self, store: FullStore) -> None:
        message_id = kill(store)
        store.declare_queue(DEAD, {"paused": 1})
        assert store.receive(DEAD, 1).idle
        assert len(store.lease_dead_letters(DEAD, [message_id])) == 1
