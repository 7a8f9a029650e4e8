"""Leases: prolonged by their holder, taken back from the slow and from the dead."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from dataclasses import replace

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.info import WorkerStats
from durableq.model.limits import DAY_MS, MAX_VISIBILITY_MS
from durableq.model.message import Completion, Event, Outcome, Reason, State
from durableq.store.core import Capability, WorkerInfo
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
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

WORKER = WorkerInfo("host-a:7", 7, 1, boot_id="boot-1", pid_namespace="pid:[1]")


class LeasesContract(StoreCase):
    """The promises of a lease until it ends."""

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

    @pytest.mark.parametrize("visibility_ms", [0, MAX_VISIBILITY_MS + 1])
    def test_an_extension_out_of_bounds_is_refused(
        self, store: FullStore, visibility_ms: int
    ) -> None:
        with pytest.raises(InvalidInput):
            store.extend([], visibility_ms)

    @needs(Capability.FLEET, Capability.INSPECT)
    def test_reclaiming_takes_back_expired_leases_of_every_queue(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue("mail", {})
        ids = [send(store), send(store, queue="mail"), kill(store)]
        leases = [take(store), take(store, "mail"), take(store, DEAD)]
        clock.advance(VISIBILITY_SECONDS - 1)
        assert store.reclaim() == 0
        store.extend([leases[1]], 30_000)
        clock.advance(1)
        assert store.reclaim() == 2
        states = [look(store, message_id).state for message_id in ids]
        assert states == [State.READY, State.IN_FLIGHT, State.READY]

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.INSPECT)
    def test_a_reclaimed_message_is_ready_at_once_and_remembers_it(
        self, store: FullStore, clock: FakeClock, rng: FakeRandom
    ) -> None:
        message_id = send(store)
        take(store)
        clock.advance(VISIBILITY_SECONDS)
        assert store.reclaim() == 1
        seen = look(store, message_id)
        assert (seen.state, seen.receive_count, seen.lease_left_ms) == (State.READY, 1, 0)
        event = newest(store, message_id)
        assert (event.event, event.queue) == (Event.LEASE_EXPIRED, ORDERS)
        assert (event.reason, event.actor) == (Reason.LEASE_EXPIRED, "")
        assert event.at_ms == clock.wall_ms()
        assert rng.throws == 1

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

    @needs(Capability.FLEET)
    def test_setting_the_wall_clock_reclaims_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        take(store)
        clock.set_wall(clock.wall_ms() + DAY_MS)
        assert store.reclaim() == 0

    @needs(Capability.FLEET)
    def test_a_worker_tells_the_queues_that_it_receives_from(self, store: FullStore) -> None:
        silent = store.register(WORKER)
        worker = store.register(replace(WORKER, queues=(ORDERS, "mail")))
        idle = store.register(replace(WORKER, queues=()))

        def told() -> list[tuple[str, ...] | None]:
            queues = {one.owner_id: one.queues for one in store.workers()}
            return [queues[one.owner_id] for one in (silent, worker, idle)]

        assert told() == [None, (ORDERS, "mail"), ()]
        store.beat(worker.owner_id, WorkerStats())
        assert told() == [None, (ORDERS, "mail"), ()]
        store.beat(worker.owner_id, None, queues=("later",))
        assert told() == [None, ("later",), ()]

    @needs(Capability.FLEET)
    def test_workers_are_given_marks_of_their_own(self, store: FullStore) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        assert 0 < first.owner_id != second.owner_id > 0
        assert store.workers() == [first, second]

    @needs(Capability.FLEET)
    def test_a_worker_is_entered_as_it_says_and_lives_from_then_on(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        now_ms = clock.wall_ms()
        entered = store.register(WORKER)
        expected = replace(
            WORKER, owner_id=entered.owner_id, started_at_ms=now_ms, beat_at_ms=now_ms
        )
        assert entered == expected
        assert store.workers() == [expected]

    @needs(Capability.FLEET)
    def test_a_worker_says_that_it_lives(self, store: FullStore, clock: FakeClock) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        clock.advance(1)
        assert store.beat(second.owner_id)
        assert store.workers() == [first, replace(second, beat_at_ms=clock.wall_ms())]

    @needs(Capability.FLEET)
    def test_a_worker_that_was_taken_out_is_told_so(self, store: FullStore) -> None:
        worker = store.register(WORKER)
        store.unregister(worker.owner_id)
        assert not store.beat(worker.owner_id)
        assert not store.beat(0)
        assert store.workers() == []

    @needs(Capability.FLEET)
    def test_a_receipt_shows_whose_lease_it_is(self, store: FullStore) -> None:
        worker = store.register(WORKER)
        send(store)
        token = take(store, owner_id=worker.owner_id).token
        assert len(token) == 32
        assert int(token[:8], 16) == worker.owner_id

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.INSPECT)
    def test_the_leases_of_a_dead_worker_are_taken_back_at_once(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        dead, alive = store.register(WORKER), store.register(WORKER)
        lost = [send(store), kill(store)]
        lost_leases = [
            take(store, owner_id=dead.owner_id),
            take(store, DEAD, owner_id=dead.owner_id),
        ]
        kept = [send(store), send(store)]
        take(store, owner_id=alive.owner_id)
        take(store)
        assert store.reclaim(owner_id=dead.owner_id) == 2
        assert store.reclaim(owner_id=dead.owner_id) == 0
        assert all(look(store, message_id).state is State.READY for message_id in lost)
        assert all(look(store, message_id).state is State.IN_FLIGHT for message_id in kept)
        event = newest(store, lost[0])
        assert (event.event, event.reason) == (Event.LEASE_EXPIRED, Reason.WORKER_LOST)
        assert event.actor == "host-a:7"
        assert complete(store, *lost_leases) == [Outcome.STALE, Outcome.STALE]

    @needs(Capability.FLEET, Capability.INSPECT)
    def test_what_a_worker_holds_can_be_asked_with_its_receipts(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        worker, another = store.register(WORKER), store.register(WORKER)
        ids = [send(store, 1, priority=-1, key="k"), send(store, 2), kill(store, 3)]
        leases = [take(store, queue, owner_id=worker.owner_id) for queue in (ORDERS, ORDERS, DEAD)]
        send(store, 4)
        send(store, 5)
        take(store, owner_id=another.owner_id)
        take(store)
        clock.advance(10)
        held = store.leases_of(worker.owner_id)
        assert [message.id for message in held] == ids
        assert {message.receipt for message in held} == set(leases)
        assert [message.body for message in held] == ["1", "2", "3"]
        assert held == [look(store, m.id)._replace(receipt=m.receipt) for m in held]
        assert store.complete([Completion(receipt(m)) for m in held]) == [Outcome.DONE] * 3
        assert store.leases_of(worker.owner_id) == []

    @needs(Capability.FLEET)
    def test_a_lease_that_was_lost_is_not_held(self, store: FullStore, clock: FakeClock) -> None:
        worker = store.register(WORKER)
        send(store)
        take(store, owner_id=worker.owner_id)
        clock.advance(VISIBILITY_SECONDS)
        assert len(store.leases_of(worker.owner_id)) == 1  # no process has noticed yet
        store.reclaim()
        assert store.leases_of(worker.owner_id) == []

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.INSPECT)
    def test_a_message_that_kills_its_workers_dies(self, store: FullStore) -> None:
        message_id = send(store)
        for _ in range(3):
            worker = store.register(WORKER)
            take(store, owner_id=worker.owner_id)
            store.unregister(worker.owner_id)
        assert look(store, message_id).queue == DEAD
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert dead_letter.reason is Reason.WORKER_LOST
        assert [event.actor for event in dead_letter.failures] == ["host-a:7"] * 3

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.INSPECT)
    def test_leaving_takes_a_worker_and_its_leases_out(self, store: FullStore) -> None:
        worker = store.register(WORKER)
        message_id = send(store)
        take(store, owner_id=worker.owner_id)
        store.unregister(worker.owner_id)
        assert store.workers() == []
        assert look(store, message_id).state is State.READY
        assert newest(store, message_id).reason == Reason.WORKER_LOST

    @needs(Capability.FLEET)
    def test_a_worker_that_left_is_forgotten_for_ever(self, store: FullStore) -> None:
        first = store.register(WORKER)
        store.unregister(first.owner_id)
        store.unregister(first.owner_id)
        assert store.register(WORKER).owner_id != first.owner_id

    @needs(Capability.FLEET)
    @pytest.mark.parametrize("owner_id", [0, -1, 1 << 32])
    def test_unknown_holders_are_not_taken_for_dead_ones(
        self, store: FullStore, owner_id: int
    ) -> None:
        send(store)
        message = receive(store)[0]
        with pytest.raises(InvalidInput):
            store.reclaim(owner_id=owner_id)
        with pytest.raises(InvalidInput):
            store.leases_of(owner_id)
        assert store.extend([receipt(message)], 1) == [Outcome.DONE]
