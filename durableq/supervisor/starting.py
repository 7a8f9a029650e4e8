"""Starting workers: limits of time, and failed starts in a row."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from durableq.model.errors import DurableQError
from durableq.model.info import WorkerStats
from durableq.runtime.outage import TEMPORARY
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import describe, this_process
from durableq.supervisor.reclaim import ExitReason
from durableq.supervisor.scoreboard import Stage
from durableq.supervisor.worker_process import WorkerProcess

#: A worker that imports its application for longer, or for half of its time limit, is
#: named in the log and in `status`.
SLOW_SECONDS: Final = 5.0
#: Number of workers in a row that died before their first receive: a crash loop.
FALSE_STARTS: Final = 5
#: State of the supervisor in `status` after that.
RELOAD_FAILED: Final = "reload failed"
_SHORTAGES: Final = frozenset(
    (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EINTR)
)


def is_shortage(error: OSError) -> bool:
    """Return whether a process could not be started for want of a resource of the machine."""
    return error.errno in _SHORTAGES


def has_other_cause(worker: WorkerProcess, code: int) -> bool:
    """Return whether a failed start has another cause than the application.

    The file was busy, the disk full, or the worker was killed while only durableq's code ran.
    """
    return code == TEMPORARY or (worker.stage is Stage.OPENING and code == -signal.SIGKILL)


class StartWatch:
    """Watches workers that import their application.

    Args:
        store: lists slow ones for `status`.
        seconds: time limit of an import.
        emit: called for slow ones with event, text and worker.
    """

    def __init__(
        self, store: Store, seconds: float, emit: Callable[[str, str, WorkerProcess | None], None]
    ) -> None:
        self._fleet = store.require(Capability.FLEET)
        self._seconds = seconds
        self._slow_seconds = min(SLOW_SECONDS, seconds / 2)
        self._emit = emit
        self._listed: dict[int, int] = {}
        self._logged: set[int] = set()
        self._supervisor = 0

    def check(self, worker: WorkerProcess) -> None:
        """Check a running worker: log a slow import, kill the worker if it exceeds the limit."""
        if not worker.is_importing:
            self.forget(worker)
            return
        took = time.monotonic() - worker.started_at
        if took > self._seconds:
            text = f"{worker} did not import its application within {self._seconds:g} s: stopped"
            self._emit("start_timeout", text, worker)
            worker.kill(ExitReason.START_TIMEOUT)
        elif (
            took > self._slow_seconds and worker.pid not in self._logged and worker.kill_at is None
        ):
            self._logged.add(worker.pid)
            text = f"{worker} still imports its application after {took:.0f} s"
            self._emit("starting", text, worker)
            with suppress(DurableQError, OSError):
                info = replace(describe(worker.name, worker.pid), queues=())  # none yet
                self._listed[worker.pid] = self._fleet.register(info).owner_id

    def forget(self, worker: WorkerProcess) -> None:
        """Unlist a worker that has registered itself or ended."""
        self._logged.discard(worker.pid)
        owner_id = self._listed.pop(worker.pid, 0)
        if owner_id:
            with suppress(DurableQError):  # found dead later, by any process
                self._fleet.unregister(owner_id)

    def reload_failed(self) -> None:
        """List the supervisor, so that `status` shows that a reload failed."""
        with suppress(DurableQError):
            if not self._supervisor:
                me = replace(this_process("supervisor"), queues=())
                self._supervisor = self._fleet.register(me).owner_id
            self._fleet.beat(self._supervisor, WorkerStats(state=RELOAD_FAILED))

    def reload_begins(self) -> None:
        """Unlist the supervisor, at the next reload or the end."""
        if self._supervisor:
            with suppress(DurableQError):
                self._fleet.unregister(self._supervisor)
                self._supervisor = 0
