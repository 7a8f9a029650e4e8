"""A wall clock that jumps: nothing comes early, and nothing is held up."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from durableq.model.limits import DAY_MS
from durableq.model.message import Outcome
from durableq.runtime.clock import JUMP_MS
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    fail,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

YEAR_MS = 366 * DAY_MS

WEEKS_MS = 21 * DAY_MS

jumps = pytest.mark.parametrize(
    "jump_ms",
    [JUMP_MS + 1, DAY_MS, YEAR_MS, -JUMP_MS - 1, -WEEKS_MS],
    ids=["31 s ahead", "a day ahead", "a year ahead", "31 s back", "three weeks back"],
)


def set_ahead(clock: FakeClock, by_ms: int) -> None:
    """Set the wall clock, forward or back, while the boot clock goes on."""
    clock.set_wall(clock.wall_ms() + by_ms)


class ClockJumpsContract(StoreCase):
    """Deliveries while the wall clock is wrong."""

    @jumps
    def test_a_retry_is_not_held_up(self, store: FullStore, clock: FakeClock, jump_ms: int) -> None:
        set_ahead(clock, jump_ms)
        send(store)
        fail(store, take(store), retry_in_ms=1_000)
        set_ahead(clock, -jump_ms)
        clock.advance(1)
        assert len(receive(store)) == 1

    @needs(Capability.INSPECT)
    @jumps
    def test_sending_receiving_and_completing_go_on(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        set_ahead(clock, jump_ms)
        for key in ("a", "b"):
            send(store, key=key)
            assert complete(store, take(store)) == [Outcome.DONE]
        assert store.queue(ORDERS).counters.completed == 2

    @jumps
    def test_a_message_for_a_time_is_due_when_the_wall_clock_says_so(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        send(store)
        set_ahead(clock, jump_ms)
        send(store, at=datetime.fromtimestamp(clock.wall_ms() / 1000 + 5, UTC), priority=1)
        clock.advance(4.9)
        assert bodies(receive(store)) == ['"a"']
        clock.advance(0.1)
        assert len(receive(store)) == 1

    def test_a_jump_is_logged_once(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "durableq.clock")
        set_ahead(clock, YEAR_MS)
        for _ in range(100):
            send(store)
            clock.advance(1)
        logged = [record.getMessage() for record in caplog.records]
        assert len(logged) == 1
        assert "the wall clock jumped ahead by 366 d" in logged[0]

    def test_a_small_step_is_followed(
        self, store: FullStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(store, delay=60)
        set_ahead(clock, JUMP_MS)
        assert store.ready_in_ms([ORDERS]) == 60_000 - JUMP_MS
        assert not caplog.records

    def test_retention_counts_from_the_arrival_at_least(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        """A retry that comes due before the arrival, by a clock set back, expires no earlier."""
        store.declare_queue(ORDERS, {"retention_ms": 2 * JUMP_MS})
        send(store)
        set_ahead(clock, -JUMP_MS)
        fail(store, take(store), retry_in_ms=1)
        clock.advance(2.5 * JUMP_MS / 1000)
        assert len(receive(store)) == 1
