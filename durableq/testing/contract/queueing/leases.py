"""Leases: extended by their owner, ended by time."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import DAY_MS, MAX_RECEIVE_BATCH, MAX_VISIBILITY_MS, RECLAIM_BATCH
from durableq.model.message import Outcome
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    drafts,
    kill,
    look,
    needs,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock


class LeasesContract(StoreCase):
    """The promises of a lease until it ends."""

    def test_each_receive_draws_another_token(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        first = take(store)
        clock.advance(VISIBILITY_SECONDS)
        second = take(store)
        assert first.message_id == second.message_id
        assert first.token != second.token

    def test_a_lease_that_ran_out_is_received_again_and_counted(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        take(store)
        clock.advance(VISIBILITY_SECONDS - 0.001)
        assert store.receive(ORDERS, 1).idle
        clock.advance(0.001)
        [message] = receive(store)
        assert message.receive_count == 2

    def test_setting_the_wall_clock_neither_ends_nor_extends_a_lease(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        take(store)
        clock.set_wall(clock.wall_ms() + DAY_MS)
        assert store.receive(ORDERS, 1).idle
        clock.set_wall(clock.wall_ms() - 2 * DAY_MS)
        clock.advance(VISIBILITY_SECONDS)
        assert len(receive(store)) == 1

    def test_the_lease_that_ran_out_first_is_taken_back_first(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, drafts("late", *range(RECLAIM_BATCH)))
        take(store, visibility_ms=2_000)
        receive(store, MAX_RECEIVE_BATCH, visibility_ms=1_000)
        clock.advance(2)
        taken = receive(store, MAX_RECEIVE_BATCH)
        assert len(taken) == RECLAIM_BATCH
        assert '"late"' not in bodies(taken)

    @needs(Capability.INSPECT)
    def test_extending_counts_from_now(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        lease = take(store)
        clock.advance(20)
        assert store.extend([lease], 30_000) == [Outcome.DONE]
        assert look(store, lease.message_id).lease_left_ms == 30_000
        clock.advance(29.999)
        assert store.receive(ORDERS, 1).idle
        clock.advance(0.001)
        assert len(receive(store)) == 1

    def test_extending_can_shorten_a_lease(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        lease = take(store)
        assert store.extend([lease], 1) == [Outcome.DONE]
        clock.advance(0.001)
        assert len(receive(store)) == 1

    def test_a_lease_that_ran_out_unnoticed_can_still_be_extended(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        lease = take(store)
        clock.advance(VISIBILITY_SECONDS)
        assert store.extend([lease], 1_000) == [Outcome.DONE]
        assert store.receive(ORDERS, 1).idle

    def test_a_stale_receipt_cannot_extend(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        stale = take(store)
        clock.advance(VISIBILITY_SECONDS)
        lease = take(store)
        clock.advance(1)
        assert store.extend([stale, lease], MAX_VISIBILITY_MS) == [Outcome.STALE, Outcome.DONE]
        complete(store, lease)
        assert store.extend([lease], 1) == [Outcome.GONE]

    @pytest.mark.parametrize("visibility_ms", [-1, MAX_VISIBILITY_MS + 1])
    def test_an_extension_out_of_bounds_is_refused(
        self, store: FullStore, visibility_ms: int
    ) -> None:
        with pytest.raises(InvalidInput):
            store.extend([], visibility_ms)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_message_that_loses_its_last_lease_dies(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_receives": 2})
        message_id = send(store)
        for _ in range(2):
            take(store)
            clock.advance(VISIBILITY_SECONDS)
        assert store.receive(ORDERS, 1).idle
        assert look(store, message_id).queue == DEAD
        expired = ("lease_expired", "lease_expired")
        assert story(store, message_id) == [expired, expired, ("buried", "lease_expired")]

    def test_a_dead_letter_whose_lease_runs_out_stays_dead(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        for count in range(1, 6):
            [dead_letter] = receive(store, queue=DEAD)
            assert (dead_letter.id, dead_letter.receive_count) == (message_id, count)
            clock.advance(VISIBILITY_SECONDS)
