"""The fleet: registered workers, their beats, and their leases."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import DAY_MS
from durableq.model.message import Completion, Event, Outcome, Reason, State
from durableq.store.core import Capability, WorkerInfo, WorkerStats
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
    take,
)
from durableq.testing.fakes import FakeClock, FakeRandom

WORKER = WorkerInfo("host-a:7", 7, 1, restarts=3, boot_id="boot-1", pid_namespace="pid:[1]")

STATS = WorkerStats("working", handled=9, failed=2, in_flight=4, oldest_began_ms=1_234)


@needs(Capability.FLEET)
class FleetContract(StoreCase):
    """The promises to workers and supervisors."""

    def test_a_beat_stores_the_statistics_of_a_worker(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        assert (first.restarts, first.state, first.handled) == (3, "", 0)
        clock.advance(1)
        assert store.beat(second.owner_id, STATS)
        expected = replace(second, beat_at_ms=clock.wall_ms(), **asdict(STATS))
        assert store.workers() == [first, expected]

    def test_the_queues_of_a_worker_are_stored(self, store: FullStore) -> None:
        first, second, third = (
            store.register(replace(WORKER, queues=queues)) for queues in (None, (ORDERS, DEAD), ())
        )
        assert [worker.queues for worker in store.workers()] == [None, (ORDERS, DEAD), ()]
        assert store.workers() == [first, second, third]
        assert store.beat(first.owner_id, queues=[DEAD])
        assert store.beat(second.owner_id, STATS)
        assert store.beat(third.owner_id, STATS, queues=(ORDERS,))
        assert [worker.queues for worker in store.workers()] == [(DEAD,), (ORDERS, DEAD), (ORDERS,)]
        assert [worker.handled for worker in store.workers()] == [0, STATS.handled, STATS.handled]

    def test_a_worker_that_is_asked_to_end_is_marked_until_it_does(self, store: FullStore) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        assert store.drain(second.owner_id)
        assert store.workers() == [first, replace(second, draining=True)]
        assert store.beat(second.owner_id, STATS)
        assert [worker.draining for worker in store.workers()] == [False, True]
        store.unregister(second.owner_id)
        assert not store.drain(second.owner_id)
        assert not store.register(WORKER).draining

    def test_a_beat_without_statistics_leaves_the_last_ones(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        worker = store.register(WORKER)
        store.beat(worker.owner_id, STATS)
        clock.advance(1)
        assert store.beat(worker.owner_id)
        [seen] = store.workers()
        assert (seen.handled, seen.beat_at_ms) == (STATS.handled, clock.wall_ms())
        assert not store.beat(worker.owner_id + 1, STATS)

    @needs(Capability.INSPECT)
    def test_reclaiming_ends_expired_leases_of_every_queue(
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

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_reclaimed_message_is_ready_at_once_with_an_event_in_history(
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

    def test_setting_the_wall_clock_reclaims_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store)
        take(store)
        clock.set_wall(clock.wall_ms() + DAY_MS)
        assert store.reclaim() == 0

    def test_each_worker_has_an_owner_id_of_its_own(self, store: FullStore) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        assert 0 < first.owner_id != second.owner_id > 0
        assert store.workers() == [first, second]

    def test_a_registered_worker_has_its_times(self, store: FullStore, clock: FakeClock) -> None:
        now_ms = clock.wall_ms()
        entered = store.register(WORKER)
        expected = replace(
            WORKER, owner_id=entered.owner_id, started_at_ms=now_ms, beat_at_ms=now_ms
        )
        assert entered == expected
        assert store.workers() == [expected]

    def test_a_beat_changes_the_time_of_its_worker_only(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        clock.advance(1)
        assert store.beat(second.owner_id)
        assert store.workers() == [first, replace(second, beat_at_ms=clock.wall_ms())]

    def test_a_beat_of_an_unregistered_worker_is_refused(self, store: FullStore) -> None:
        worker = store.register(WORKER)
        store.unregister(worker.owner_id)
        assert not store.beat(worker.owner_id)
        assert not store.beat(0)
        assert store.workers() == []

    def test_a_lease_belongs_to_the_worker_that_received(self, store: FullStore) -> None:
        worker, other = store.register(WORKER), store.register(WORKER)
        send(store)
        lease = take(store, owner_id=worker.owner_id)
        assert len(lease.token) == 32
        assert [message.receipt for message in store.leases_of(worker.owner_id)] == [lease]
        assert store.leases_of(other.owner_id) == []

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_the_leases_of_a_dead_worker_are_reclaimed_at_once(
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

    @needs(Capability.INSPECT)
    def test_the_leases_of_a_worker_are_listed_with_their_receipts(
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
        leased = store.leases_of(worker.owner_id)
        assert [message.id for message in leased] == ids
        assert {message.receipt for message in leased} == set(leases)
        assert [message.body for message in leased] == ["1", "2", "3"]
        assert leased == [look(store, m.id)._replace(receipt=m.receipt) for m in leased]
        assert store.complete([Completion(receipt(m)) for m in leased]) == [Outcome.DONE] * 3
        assert store.leases_of(worker.owner_id) == []

    def test_a_reclaimed_lease_is_not_listed(self, store: FullStore, clock: FakeClock) -> None:
        worker = store.register(WORKER)
        send(store)
        take(store, owner_id=worker.owner_id)
        clock.advance(VISIBILITY_SECONDS)
        assert len(store.leases_of(worker.owner_id)) == 1  # no process has noticed yet
        store.reclaim()
        assert store.leases_of(worker.owner_id) == []

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
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

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_unregistering_reclaims_the_leases_of_a_worker(self, store: FullStore) -> None:
        worker = store.register(WORKER)
        message_id = send(store)
        take(store, owner_id=worker.owner_id)
        store.unregister(worker.owner_id)
        assert store.workers() == []
        assert look(store, message_id).state is State.READY
        assert newest(store, message_id).reason == Reason.WORKER_LOST

    def test_an_owner_id_is_never_given_again(self, store: FullStore) -> None:
        first = store.register(WORKER)
        store.unregister(first.owner_id)
        store.unregister(first.owner_id)
        assert store.register(WORKER).owner_id != first.owner_id

    @pytest.mark.parametrize("owner_id", [0, -1, 1 << 32])
    def test_an_owner_id_of_no_worker_is_refused(self, store: FullStore, owner_id: int) -> None:
        send(store)
        message = receive(store)[0]
        with pytest.raises(InvalidInput):
            store.reclaim(owner_id=owner_id)
        with pytest.raises(InvalidInput):
            store.leases_of(owner_id)
        assert store.extend([receipt(message)], 1) == [Outcome.DONE]
