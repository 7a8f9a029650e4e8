"""A fleet as a service of systemd: when it has started, reloads, stops, and that it is watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from durableq.runtime.systemd import Systemd
from durableq.supervisor.scoreboard import Stage
from durableq.supervisor.worker_process import WorkerProcess

#: Time to reclaim messages and to end, beyond the grace of handlers.
END_SECONDS: Final = 15.0


class FleetService:
    """Tells systemd what a fleet does.

    Args:
        systemd: is told.
        grace_seconds: time that a stop gives to running handlers.
    """

    def __init__(self, systemd: Systemd, grace_seconds: float) -> None:
        self._systemd = systemd
        self._end_seconds = grace_seconds + END_SECONDS
        self._has_started = self._is_reloading = self._is_stopping = False

    def step(self, workers: Sequence[WorkerProcess], is_reloading: bool, is_stopping: bool) -> None:
        """Tell what has changed. The supervisor's loop calls it: a stuck one is silent."""
        if not self._systemd.is_there:
            return
        if not self._has_started and _have_started(workers):
            self._has_started = True
            self._systemd.ready()
        if is_stopping and not self._is_stopping:
            self._is_stopping = True
            self._systemd.stopping(self._end_seconds)
        elif self._has_started and is_reloading is not self._is_reloading and not is_stopping:
            self._is_reloading = is_reloading
            (self._systemd.reloading if is_reloading else self._systemd.ready)()
        self._systemd.beat(_status(workers, is_reloading, is_stopping))


def _have_started(workers: Sequence[WorkerProcess]) -> bool:
    """Return whether a worker has received, and no other is starting.

    One that died, and waits for its next start, does not keep the others from being a service.
    """
    stages = [worker.stage for worker in workers]
    is_starting = any(worker.is_running and worker.is_starting for worker in workers)
    return not is_starting and any(stage is not None and stage >= Stage.READY for stage in stages)


def _status(workers: Sequence[WorkerProcess], is_reloading: bool, is_stopping: bool) -> str:
    if is_stopping:
        return f"stopping, {sum(worker.is_running for worker in workers)} workers are left"
    running = [worker for worker in workers if worker.is_running and worker.is_ready]
    late = sum(worker.scoreboard.is_late for worker in running)
    words = f"{len(running)} of {len(workers)} workers receive"
    words += f", {late} of them silent" if late else ""
    return f"reloading, {words}" if is_reloading else words
