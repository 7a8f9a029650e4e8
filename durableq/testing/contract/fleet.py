"""State that processes share: paused queues, metadata, reports of workers."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_METADATA_CHARS, MAX_METADATA_NAME_CHARS
from durableq.model.message import Outcome, State
from durableq.store.core import Capability, WorkerInfo, WorkerStats
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    kill,
    look,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

WORKER = WorkerInfo("host-a:7", 7, 1, restarts=3)
STATS = WorkerStats("working", handled=9, failed=2, in_hand=4, oldest_began_ms=1_234)


class FleetContract(StoreCase):
    """Changes of one process that others see."""

    @needs(Capability.INSPECT)
    def test_a_paused_queue_accepts_and_settles_and_gives_nothing(self, store: FullStore) -> None:
        send(store, "before")
        lease = take(store)
        store.declare_queue(ORDERS, {"paused": 1})
        send(store, "after")
        assert store.receive(ORDERS, 10).idle
        assert complete(store, lease) == [Outcome.DONE]
        counts = store.queue(ORDERS).counts
        assert (counts.ready, counts.in_flight) == (1, 0)
        assert counters_reconcile(store)
        store.declare_queue(ORDERS, {"paused": 0})
        assert len(receive(store)) == 1

    @needs(Capability.INSPECT)
    def test_a_paused_queue_takes_expired_leases_back(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store)
        take(store)
        store.declare_queue(ORDERS, {"paused": 1})
        clock.advance(VISIBILITY_SECONDS)
        assert store.receive(ORDERS, 1).idle
        assert look(store, message_id).state is State.READY

    def test_a_paused_queue_is_not_in_sight(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store)
        send(store, queue="mail", delay=3)
        assert store.ready_in_ms([ORDERS, "mail"]) == 0
        store.declare_queue(ORDERS, {"paused": 1})
        assert store.ready_in_ms([ORDERS]) is None
        assert store.ready_in_ms([ORDERS, "mail"]) == 3_000

    @needs(Capability.DEAD_LETTERS)
    def test_a_person_receives_from_a_paused_queue_by_id(self, store: FullStore) -> None:
        message_id = kill(store)
        store.declare_queue(DEAD, {"paused": 1})
        assert store.receive(DEAD, 1).idle
        assert len(store.lease_dead_letters(DEAD, [message_id])) == 1

    @needs(Capability.METADATA)
    def test_a_note_is_kept_if_nobody_was_first(self, store: FullStore) -> None:
        assert store.get_metadata("breaker") is None
        assert store.compare_and_set("breaker", "closed", expected=None)
        assert not store.compare_and_set("breaker", "mine", expected=None)
        assert not store.compare_and_set("breaker", "open", expected="half")
        assert store.get_metadata("breaker") == "closed"
        assert store.compare_and_set("breaker", "open", expected="closed")
        assert store.get_metadata("breaker") == "open"

    @needs(Capability.METADATA)
    def test_notes_know_nothing_of_each_other(self, store: FullStore) -> None:
        store.compare_and_set("a", "1", expected=None)
        assert not store.compare_and_set("b", "2", expected="1")
        assert store.get_metadata("b") is None
        assert store.get_metadata("") is None
        assert store.get_metadata("boot_id") is None

    @needs(Capability.CONTROL, Capability.METADATA)
    def test_a_queues_notes_are_deleted_with_it(self, store: FullStore) -> None:
        for name in (f"breaker:{ORDERS}", f"x:{DEAD}", "breaker:my-orders", "ordersx", "breaker:_"):
            store.compare_and_set(name, "open", expected=None)
        store.delete_queue(ORDERS)
        left = [f"breaker:{ORDERS}", f"x:{DEAD}", "breaker:my-orders", "ordersx", "breaker:_"]
        assert [store.get_metadata(name) for name in left] == [None, None, "open", "open", "open"]
        store.declare_queue(ORDERS, {})
        assert store.compare_and_set(f"breaker:{ORDERS}", "closed", expected=None)

    @needs(Capability.METADATA)
    def test_a_note_has_bounds(self, store: FullStore) -> None:
        name, text = "n" * MAX_METADATA_NAME_CHARS, "ü" * MAX_METADATA_CHARS
        assert store.compare_and_set(name, text, expected=None)
        assert store.get_metadata(name) == text
        for bad in (("", "x"), (name + "n", "x"), ("m", text + "x"), ("m", "\ud800")):
            with pytest.raises(InvalidInput):
                store.compare_and_set(*bad, expected=None)
        assert store.get_metadata("m") is None

    @needs(Capability.FLEET)
    def test_a_worker_tells_how_it_does(self, store: FullStore, clock: FakeClock) -> None:
        first, second = store.register(WORKER), store.register(WORKER)
        assert (first.restarts, first.state, first.handled) == (3, "", 0)
        clock.advance(1)
        assert store.beat(second.owner_id, STATS)
        told = replace(second, beat_at_ms=clock.wall_ms(), **asdict(STATS))
        assert store.workers() == [first, told]

    @needs(Capability.FLEET)
    def test_a_worker_tells_which_queues_it_receives_from(self, store: FullStore) -> None:
        untold, told = (store.register(replace(WORKER, queues=q)) for q in (None, (ORDERS, DEAD)))
        none = store.register(replace(WORKER, queues=()))
        assert [worker.queues for worker in store.workers()] == [None, (ORDERS, DEAD), ()]
        assert store.workers() == [untold, told, none]
        assert store.beat(told.owner_id, STATS)
        assert store.beat(untold.owner_id, queues=[DEAD])
        assert store.beat(none.owner_id, STATS, queues=(ORDERS,))
        assert [worker.queues for worker in store.workers()] == [(DEAD,), (ORDERS, DEAD), (ORDERS,)]
        assert [worker.handled for worker in store.workers()] == [0, STATS.handled, STATS.handled]

    @needs(Capability.FLEET)
    def test_a_beat_that_tells_nothing_leaves_what_was_told(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        worker = store.register(WORKER)
        store.beat(worker.owner_id, STATS)
        clock.advance(1)
        assert store.beat(worker.owner_id)
        [seen] = store.workers()
        assert (seen.handled, seen.beat_at_ms) == (STATS.handled, clock.wall_ms())
        assert not store.beat(worker.owner_id + 1, STATS)
