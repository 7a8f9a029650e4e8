"""Schedules as they stand, with the running workers that have them in their code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from durableq.model.errors import QueueFull
from durableq.model.flow.sending import SHED
from durableq.model.health import Finding, Level
from durableq.model.info import WorkerInfo
from durableq.model.slots import ScheduleInfo
from durableq.model.units import span
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import may_be_alive

WAITS: Final = "waits"
PAUSED: Final = "paused"
LATE: Final = "late"
ORPHANED: Final = "orphaned"
NO_WORKER: Final = "no worker"


class ScheduleView(NamedTuple):
    """A schedule, and who fires it."""

    info: ScheduleInfo
    #: The running workers that have it in their code, and all that run.
    firing: int
    running: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.schedule.name

    @property
    def state(self) -> str:
        """The state in a word or two."""
        if self.info.paused:
            return PAUSED
        if not self.firing:
            return ORPHANED if self.running else NO_WORKER
        return LATE if self.info.is_late else WAITS

    @property
    def trouble(self) -> str:
        """The reason why its slots are not sent, or empty text."""
        late = f"its next slot is due for {span(self.info.late_ms)}"
        if self.state == ORPHANED:
            return f"no running worker has schedule {self.name!r} in its code, so it is not fired"
        if self.state == LATE:
            return f"schedule {self.name!r} is late: {late}"
        if self.state == NO_WORKER and self.info.is_late:
            return f"schedule {self.name!r} is late, as no worker runs: {late}"
        return ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        info, schedule = self.info, self.info.schedule
        return {
            "name": self.name,
            "queue": schedule.queue,
            "timing": schedule.timing,
            "tz": schedule.tz,
            "state": self.state,
            "paused": info.paused,
            "next_at_ms": info.next_ms,
            "last_at_ms": info.last_ms,
            "late_ms": info.late_ms,
            "sent": info.sent,
            "skipped": info.skipped,
            "workers": self.firing,
            "catch_up": schedule.catch_up.value,
            "catch_up_limit": schedule.catch_up_limit,
        }


def views(infos: Iterable[ScheduleInfo], workers: Iterable[WorkerInfo]) -> list[ScheduleView]:
    """Return schedules with the number of running workers that have them."""
    running = [worker for worker in workers if may_be_alive(worker)]
    return [
        ScheduleView(
            info, sum(info.schedule.name in worker.schedules for worker in running), len(running)
        )
        for info in infos
    ]


def look(store: Store, workers: Iterable[WorkerInfo] | None = None) -> list[ScheduleView]:
    """Return the schedules of a store; none if its engine has none.

    Args:
        store: the store.
        workers: the registered ones; None: they are read.
    """
    if Capability.SCHEDULES not in store.capabilities:
        return []
    infos = store.require(Capability.SCHEDULES).schedules()
    if workers is None:
        workers = store.require(Capability.FLEET).workers() if infos else ()
    return views(infos, workers)


def find(store: Store, name: str) -> ScheduleView:
    """Return one schedule.

    Raises:
        NotFound: there is no such schedule.
    """
    info = store.require(Capability.SCHEDULES).schedule(name)
    [view] = views([info], store.require(Capability.FLEET).workers())
    return view


def run_now(store: Store, name: str, actor: str) -> tuple[str, str]:
    """Send one message of a schedule now; return its queue and its id.

    Raises:
        NotFound: there is no such schedule.
        QueueFull: its queue is full, and refuses or sheds the message.
    """
    schedules = store.require(Capability.SCHEDULES)
    queue = schedules.schedule(name).schedule.queue
    message_id = schedules.run_schedule(name, actor=actor)
    if message_id == SHED:
        raise QueueFull(queue, f"its on_full is shed, so the message of {name} was dropped")
    return queue, message_id


def findings(infos: Iterable[ScheduleInfo], workers: Iterable[WorkerInfo]) -> Iterator[Finding]:
    """Return a warning for each schedule that is late or orphaned, or that none is."""
    seen = views(infos, workers)
    troubled = [view for view in seen if view.trouble]
    for view in troubled:
        yield Finding(
            "schedules", Level.WARN, view.trouble, _advice(view), view.info.schedule.queue
        )
    if not troubled:
        told = f"{len(seen)} stored, none late or orphaned" if seen else "none"
        yield Finding("schedules", Level.OK, told)


def _advice(view: ScheduleView) -> str:
    if view.state == ORPHANED:
        return (
            f"Start a worker whose code has it, or forget it: durableq schedule remove {view.name}."
        )
    if view.state == NO_WORKER:
        return "Start a worker: durableq work --app MODULE:ATTRIBUTE."
    return "See the log of the workers for the reason; a full queue takes no message."
