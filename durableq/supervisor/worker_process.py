"""One place in the fleet, and the worker process that fills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import psutil

from durableq.supervisor.liveness import sees_others
from durableq.supervisor.output import HandlerOutput
from durableq.supervisor.reclaim import Ending
from durableq.supervisor.scoreboard import HandlerCall, Scoreboard, Stage, shared_memory
from durableq.worker.command import kill_group
from durableq.worker.options import BLOCKED_AT_START, WorkerOptions

#: First and longest pause before a dead worker is replaced; doubled by each quick death.
RESTART_SECONDS: Final = (0.1, 5.0)
#: Time to end for a worker that is told to stop before it receives: it holds nothing.
STARTING_GRACE_SECONDS: Final = 1.0


class WorkerProcess:
    """A place in the fleet.

    Args:
        options: what its worker is told.
        starts: how many workers were in the place before.
    """

    def __init__(self, options: WorkerOptions, starts: int = 0) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._scoreboard: Scoreboard | None = None
        self._was_ready = False
        self._starts = starts
        self.name = options.name
        self.pid = 0
        """Of the worker that runs, or of the last one."""
        self.started_at = 0.0
        self.start_at: float | None = 0.0
        """When a worker is to be started, on the monotonic clock; None: never again."""
        self.pause = 0.0
        """Seconds before the next start, if the worker dies at once again."""
        self.kill_at: float | None = None
        """When its worker, which was told to stop, has had its time; None: it was not told."""
        self._grace_ends_at = 0.0
        self.returning = False
        """Whether a worker that was told to stop is to be replaced."""
        self.ending = Ending.DEATH
        """What its worker's end means, if it does not end by itself."""

    @property
    def is_running(self) -> bool:
        """Whether there is a worker; it may have died without having been looked at."""
        return self._process is not None

    @property
    def is_ready(self) -> bool:
        """Whether its worker receives."""
        return self.stage is Stage.READY

    @property
    def is_importing(self) -> bool:
        """Whether its worker runs and has not imported its application yet."""
        return self._process is not None and self.stage is Stage.STARTING

    @property
    def is_starting(self) -> bool:
        """Whether its worker, or the last one, has not received yet."""
        return self.stage in {Stage.STARTING, Stage.OPENING}

    @property
    def stage(self) -> Stage | None:
        """How far its worker has come, or the last one; None if none was started yet."""
        return None if self._scoreboard is None else self._scoreboard.stage

    def successor(self) -> WorkerProcess:
        """Return a member for the same place, to be started beside this one."""
        return WorkerProcess(self._options, self._starts)

    def note_ready(self) -> bool:
        """Return whether its worker has begun to receive since this was last asked."""
        before, self._was_ready = self._was_ready, self.is_ready
        return self._was_ready and not before

    @property
    def has_ended(self) -> bool:
        """Whether the place stays empty."""
        return self._process is None and self.start_at is None

    @property
    def scoreboard(self) -> Scoreboard:
        """What its worker is doing, or was when it ended."""
        if self._scoreboard is None:
            raise AssertionError(f"{self.name} was never started.")
        return self._scoreboard

    def start(self, lifeline: int, output: HandlerOutput) -> None:
        """Start a worker.

        Args:
            lifeline: a descriptor that ends with this process.
            output: shows what it prints.
        """
        memory = shared_memory()
        pipe = output.open(self.name)
        try:
            self._scoreboard = Scoreboard(memory)
            options = self._options.changed(
                scoreboard=memory,
                lifeline=lifeline,
                output=pipe.read,
                terminal=pipe.target,
                restarts=self._starts,
            )
            # A process group of its own: Ctrl-C in the terminal reaches the fleet, which tells it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_START)  # it is inherited
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "durableq.worker", options.to_json()],
                    stdin=subprocess.DEVNULL,
                    stdout=pipe.write,
                    stderr=pipe.write,
                    process_group=0,
                    pass_fds=(memory, lifeline, pipe.read, pipe.target),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            os.close(memory)
            os.close(pipe.write)
        self.pid = self._process.pid
        self._starts += 1
        self.started_at = time.monotonic()
        self.start_at = self.kill_at = None
        self._grace_ends_at = 0.0
        self._was_ready = False
        self.returning = False
        self.ending = Ending.DEATH

    def wait_longer(self) -> None:
        """Start the next worker after a pause, twice as long as before the last one."""
        first, longest = RESTART_SECONDS
        self.pause = min(max(2 * self.pause, first), longest)
        self.start_at = time.monotonic() + self.pause

    def exit_code(self) -> int | None:
        """Return the exit code of its worker, once; None while it runs, or there is none."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
            for call in self.scoreboard.calls():
                if call.group:
                    kill_group(call.group)
        return code

    def drain(self, grace_seconds: float, *, returning: bool = False) -> None:
        """Tell its worker to finish what it has in hand; a second telling changes nothing."""
        self.returning = returning
        if self._process is not None and self.kill_at is None:
            self._grace_ends_at = self.kill_at = time.monotonic() + grace_seconds
            if self.is_starting:
                self.kill_at = min(self.kill_at, time.monotonic() + STARTING_GRACE_SECONDS)
            self._process.terminate()

    def is_overdue(self) -> bool:
        """Return whether its worker was told to stop and has had its time.

        One that was starting then, and has received since, may have begun something: it has the
        whole grace.
        """
        now = time.monotonic()
        if self.kill_at is None or now < self.kill_at:
            return False
        if not self.is_starting:
            self.kill_at = max(self.kill_at, self._grace_ends_at)
        return now >= self.kill_at

    def kill(self, ending: Ending) -> None:
        """Stop its worker at once, whatever it does."""
        if self._process is not None:
            self.ending = ending
            self._process.kill()
            self._process.wait()

    def overdue(self) -> Iterator[HandlerCall]:
        """Return what its worker's handlers have been busy with for too long."""
        if self._process is not None:
            now = time.monotonic_ns()
            yield from (call for call in self.scoreboard.calls() if 0 < call.deadline_ns <= now)

    @property
    def is_silent(self) -> bool:
        """Whether its worker runs, but no line of it gets to: a handler holds the interpreter."""
        if not (self.is_running and self.is_ready and self.scoreboard.is_late and sees_others()):
            return False
        with suppress(psutil.Error):
            status = psutil.Process(self.pid).status()
            return status not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        return False

    def rss_bytes(self) -> int:
        """Return how much memory its worker uses; 0 where that cannot be told."""
        if self._process is None or not sees_others():
            return 0
        with suppress(psutil.Error):
            rss: int = psutil.Process(self.pid).memory_info().rss
            return rss
        return 0
