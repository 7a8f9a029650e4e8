"""When the messages of a dead worker are reclaimed, by what is known of its end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from durableq.engines.memory import MemoryStore
from durableq.model.message import draft
from durableq.store.core import WorkerInfo
from durableq.supervisor import peers
from durableq.supervisor.liveness import this_process
from durableq.supervisor.peers import (
    CLOSELY_SECONDS,
    CONFIRM_SECONDS,
    ENDED_SECONDS,
    LATE_SECONDS,
    DeadWorkers,
)

ALIVE = this_process("alive")
DEAD = replace(ALIVE, created_ms=1)
UNSEEN = replace(ALIVE, pid_namespace="pid:[1]")


class Server(MemoryStore):
    """A store that knows the connections of workers, as a server does."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, bool] = {}
        self.answered: list[frozenset[int]] = []
        self.followed: int | None = None

    def ended(self) -> dict[int, bool]:
        return self.told

    def answer_for(self, owner_ids: Collection[int]) -> None:
        self.answered.append(frozenset(owner_ids))

    def follow(self, owner_id: int | None, on_end: Callable[[], None]) -> None:
        self.followed = owner_id

    def enter(self, worker: WorkerInfo) -> int:
        return self.register(worker).owner_id

    @property
    def listed(self) -> list[int]:
        return [worker.owner_id for worker in self.workers()]


class Time:
    """The monotonic clock of the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(peers, "time", time)
    return time


@pytest.fixture
def store() -> Server:
    return Server()


def test_a_dead_worker_whose_supervisor_has_ended_too_is_reclaimed_at_once(store: Server) -> None:
    owner_id = store.enter(DEAD)
    store.told = {owner_id: False}
    assert DeadWorkers().reclaim(store) is None
    assert store.listed == []


@pytest.mark.parametrize("told", [{}, {1: True}], ids=["nothing is known", "a supervisor answers"])
def test_a_dead_worker_is_left_to_its_supervisor_for_a_while(
    store: Server, time: Time, told: dict[int, bool]
) -> None:
    dead_workers, owner_id = DeadWorkers(), store.enter(DEAD)
    assert owner_id == 1
    store.told = told
    assert dead_workers.reclaim(store) == (ENDED_SECONDS if told else CONFIRM_SECONDS)
    time.now += CONFIRM_SECONDS - 0.01
    dead_workers.reclaim(store)
    assert store.listed == [1]
    time.now += 0.02
    assert dead_workers.reclaim(store) is None
    assert store.listed == []


def test_a_supervisor_that_ends_too_is_noticed_at_the_next_look(store: Server, time: Time) -> None:
    dead_workers, owner_id = DeadWorkers(), store.enter(UNSEEN)
    store.told = {owner_id: True}
    assert dead_workers.reclaim(store) == ENDED_SECONDS
    time.now += ENDED_SECONDS
    store.told = {owner_id: False}
    dead_workers.reclaim(store)
    assert store.listed == []


def test_an_unseen_worker_that_only_lost_its_connection_is_not_taken_for_dead(
    store: Server, time: Time
) -> None:
    dead_workers, owner_id = DeadWorkers(), store.enter(UNSEEN)
    for _ in range(3):
        store.told = {owner_id: False}
        assert dead_workers.reclaim(store) == ENDED_SECONDS
        time.now += ENDED_SECONDS
        store.told = {}
        assert dead_workers.reclaim(store) is None
    assert store.listed == [owner_id]
    store.told = {owner_id: False}
    dead_workers.reclaim(store)
    assert store.listed == [owner_id]
    time.now += ENDED_SECONDS
    dead_workers.reclaim(store)
    assert store.listed == []


def test_an_unseen_worker_is_never_taken_from_a_supervisor_that_answers(
    store: Server, time: Time
) -> None:
    dead_workers, owner_id = DeadWorkers(), store.enter(UNSEEN)
    store.told = {owner_id: True}
    assert dead_workers.reclaim(store) == ENDED_SECONDS
    assert not dead_workers.has_suspects, "recovery does not wait for it"
    time.now += CLOSELY_SECONDS
    assert dead_workers.reclaim(store) is None, "it is looked at each second"
    time.now += 3600
    assert dead_workers.reclaim(store) is None
    assert store.listed == [owner_id]


def test_a_living_process_without_a_connection_is_not_taken_for_dead(
    store: Server, time: Time
) -> None:
    dead_workers, owner_id = DeadWorkers(), store.enter(ALIVE)
    store.told = {owner_id: False}
    for _ in range(3):
        assert dead_workers.reclaim(store) is None
        time.now += 3600
    assert store.listed == [owner_id]


def test_a_supervisor_answers_for_its_workers_once_for_each_change(store: Server) -> None:
    dead_workers = DeadWorkers()
    for owner_ids in ([], [1], [1], [1, 2], [2, 1], []):
        dead_workers.answer_for(store, owner_ids)
    assert store.answered == [frozenset({1}), frozenset({1, 2}), frozenset()]


@pytest.mark.parametrize(
    ("own", "followed"),
    [([], None), ([1, 2], 3), ([3, 4], 5), ([5], 1), ([1, 2, 3, 4, 5], None), ([2, 4], 3)],
)
def test_a_fleet_follows_the_worker_behind_one_of_its_own_in_a_ring(
    store: Server, own: list[int], followed: int | None
) -> None:
    for _ in range(5):
        store.enter(UNSEEN)
    dead_workers = DeadWorkers()
    dead_workers.answer_for(store, own)
    dead_workers.reclaim(store)
    assert store.followed == followed


def test_the_ring_closes_over_a_worker_whose_connection_has_ended(store: Server) -> None:
    for _ in range(3):
        store.enter(UNSEEN)
    dead_workers = DeadWorkers()
    dead_workers.answer_for(store, [1])
    store.told = {2: True}
    dead_workers.reclaim(store)
    assert store.followed == 3


def dead_with_a_late_lease(store: Server) -> tuple[DeadWorkers, int]:
    """Reclaim the messages of a worker; then the server commits its last receive."""
    dead_workers, owner_id = DeadWorkers(), store.enter(DEAD)
    store.declare_queue("orders", {})
    store.send("orders", [draft(1)])
    store.told = {owner_id: False}
    dead_workers.reclaim(store)
    assert len(store.receive("orders", 1, owner_id=owner_id).messages) == 1
    return dead_workers, owner_id


def test_a_message_leased_to_a_worker_after_its_death_is_released(
    store: Server, time: Time
) -> None:
    dead_workers, _ = dead_with_a_late_lease(store)
    dead_workers.reclaim(store)
    assert store.receive("orders", 1).messages == []
    time.now += LATE_SECONDS
    dead_workers.reclaim(store)
    (message,) = store.receive("orders", 1).messages
    assert message.receive_count == 1, "no handler has begun"


def test_a_worker_that_is_registered_again_keeps_its_messages(store: Server, time: Time) -> None:
    dead_workers, owner_id = dead_with_a_late_lease(store)
    registered = [replace(ALIVE, owner_id=owner_id)]
    store.workers = lambda: registered  # type: ignore[method-assign]
    store.told = {}
    time.now += LATE_SECONDS
    dead_workers.reclaim(store)
    assert store.receive("orders", 1).messages == []
