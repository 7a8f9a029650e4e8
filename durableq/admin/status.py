"""The overview of `durableq status`: queues, rates between two samples, workers, storage."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from durableq.admin import progress, schedules
from durableq.admin.readers import Readers
from durableq.admin.schedules import ScheduleView
from durableq.model.health import KeyCounts, Storage
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.progress import Progress
from durableq.model.queues import Counters, Counts
from durableq.recovery.circuit_breaker import BreakerState, read
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import Liveness, Usage, liveness, usage

#: Messages whose progress an overview has.
MAX_PROGRESS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages a second, in and out of a queue and its dead-letter queue together."""

    in_per_second: float
    out_per_second: float


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue with its dead-letter queue.

    A dead-letter queue that is not private is a queue with a view of its own. Its counters are of
    all that comes there, so those of this queue have to tell what its messages did.
    """

    info: QueueInfo
    dead: QueueInfo
    #: None in the first sample: a rate needs two.
    flow: Flow | None = None

    @property
    def counters(self) -> Counters:
        """The counters of the queue, with those of a private dead-letter queue.

        Messages moved between the two cancel out.
        """
        here = self.info.counters
        return here + self.dead.counters if self.has_private_dlq else here

    @property
    def dead_letters(self) -> Counts:
        """The numbers of the queue's dead letters."""
        found = self.info.dead_letters
        return self.dead.counts if found is None else found

    @property
    def buried(self) -> int:
        """The number of messages that left the queue for its dead-letter queue."""
        return self.dead.counters.moved_in if self.has_private_dlq else self.info.counters.moved_out

    @property
    def redriven(self) -> int:
        """The number of dead letters that were sent back.

        To any queue if the dead-letter queue is private, or else what was moved into this queue.
        """
        return self.dead.counters.moved_out if self.has_private_dlq else self.info.counters.moved_in

    @property
    def has_private_dlq(self) -> bool:
        """Whether nothing but its own dead letters comes to its dead-letter queue."""
        return self.dead.dead_letter_queue is None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker: its stored record, and its process as the system reports it."""

    info: WorkerInfo
    liveness: Liveness
    #: None if the process cannot be seen.
    usage: Usage | None
    #: Percent of one core since the previous reading, or since the start of the process.
    cpu_percent: float | None
    #: The ids of the messages leased to it.
    holding: tuple[str, ...]

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as this process can see."""
        return self.liveness is Liveness.ALIVE

    @property
    def state(self) -> str:
        """The state in a word. Leases decide between idle and working: the record may be older."""
        if not self.is_alive:
            return str(self.liveness.value)
        if self.info.state in {"idle", "working"}:
            return "working" if self.holding else "idle"
        return self.info.state or "starting"


@dataclass(frozen=True, slots=True)
class Overview:
    """A sample of everything."""

    #: On the monotonic clock.
    at: float
    queues: list[QueueView]
    workers: list[WorkerView]
    #: Circuit breakers of recovery, by source queue.
    breakers: dict[str, BreakerState]
    keys: KeyCounts
    storage: Storage
    #: The last reports about messages in flight, in order of id: at most MAX_PROGRESS.
    progress: list[Progress]
    #: The running workers, by the queues they receive from.
    readers: Readers
    schedules: list[ScheduleView]


def look(store: Store, before: Overview | None = None) -> Overview:
    """Take a sample; with the sample before it, compute rates too."""
    at = time.monotonic()
    infos = {
        info.name: info for info in store.require(Capability.INSPECT).queues(dead_letters=True)
    }
    queues = [
        _queue_view(info, infos[info.dead_letter_queue], before, at)
        for info in infos.values()
        if info.dead_letter_queue is not None
    ]
    registered = store.require(Capability.FLEET).workers()
    workers = [_view(store, worker, before, at) for worker in registered]
    breakers = {view.info.name: read(store, view.info.name) for view in queues}
    known = {name: state for name, state in breakers.items() if state is not None}
    keys = store.require(Capability.IDEMPOTENCY).key_counts()
    storage = store.require(Capability.INSPECT).storage()
    reported = progress.in_flight(store, None, MAX_PROGRESS)
    readers, planned = Readers(registered), schedules.look(store, registered)
    return Overview(at, queues, workers, known, keys, storage, reported, readers, planned)


def _queue_view(info: QueueInfo, dead: QueueInfo, before: Overview | None, at: float) -> QueueView:
    view = QueueView(info, dead)
    if before is None or at <= before.at:
        return view
    earlier = next((one.counters for one in before.queues if one.info.name == info.name), None)
    if earlier is None:
        return view
    now, seconds = view.counters, at - before.at
    flow = Flow((now.sent - earlier.sent) / seconds, (now.ended - earlier.ended) / seconds)
    return replace(view, flow=flow)


def _view(store: Store, worker: WorkerInfo, before: Overview | None, at: float) -> WorkerView:
    became = liveness(worker)
    used = usage(worker.pid) if became is Liveness.ALIVE else None
    holding = tuple(
        message.id for message in store.require(Capability.FLEET).leases_of(worker.owner_id)
    )
    return WorkerView(worker, became, used, _cpu_percent(worker, used, before, at), holding)


def _cpu_percent(
    worker: WorkerInfo, used: Usage | None, before: Overview | None, at: float
) -> float | None:
    if used is None:
        return None
    earlier = None
    if before is not None and at > before.at:
        views = (view for view in before.workers if view.info.owner_id == worker.owner_id)
        earlier = next(views, None)
    if earlier is None or earlier.usage is None or before is None:
        return 100 * used.cpu_seconds / used.age_seconds if used.age_seconds > 0 else 0.0
    return 100 * (used.cpu_seconds - earlier.usage.cpu_seconds) / (at - before.at)
