"""Single messages: cancelled, delayed until another time, or made ready; or refused."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from durableq.model.decisions import Hold
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import MAX_DELAY_MS, MAX_ERROR_CHARS, MAX_RECEIVE_BATCH
from durableq.model.message import Event, Outcome, Refusal, State
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    decide,
    fail,
    kill,
    look,
    needs,
    newest,
    receive,
    send,
    story,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

Change = Callable[..., list[Refusal | None]]

MINUTE_MS: Final = 60_000


def cancel(store: FullStore, *ids: str, **options: Any) -> list[Refusal | None]:
    """Cancel messages."""
    return store.cancel(ids, **options)


def delay(store: FullStore, *ids: str, **options: Any) -> list[Refusal | None]:
    """Delay messages by a minute."""
    return store.reschedule(ids, delay_ms=MINUTE_MS, **options)


def run_now(store: FullStore, *ids: str, **options: Any) -> list[Refusal | None]:
    """Make messages ready."""
    return store.reschedule(ids, **options)


each = pytest.mark.parametrize("change", [cancel, delay, run_now])


@needs(Capability.CONTROL)
class SingleMessagesContract(StoreCase):
    """Operations on single messages by id."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_ready_and_delayed_messages_are_cancelled(self, store: FullStore) -> None:
        ready, delayed, left = send(store), send(store, delay=60), send(store, "left")
        assert store.cancel([ready, delayed], actor="ann") == [None, None]
        assert bodies(receive(store)) == ['"left"']
        assert store.message(ready) is store.message(delayed) is None
        event = newest(store, delayed)
        assert (event.event, event.queue, event.actor) == (Event.CANCELLED, ORDERS, "ann")
        assert store.queue(ORDERS).counters.cancelled == 2
        assert story(store, left) == []
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS)
    def test_a_note_is_the_reason_in_the_history(self, store: FullStore) -> None:
        cancelled, later, sooner = send(store), send(store), send(store, delay=60)
        store.cancel([cancelled], note="the customer said \u201cno\u201d\n\u2713")
        store.reschedule([later], delay_ms=60_000, note="after the sale")
        store.reschedule([sooner], note="")
        assert newest(store, cancelled).reason == "the customer said \u201cno\u201d\n\u2713"
        assert newest(store, later).reason == "after the sale"
        assert newest(store, sooner).reason == ""

    @pytest.mark.parametrize("note", ["x" * (MAX_ERROR_CHARS + 1), "a\0b", "\udcff"])
    @needs(Capability.INSPECT)
    def test_an_impossible_note_is_refused_and_nothing_changes(
        self, store: FullStore, note: str
    ) -> None:
        message_id = send(store)
        before = look(store, message_id)
        for change in (store.cancel, store.reschedule):
            with pytest.raises(InvalidInput, match="A note has"):
                change([message_id], note=note)
        assert look(store, message_id) == before

    @each
    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_message_in_flight_is_refused(self, store: FullStore, change: Change) -> None:
        message_id = send(store)
        lease = take(store)
        assert change(store, message_id) == [Refusal.IN_FLIGHT]
        assert look(store, message_id).state is State.IN_FLIGHT
        assert story(store, message_id) == []
        assert complete(store, lease) == [Outcome.DONE]

    @each
    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_dead_letters_are_refused_in_any_state(self, store: FullStore, change: Change) -> None:
        held = kill(store)
        decide(store, Hold("ask"))
        waits = kill(store)
        fail(store, take(store, DEAD), retry_in_ms=60_000)
        leased = kill(store)
        take(store, DEAD)
        ready = kill(store)
        before = [look(store, one) for one in (held, waits, leased, ready)]
        refusals = [Refusal.HELD, Refusal.DEAD, Refusal.DEAD, Refusal.DEAD]
        for queue in (None, ORDERS, DEAD):
            assert change(store, held, waits, leased, ready, queue=queue) == refusals
        assert [look(store, one) for one in (held, waits, leased, ready)] == before

    @each
    def test_a_message_that_is_not_there_is_refused(self, store: FullStore, change: Change) -> None:
        ended = send(store)
        complete(store, take(store))
        ids = [ended, "0", "-1", "x", "", "²", "9" * 30, " 1"]
        assert change(store, *ids) == [Refusal.UNKNOWN] * len(ids)

    @each
    @needs(Capability.INSPECT)
    def test_only_messages_of_the_named_queue_are_changed(
        self, store: FullStore, change: Change
    ) -> None:
        store.declare_queue("mail", {})
        mine, other = send(store, delay=5), send(store, queue="mail", delay=5)
        before = look(store, other)
        assert change(store, other, mine, queue=ORDERS) == [Refusal.ELSEWHERE, None]
        assert look(store, other) == before
        with pytest.raises(UnknownQueue):
            change(store, mine, queue="unknown")

    @each
    @needs(Capability.INSPECT)
    def test_those_that_are_refused_stop_no_other(self, store: FullStore, change: Change) -> None:
        store.declare_queue("mail", {})
        leased = send(store)
        take(store)
        free, other = send(store, delay=5), send(store, queue="mail", delay=5)
        dead = kill(store)
        before = [look(store, one) for one in (free, other)]
        answer = change(store, leased, free, dead, "7", free, other)
        assert answer == [Refusal.IN_FLIGHT, None, Refusal.DEAD, Refusal.UNKNOWN, None, None]
        for message in before:
            assert store.message(message.id) != message
        assert counters_reconcile(store)

    @each
    def test_no_ids_change_nothing_and_too_many_are_refused(
        self, store: FullStore, change: Change
    ) -> None:
        assert change(store) == []
        with pytest.raises(InvalidInput, match="at most 1000 messages"):
            change(store, *map(str, range(MAX_RECEIVE_BATCH + 1)))
        with pytest.raises(InvalidInput, match="is a string"):
            change(store, 1)

    @each
    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_lease_that_has_ended_is_taken_back_first(
        self, store: FullStore, clock: FakeClock, change: Change
    ) -> None:
        message_id = send(store, key="k")
        stale = take(store)
        clock.advance(VISIBILITY_SECONDS)
        assert change(store, message_id) == [None]
        assert complete(store, stale) != [Outcome.DONE]
        assert story(store, message_id)[0] == ("lease_expired", "lease_expired")
        assert counters_reconcile(store)

    @each
    @needs(Capability.INSPECT)
    def test_a_message_that_dies_when_its_lease_is_taken_back_is_refused(
        self, store: FullStore, clock: FakeClock, change: Change
    ) -> None:
        store.declare_queue(ORDERS, {"max_receives": 1})
        message_id = send(store)
        take(store)
        clock.advance(VISIBILITY_SECONDS)
        assert change(store, message_id) == [Refusal.DEAD]
        assert look(store, message_id).queue == DEAD

    # ---- another time

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_ready_message_is_delayed_until_its_new_time(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store)
        assert store.reschedule([message_id], delay_ms=2_500, actor="ann") == [None]
        message = look(store, message_id)
        assert message.state is State.DELAYED
        assert message.delayed_until_ms == clock.wall_ms() + 2_500
        event = newest(store, message_id)
        assert (event.event, event.actor) == (Event.RESCHEDULED, "ann")
        assert dict(event.detail) == {"delay_ms": 2_500}
        clock.advance(2.4)
        assert receive(store) == []
        assert store.ready_in_ms([ORDERS]) == 100
        clock.advance(0.1)
        assert [m.id for m in receive(store)] == [message_id]
        assert counters_reconcile(store)

    def test_a_delayed_message_comes_sooner_or_later(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        sooner, later = send(store, "sooner", delay=60), send(store, "later", delay=1)
        assert store.reschedule([sooner], delay_ms=500) == [None]
        assert store.reschedule([later], at_ms=clock.wall_ms() + 3_000) == [None]
        clock.advance(1)
        assert bodies(receive(store)) == ['"sooner"']
        clock.advance(2)
        assert bodies(receive(store)) == ['"later"']

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_message_that_waits_for_its_retry_runs_now_and_nothing_is_counted(
        self, store: FullStore
    ) -> None:
        message_id = send(store)
        fail(store, take(store), retry_in_ms=60_000)
        before = store.queue(ORDERS).counters
        assert store.reschedule([message_id], actor="ann") == [None]
        assert look(store, message_id).receive_count == 1
        [message] = receive(store)
        assert (message.id, message.receive_count) == (message_id, 2)
        assert store.queue(ORDERS).counters == before
        assert (newest(store, message_id).event, newest(store, message_id).actor) == (
            Event.RESCHEDULED,
            "ann",
        )

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_ready_message_that_stays_ready_does_not_change(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first, second = send(store), send(store)
        before = look(store, first)
        clock.advance(1)
        assert store.reschedule([first]) == [None]
        assert store.reschedule([first], at_ms=clock.wall_ms() - 5_000) == [None]
        assert look(store, first) == before
        assert story(store, first) == []
        assert [m.id for m in receive(store)] == [first, second]

    def test_a_time_in_the_past_makes_a_message_ready(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, delay=60)
        assert store.reschedule([message_id], at_ms=clock.wall_ms() - 1) == [None]
        assert [m.id for m in receive(store)] == [message_id]

    def test_retention_counts_from_the_new_time(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 10_000})
        late, now = send(store, "late"), send(store, "now", delay=60)
        store.reschedule([late], delay_ms=30_000)
        clock.advance(9)
        store.reschedule([now])
        clock.advance(9.9)
        assert bodies(receive(store)) == ['"now"']
        clock.advance(20)
        assert bodies(receive(store)) == ['"late"']

    @pytest.mark.parametrize("delay_ms", [-1, MAX_DELAY_MS + 1, 0.5, None, True])
    def test_a_delay_out_of_bounds_is_refused(self, store: FullStore, delay_ms: Any) -> None:
        message_id = send(store)
        with pytest.raises(InvalidInput, match="The delay of a message in ms"):
            store.reschedule([message_id], delay_ms=delay_ms)
        assert [m.id for m in receive(store)] == [message_id]

    def test_a_time_too_far_ahead_is_refused(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store)
        with pytest.raises(InvalidInput, match="at most 366 days"):
            store.reschedule([message_id], at_ms=clock.wall_ms() + MAX_DELAY_MS + 1)
        assert [m.id for m in receive(store)] == [message_id]

    @needs(Capability.INSPECT)
    @jumps
    def test_a_date_is_meant_as_the_wall_clock_has_it(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        message_id = send(store)
        set_ahead(clock, jump_ms)
        store.reschedule([message_id], at_ms=clock.wall_ms() + 5_000)
        assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 5_000
        clock.advance(4.9)
        assert receive(store) == []
        clock.advance(0.1)
        assert [m.id for m in receive(store)] == [message_id]

    # ---- keys

    @needs(Capability.IDEMPOTENCY)
    def test_no_message_waits_for_the_key_of_a_cancelled_one(self, store: FullStore) -> None:
        first, second = send(store, "a", key="k"), send(store, "a", key="k")
        lease = take(store)
        assert store.receive(ORDERS, 1).set_aside == 1  # the second waits behind the first
        fail(store, lease, retry_in_ms=60_000)
        assert cancel(store, first) == [None]
        assert store.record(ORDERS, "k") is None
        [message] = receive(store)
        assert message.id == second

    @needs(Capability.INSPECT)
    def test_a_message_behind_a_key_can_be_cancelled(self, store: FullStore) -> None:
        send(store, key="k")
        lease = take(store)
        second, third = send(store, key="k"), send(store, key="k")
        assert store.receive(ORDERS, 1).set_aside == 2
        assert cancel(store, second) == [None]
        assert complete(store, lease) == [Outcome.DONE]
        received = store.receive(ORDERS, 10)
        assert [duplicate.message_id for duplicate in received.duplicates] == [third]
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_message_behind_a_key_does_not_run_before_it_is_settled(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, key="k")
        lease = take(store)
        second = send(store, key="k")
        assert store.receive(ORDERS, 1).set_aside == 1
        before = look(store, second)
        assert run_now(store, second) == [Refusal.DEFERRED]
        assert store.reschedule([second], at_ms=clock.wall_ms()) == [Refusal.DEFERRED]
        assert look(store, second) == before
        assert story(store, second) == []
        fail(store, lease, retry_in_ms=60_000)
        assert [m.id for m in receive(store)] == [second]

    @needs(Capability.INSPECT)
    def test_a_rescheduled_message_behind_a_key_comes_at_its_time_and_stays_behind_it(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, key="k")
        lease = take(store, visibility_ms=100_000)
        second, third = send(store, key="k"), send(store, key="k")
        assert store.receive(ORDERS, 1).set_aside == 2
        assert store.reschedule([second], delay_ms=10_000) == [None]
        assert store.reschedule([third], delay_ms=200_000) == [None]
        later = look(store, third)
        clock.advance(10)
        assert store.receive(ORDERS, 1).set_aside == 1  # its time has come, its key has not
        fail(store, lease, retry_in_ms=300_000)
        assert [m.id for m in receive(store)] == [second]
        assert look(store, third) == later
