"""A wall clock that jumps: nothing is lost, and nothing is kept for ever."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durableq.model.decisions import Hold
from durableq.model.limits import HOUR_MS
from durableq.model.message import State, draft
from durableq.runtime.clock import JUMP_MS
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
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
    receive,
    send,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import WEEKS_MS, YEAR_MS, jumps, set_ahead
from durableq.testing.fakes import FakeClock

RETENTION_SECONDS = 14 * 86_400

#: The settings of a queue with defaults.
TTL_SECONDS = 86_400


def maintain(store: FullStore, clock: FakeClock) -> Iterator[object]:
    """Run every operation that may remove a row, and return the removed rows."""
    for _ in range(3):
        yield store.prune()
        yield store.maintain()
        clock.advance(1)


def counts(store: FullStore) -> list[tuple[str, int, int]]:
    """Return each queue's messages that are there, and those that expired."""
    return [(q.name, q.counts.present, q.counters.expired) for q in store.queues()]


@needs(Capability.MAINTENANCE)
class PrunedClockJumpsContract(StoreCase):
    """The removal of rows while the wall clock is wrong."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
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
            list(maintain(store, clock))
            assert counts(store) == before
            jump_ms = -jump_ms
        assert bodies(receive(store)) == ['"ready"']
        assert counters_reconcile(store)

    @needs(Capability.IDEMPOTENCY)
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
            list(maintain(store, clock))
            send(store, key="k")
            received = store.receive(ORDERS, 1)
            assert (received.messages, [d.result for d in received.duplicates]) == ([], ["7"])
            jump_ms = -jump_ms
        assert store.forget(ORDERS, "k")

    @needs(Capability.DEAD_LETTERS, Capability.CONTROL)
    @jumps
    def test_history_outlives_a_jump(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        ended = kill(store)
        store.purge(DEAD)
        set_ahead(clock, jump_ms)
        list(maintain(store, clock))
        assert [event.event.value for event in store.history(ended)] == ["failed", "buried"]

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
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

    @needs(Capability.IDEMPOTENCY, Capability.DEAD_LETTERS)
    def test_writes_made_while_the_clock_was_behind_outlive_its_correction(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        set_ahead(clock, -WEEKS_MS)
        send(store, "waits")
        send(store, "done", key="k", priority=1)
        complete(store, take(store))
        dead = kill(store, "dies", priority=2)
        set_ahead(clock, WEEKS_MS)
        list(maintain(store, clock))
        assert store.record(ORDERS, "k") is not None
        assert store.dead_letter(dead) is not None
        assert bodies(receive(store)) == ['"waits"']

    def test_a_quiet_period_is_no_jump(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(store)
        clock.advance(RETENTION_SECONDS)
        assert store.prune().expired == 1
        assert not caplog.records

    @needs(Capability.INSPECT)
    def test_dates_are_right_after_the_clock_is_corrected(
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

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_dead_letter_held_for_a_person_stays_held(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        decide(store, Hold())
        set_ahead(clock, YEAR_MS)
        list(maintain(store, clock))
        assert look(store, message_id).held
        assert look(store, message_id).state is State.DELAYED
