"""Reload without a gap: each worker stays until its successor receives."""

from __future__ import annotations

import time
from collections import deque

from durableq.supervisor.reclaim import ExitReason
from durableq.supervisor.worker_process import WorkerProcess


class Reload:
    """Replaces the workers of a fleet one by one, on request.

    Args:
        workers: the workers of the fleet; a replaced worker is exchanged in this list.
        grace_seconds: time that a replaced worker has for its running handlers.
    """

    def __init__(self, workers: list[WorkerProcess], grace_seconds: float) -> None:
        self._workers = workers
        self._grace_seconds = grace_seconds
        self._waiting: deque[WorkerProcess] = deque()
        self._old: WorkerProcess | None = None
        self._new: WorkerProcess | None = None
        self._leaving: WorkerProcess | None = None

    @property
    def extra(self) -> list[WorkerProcess]:
        """Workers beyond the fleet's number: a starting successor, a draining predecessor."""
        beside = [self._new if self._old is not None else None, self._leaving]
        return [worker for worker in beside if worker is not None]

    @property
    def is_running(self) -> bool:
        """Whether workers are still to be replaced."""
        return bool(self._waiting or self._new or self._leaving)

    def is_leaving(self, worker: WorkerProcess) -> bool:
        """Return whether a worker has been replaced."""
        return worker is self._leaving

    def begin(self) -> None:
        """Replace all workers; a successor that has not received yet is dropped."""
        self._drop_successor()
        self._waiting = deque(self._workers)

    def cancel(self) -> None:
        """Replace no further worker."""
        self._waiting.clear()
        if self._new is not None and self._old is not None:
            self._new.start_at = None

    def fails_with(self, worker: WorkerProcess) -> bool:
        """Return whether the reload fails with this worker, and end the reload if so."""
        if worker is not self._new:
            return False
        self._drop_successor()
        self._waiting.clear()
        return True

    def step(self) -> None:
        """Advance as far as possible without waiting."""
        if self._leaving is not None and self._leaving.has_ended:
            self._leaving = None
        if self._new is not None:
            self._check_successor(self._new)
        while self._new is None and self._leaving is None and self._waiting:
            self._replace(self._waiting.popleft())

    def _replace(self, worker: WorkerProcess) -> None:
        if worker.has_ended:  # it has drained
            return
        if worker.is_running and worker.kill_at is None:
            self._old, self._new = worker, worker.successor()
        else:  # it has ended, or will: its replacement loads the new code anyway
            self._new = worker
            worker.returning = worker.is_running
        if not self._new.is_running:
            self._new.start_at = time.monotonic()

    def _check_successor(self, new: WorkerProcess) -> None:
        old = self._old
        receives = new.is_ready and new.is_running and new.kill_at is None
        if new.has_ended or (old is None and receives):
            self._new = self._old = None
        elif old is not None and (receives or not old.is_running):
            self._workers[self._workers.index(old)] = new
            old.start_at = None
            if old.is_running:
                self._leaving = old
                old.drain(self._grace_seconds)
                self._new = None
            self._old = None

    def _drop_successor(self) -> None:
        if self._new is not None and self._old is not None:
            self._new.start_at = None
            self._new.kill(ExitReason.CUT_SHORT)
            self._leaving, self._new = self._new, None
        self._old = self._new = None
