"""A wall clock that jumps: nothing is lost, nothing comes early, nothing is held up for ever."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Hold, Requeue
from durableq.model.limits import DAY_MS, HOUR_MS
from durableq.model.message import Outcome, State, draft
from durableq.runtime.steady_clock import JUMP_MS
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    fail,
    kill,
    look,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.contract.dead_letters import decide
from durableq.testing.fakes import FakeClock

YEAR_MS = 366 * DAY_MS
WEEKS_MS = 21 * DAY_MS
RETENTION_SECONDS = 14 * 86_400
#: The settings of a queue with defaults.
TTL_SECONDS = 86_400

jumps = pytest.mark.parametrize(
    "jump_ms",
    [JUMP_MS + 1, DAY_MS, YEAR_MS, -JUMP_MS - 1, -WEEKS_MS],
    ids=["31 s ahead", "a day ahead", "a year ahead", "31 s back", "three weeks back"],
)


def set_ahead(clock: FakeClock, by_ms: int) -> None:
    """Set the wall clock, forward or back, while the boot clock goes on."""
    clock.set_wall(clock.wall_ms() + by_ms)


def upkeep(store: FullStore, clock: FakeClock) -> Iterator[object]:
    """Run every operation that may remove a row, and return the removed rows."""
    for _ in range(3):
        yield store.prune()
        yield store.maintain()
        clock.advance(1)


def counts(store: FullStore) -> list[tuple[str, int, int]]:
    """Return each queue's messages that are there, and those that expired."""
    return [(q.name, q.counts.present, q.counters.expired) for q in store.queues()]


class ClockJumpsContract(StoreCase):
    """The behaviour of a store when the wall clock is set."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT, Capability.MAINTENANCE)
    @jumps
    def test_a_jump_expires_no_message_in_any_state(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        kill(store, "a dead letter")
        decide(store, Hold())
        kill(store, "another")
        send(store, "failed once")
        fail(store, take(store), retry_in_ms=HOUR_MS)
        send(store, "delayed", delay=3600)
        send(store, "leased", key="k")
        send(store, "deferred", key="k")
        take(store)
        assert store.receive(ORDERS, 10).set_aside == 1
        send(store, "ready")
        before = counts(store)
        for _ in range(2):
            set_ahead(clock, jump_ms)
            list(upkeep(store, clock))
            assert counts(store) == before
            jump_ms = -jump_ms
        assert bodies(receive(store)) == ['"ready"']
        assert counters_reconcile(store)

    @needs(Capability.IDEMPOTENCY, Capability.DEAD_LETTERS, Capability.MAINTENANCE)
    @jumps
    def test_a_record_that_only_a_jump_would_expire_still_counts_as_completed(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        send(store, key="k")
        complete(store, take(store), result="7")
        for _ in range(2):
            set_ahead(clock, jump_ms)
            assert [record.key for record in store.records(ORDERS, 10)] == ["k"]
            assert store.record(ORDERS, "k") is not None
            list(upkeep(store, clock))
            send(store, key="k")
            received = store.receive(ORDERS, 1)
            assert (received.messages, [d.result for d in received.duplicates]) == ([], ["7"])
            jump_ms = -jump_ms
        assert store.forget(ORDERS, "k")

    @needs(Capability.DEAD_LETTERS, Capability.CONTROL, Capability.MAINTENANCE)
    @jumps
    def test_history_outlives_a_jump(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        ended = kill(store)
        store.purge(DEAD)
        set_ahead(clock, jump_ms)
        list(upkeep(store, clock))
        assert [event.event.value for event in store.history(ended)] == ["failed", "buried"]

    @needs(
        Capability.IDEMPOTENCY, Capability.DEAD_LETTERS, Capability.INSPECT, Capability.MAINTENANCE
    )
    @jumps
    def test_messages_live_their_lifetime_through_jumps(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        """Neither shorter nor, to a few seconds, longer: no jump keeps anything for ever."""
        send(store, "old")
        send(store, "new", key="k", priority=1)
        complete(store, take(store))
        for seconds in (TTL_SECONDS - 100, RETENTION_SECONDS - TTL_SECONDS):
            set_ahead(clock, jump_ms)
            store.prune()
            clock.advance(seconds)
            set_ahead(clock, -jump_ms)
            store.maintain()
            assert store.prune().expired == 0
        assert store.record(ORDERS, "k") is None
        clock.advance(100 + 2 * JUMP_MS / 1000)
        store.prune()
        assert store.queue(ORDERS).counters.expired == 1

    @needs(Capability.DEAD_LETTERS, Capability.MAINTENANCE)
    @jumps
    def test_a_jump_delivers_nothing_early_and_holds_nothing_up(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        send(store, "before", delay=60)
        store.maintain()
        set_ahead(clock, jump_ms)
        assert store.ready_in_ms([ORDERS]) == 60_000
        send(store, "during", delay=120)
        clock.advance(59.9)
        assert receive(store) == []
        clock.advance(0.1)
        complete(store, take(store))
        set_ahead(clock, -jump_ms)
        clock.advance(59.9 - JUMP_MS / 1000)
        assert receive(store) == []
        clock.advance(0.1 + JUMP_MS / 1000)
        assert bodies(receive(store)) == ['"during"']

    @needs(Capability.DEAD_LETTERS)
    @jumps
    def test_a_retry_is_not_held_up(self, store: FullStore, clock: FakeClock, jump_ms: int) -> None:
        set_ahead(clock, jump_ms)
        send(store)
        fail(store, take(store), retry_in_ms=1_000)
        set_ahead(clock, -jump_ms)
        clock.advance(1)
        assert len(receive(store)) == 1

    @needs(Capability.IDEMPOTENCY, Capability.DEAD_LETTERS, Capability.MAINTENANCE)
    def test_what_was_done_while_the_clock_was_behind_outlives_its_correction(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        set_ahead(clock, -WEEKS_MS)
        send(store, "waits")
        send(store, "done", key="k", priority=1)
        complete(store, take(store))
        dead = kill(store, "dies", priority=2)
        set_ahead(clock, WEEKS_MS)
        list(upkeep(store, clock))
        assert store.record(ORDERS, "k") is not None
        assert store.dead_letter(dead) is not None
        assert bodies(receive(store)) == ['"waits"']

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    @jumps
    def test_sending_receiving_and_completing_go_on(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        set_ahead(clock, jump_ms)
        for key in ("a", "b"):
            send(store, key=key)
            assert complete(store, take(store)) == [Outcome.DONE]
        assert store.queue(ORDERS).counters.completed == 2

    def test_a_jump_is_logged_once(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "durableq.clock")
        set_ahead(clock, YEAR_MS)
        for _ in range(100):
            send(store)
            clock.advance(1)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1
        assert "the wall clock jumped ahead by 366 d" in told[0]

    def test_a_small_step_is_followed(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(store, delay=60)
        set_ahead(clock, JUMP_MS)
        assert store.ready_in_ms([ORDERS]) == 60_000 - JUMP_MS
        assert not caplog.records

    @needs(Capability.MAINTENANCE)
    def test_a_quiet_period_is_no_jump(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(store)
        clock.advance(RETENTION_SECONDS)
        assert store.prune().expired == 1
        assert not caplog.records

    @needs(Capability.IDEMPOTENCY, Capability.DEAD_LETTERS, Capability.INSPECT)
    @jumps
    def test_dates_are_shown_as_the_wall_clock_is_now(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        dead = kill(store)
        send(store, key="k", priority=1)
        complete(store, take(store))
        message_id = send(store, delay=100)
        set_ahead(clock, jump_ms)
        now_ms = clock.wall_ms()
        seen, record, dead_letter = (
            look(store, message_id),
            store.record(ORDERS, "k"),
            look(store, dead),
        )
        assert (seen.sent_at_ms, seen.delayed_until_ms) == (now_ms, now_ms + 100_000)
        assert record is not None
        assert record.expires_at_ms == now_ms + DAY_MS
        assert dead_letter.enqueued_at_ms == now_ms == store.history(dead)[0].at_ms
        assert {group.last_died_ms for group in store.dead_letter_groups()} == {now_ms}
        assert store.queue(DEAD).oldest_ready_ms == now_ms
        assert receive(store, queue=DEAD)[0].enqueued_at_ms == now_ms

    @needs(Capability.DEAD_LETTERS, Capability.REDRIVE, Capability.INSPECT)
    @jumps
    def test_a_move_means_what_died_before_a_date_as_it_is_shown(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        kill(store, "old")
        clock.advance(10)
        young = kill(store, "young")
        set_ahead(clock, jump_ms)
        wanted = DeadLetterFilter(died_before_ms=look(store, young).enqueued_at_ms)
        move = store.start_redrive(wanted, Requeue())
        assert (move.total, move.wanted) == (1, wanted)
        set_ahead(clock, -jump_ms)
        assert store.continue_redrive(move.id, 10).moved == 1
        assert look(store, young).source_queue == ORDERS

    @needs(Capability.INSPECT, Capability.MAINTENANCE)
    def test_after_the_correction_dates_are_as_ever(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.maintain()
        set_ahead(clock, YEAR_MS)
        send(store)
        clock.advance(10)
        set_ahead(clock, -YEAR_MS)
        [message_id] = store.send(ORDERS, [draft("late")])
        sent_ms = look(store, message_id).sent_at_ms
        clock.advance(3600)
        assert look(store, message_id).sent_at_ms == sent_ms == clock.wall_ms() - 3_600_000
        assert store.queue(ORDERS).counts.ready == 2

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT, Capability.MAINTENANCE)
    def test_a_dead_letter_held_for_a_person_stays_held(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        decide(store, Hold())
        set_ahead(clock, YEAR_MS)
        list(upkeep(store, clock))
        assert look(store, message_id).held
        assert look(store, message_id).state is State.DELAYED
