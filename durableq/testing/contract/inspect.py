"""Monitoring: a person looks, and nothing changes."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.decisions import Hold
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import MAX_HISTORY
from durableq.model.message import Event, State
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    drafts,
    fail,
    kill,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


class InspectContract(StoreCase):
    """The queries of the Inspect capability."""

    @needs(Capability.INSPECT)
    def test_peeking_shows_every_state_in_order_of_id(self, store: FullStore) -> None:
        send(store, 1, priority=-1)
        send(store, 2, delay=10)
        send(store, 3)
        take(store)
        states = [message.state for message in store.peek(ORDERS, 10)]
        assert states == [State.READY, State.DELAYED, State.IN_FLIGHT]

    @needs(Capability.INSPECT)
    def test_peeking_goes_page_by_page(self, store: FullStore) -> None:
        ids = store.send(ORDERS, drafts(*range(12)))
        seen: list[str] = []
        while page := store.peek(ORDERS, 5, after_id=seen[-1] if seen else None):
            seen += [message.id for message in page]
        assert seen == ids

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("after_id", ["", "x", "-1", "1e3", "9" * 30])
    def test_peeking_after_what_is_no_id_is_refused(self, store: FullStore, after_id: str) -> None:
        with pytest.raises(InvalidInput, match="is not a message id"):
            store.peek(ORDERS, 5, after_id=after_id)

    @needs(Capability.INSPECT)
    def test_peeking_receives_nothing(self, store: FullStore, clock: FakeClock) -> None:
        send(store, delay=1)
        clock.advance(1)
        [before] = store.peek(ORDERS, 1)
        assert (before.state, before.receive_count) == (State.DELAYED, 0)
        assert store.peek(ORDERS, 1) == [before]
        assert before.receipt is None

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_peeking_into_a_queue_nobody_made_is_refused(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.peek("nobody", 1)
        with pytest.raises(UnknownQueue):
            store.records("nobody", 1)

    @needs(Capability.INSPECT)
    def test_the_rest_of_a_lease_is_never_negative(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store)
        take(store)
        clock.advance(10)
        assert look(store, message_id).lease_left_ms == 20_000
        clock.advance(VISIBILITY_SECONDS)
        assert look(store, message_id).lease_left_ms == 0

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @pytest.mark.parametrize("message_id", ["0", "12", "x", "", "-1", "²", "٣", "9" * 30])
    def test_a_message_nobody_sent_is_not_there(self, store: FullStore, message_id: str) -> None:
        send(store)
        assert store.message(message_id) is None
        assert store.history(message_id) == []
        assert store.dead_letter(message_id) is None

    @needs(Capability.DEAD_LETTERS)
    def test_history_keeps_the_newest_events(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"max_receives": 1000})
        message_id = send(store)
        for _ in range(MAX_HISTORY + 2):
            fail(store, take(store), retry_in_ms=0)
            clock.advance(1)
        events = store.history(message_id)
        assert len(events) == MAX_HISTORY
        assert events[-1].at_ms == clock.wall_ms() - 1_000
        assert events[0].at_ms == clock.wall_ms() - 1_000 * MAX_HISTORY

    @needs(Capability.DEAD_LETTERS)
    def test_a_dead_letter_with_an_endless_history_is_still_one(self, store: FullStore) -> None:
        message_id = kill(store)
        for _ in range(MAX_HISTORY):
            fail(store, take(store, DEAD), retry_in_ms=0)
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert {event.event for event in dead_letter.history} == {Event.FAILED}
        assert dead_letter.died_at_ms == dead_letter.message.enqueued_at_ms

    @needs(Capability.INSPECT)
    def test_counts_tell_the_states_apart(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        send(store, 4, delay=10)
        first, _ = receive(store, 2)
        fail(store, receipt(first))
        counts = store.queue(ORDERS).counts
        assert (counts.ready, counts.delayed, counts.in_flight, counts.held) == (1, 2, 1, 0)
        assert counts.present == store.queue(ORDERS).counters.expected == 4

    def test_nothing_is_in_sight_in_an_empty_queue(self, store: FullStore) -> None:
        assert store.ready_in_ms([ORDERS, DEAD]) is None
        assert store.ready_in_ms([]) is None

    def test_what_is_ready_is_there_at_once(self, store: FullStore) -> None:
        send(store, delay=10)
        send(store)
        assert store.ready_in_ms([ORDERS]) == 0

    def test_what_is_delayed_can_be_waited_for(self, store: FullStore, clock: FakeClock) -> None:
        send(store, delay=10)
        send(store, delay=2.5)
        assert store.ready_in_ms([ORDERS]) == 2_500
        clock.advance(2)
        assert store.ready_in_ms([ORDERS]) == 500
        clock.set_wall(clock.wall_ms() + 499)
        assert store.ready_in_ms([ORDERS]) == 1
        clock.advance(60)
        assert store.ready_in_ms([ORDERS]) == 0
        assert len(receive(store)) == 2

    def test_a_lease_that_will_end_can_be_waited_for(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, delay=40)
        send(store)
        take(store)
        assert store.ready_in_ms([ORDERS]) == VISIBILITY_SECONDS * 1000
        clock.set_wall(clock.wall_ms() - 1_000)  # a lease does not mind, a delay does
        assert store.ready_in_ms([ORDERS]) == VISIBILITY_SECONDS * 1000
        clock.advance(VISIBILITY_SECONDS + 1)
        assert store.ready_in_ms([ORDERS]) == 0

    def test_what_waits_for_its_key_is_ready_with_it(self, store: FullStore) -> None:
        send(store, key="k")
        send(store, key="k")
        lease = take(store, visibility_ms=7_000)
        assert store.receive(ORDERS, 1).set_aside == 1
        assert store.ready_in_ms([ORDERS]) == 7_000
        complete(store, lease)
        assert store.ready_in_ms([ORDERS]) == 0

    @needs(Capability.DEAD_LETTERS)
    def test_a_held_dead_letter_is_never_in_sight(self, store: FullStore) -> None:
        kill(store)
        assert store.ready_in_ms([DEAD]) == 0
        store.decide([(take(store, DEAD), Hold())])
        assert store.ready_in_ms([DEAD]) is None
        kill(store)
        fail(store, take(store, DEAD), retry_in_ms=3_000)
        assert store.ready_in_ms([DEAD]) == 3_000

    def test_of_several_queues_the_first_counts(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, delay=10)
        send(store, queue="mail", delay=3)
        assert store.ready_in_ms([ORDERS]) == 10_000
        assert store.ready_in_ms([ORDERS, "mail"]) == store.ready_in_ms(["mail"]) == 3_000
        assert store.ready_in_ms([DEAD]) is None

    def test_nothing_can_be_in_sight_in_a_queue_nobody_made(self, store: FullStore) -> None:
        send(store)
        with pytest.raises(UnknownQueue):
            store.ready_in_ms([ORDERS, "nobody"])

    @needs(Capability.IDEMPOTENCY)
    def test_keys_are_counted_by_what_they_are(self, store: FullStore) -> None:
        send(store, 1, key="done")
        complete(store, take(store))
        send(store, 1, key="now")
        send(store, 1, key="now")
        take(store)
        kill(store, 1, key="dead")
        counted = store.key_counts()
        assert (counted.in_progress, counted.completed) == (1, 1)

    @needs(Capability.INSPECT)
    def test_storage_says_what_it_is(self, store: FullStore) -> None:
        send(store, "x" * 1000)
        storage = store.storage()
        assert storage.engine
        assert storage.version
        assert storage.durability in {"full", "normal", "none"}
        assert storage.size_bytes >= 0
        assert storage.log_bytes >= 0
