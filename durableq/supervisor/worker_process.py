"""One worker of a fleet: its process, and the processes that replace it."""

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

from durableq.runtime.wakeup import CLOSED_DESCRIPTORS
from durableq.supervisor.histograms import FleetHistograms, WorkerHistograms
from durableq.supervisor.liveness import sees_others, signal_name, usage
from durableq.supervisor.output import HandlerOutput
from durableq.supervisor.reclaim import ExitReason
from durableq.supervisor.scoreboard import HandlerCall, Scoreboard, Stage, shared_memory
from durableq.worker.command import kill_group
from durableq.worker.options import BLOCKED_AT_START, WorkerOptions

#: First and longest pause before a dead worker is replaced; each quick death doubles it.
RESTART_SECONDS: Final = (0.1, 5.0)
#: Grace period of a worker before its first receive: nothing is leased to it.
STARTING_GRACE_SECONDS: Final = 1.0


class WorkerProcess:
    """A worker of a fleet, over all processes that run it.

    Args:
        options: options of the worker.
        histograms: gives each process memory for its histograms; None without metrics.
        starts: number of processes so far.
    """

    def __init__(
        self,
        options: WorkerOptions,
        histograms: FleetHistograms | None = None,
        starts: int = 0,
    ) -> None:
        self._options = options
        self._fleet_histograms = histograms
        self._histograms: WorkerHistograms | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._scoreboard: Scoreboard | None = None
        self._was_ready = False
        self._starts = starts
        self.name = options.name
        #: Of the running process, or of the last one.
        self.pid = 0
        self.started_at = 0.0
        #: Time of the next start on the monotonic clock; None for never.
        self.start_at: float | None = 0.0
        #: Seconds before the next start.
        self.pause = 0.0
        #: End of the grace period; None if it was not asked to stop.
        self.kill_at: float | None = None
        self._grace_ends_at = 0.0
        #: Whether a worker that was asked to stop is to be replaced.
        self.returning = False
        #: Whether a person has asked it to end for good.
        self.is_dismissed = False
        #: Reason of the end, if the supervisor kills it.
        self.exit_reason = ExitReason.DEATH

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"

    @property
    def is_running(self) -> bool:
        """Whether there is a process whose exit code was not read yet."""
        return self._process is not None

    @property
    def is_ready(self) -> bool:
        """Whether it receives."""
        return self.stage is Stage.READY

    @property
    def is_importing(self) -> bool:
        """Whether its process runs and has not imported the application yet."""
        return self._process is not None and self.stage is Stage.STARTING

    @property
    def is_starting(self) -> bool:
        """Whether its process, or the last one, has not received yet."""
        return self.stage in {Stage.STARTING, Stage.OPENING}

    @property
    def stage(self) -> Stage | None:
        """Stage of its process, or of the last one; None before the first start."""
        return None if self._scoreboard is None else self._scoreboard.stage

    def successor(self) -> WorkerProcess:
        """Return a worker with the same options, to be started beside this one."""
        return WorkerProcess(self._options, self._fleet_histograms, self._starts)

    def became_ready(self) -> bool:
        """Return whether it has made its first receive since the last call."""
        before, self._was_ready = self._was_ready, self.is_ready
        return self._was_ready and not before

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended and will not be replaced."""
        return self._process is None and self.start_at is None

    @property
    def scoreboard(self) -> Scoreboard:
        """The scoreboard of its process, or of the last one."""
        if self._scoreboard is None:
            raise AssertionError(f"{self.name} was never started.")
        return self._scoreboard

    def start(self, lifeline: int, output: HandlerOutput) -> None:
        """Start a process; `lifeline` is a descriptor that ends with the supervisor."""
        memory = shared_memory()
        pipe = output.open(self.name)
        try:
            self._scoreboard = Scoreboard(memory)
            histograms = self._take_histograms()
            options = self._options.changed(
                scoreboard=memory,
                histograms=-1 if histograms is None else histograms.fileno,
                lifeline=lifeline,
                output=pipe.read,
                terminal=pipe.target,
                restarts=self._starts,
            )
            # Its own process group: Ctrl-C in the terminal reaches the supervisor only.
            kept = () if histograms is None else (histograms.fileno,)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_START)  # is inherited
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "durableq.worker", options.to_json()],
                    stdin=subprocess.DEVNULL,
                    stdout=pipe.write,
                    stderr=pipe.write,
                    process_group=0,
                    pass_fds=(memory, lifeline, pipe.read, pipe.target, *kept),
                    env=options.environment,
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
        self.exit_reason = ExitReason.DEATH

    def _take_histograms(self) -> WorkerHistograms | None:
        """Return memory for the histograms of its next process, until that has ended."""
        if self._histograms is None and self._fleet_histograms is not None:
            self._histograms = self._fleet_histograms.take()
        return self._histograms

    def wait_longer(self) -> None:
        """Schedule the next start after a pause, twice as long as the last."""
        first, longest = RESTART_SECONDS
        self.pause = min(max(2 * self.pause, first), longest)
        self.start_at = time.monotonic() + self.pause

    def exit_code(self) -> int | None:
        """Return the exit code of its process, once; None while it runs, or without a process."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
            if self._histograms is not None and self._fleet_histograms is not None:
                self._fleet_histograms.give_back(self._histograms)
                self._histograms = None
            for call in self.scoreboard.calls():
                if call.group:
                    kill_group(call.group)
        return code

    def drain(self, grace_seconds: float, *, returning: bool = False) -> None:
        """Ask its process to finish running handlers and stop; a second call changes nothing."""
        self.returning = returning
        if self._process is not None and self.kill_at is None:
            self._grace_ends_at = self.kill_at = time.monotonic() + grace_seconds
            if self.is_starting:
                self.kill_at = min(self.kill_at, time.monotonic() + STARTING_GRACE_SECONDS)
            self._process.terminate()

    def is_overdue(self) -> bool:
        """Return whether its grace period is over.

        A worker that has made its first receive since it was asked has the whole period.
        """
        now = time.monotonic()
        if self.kill_at is None or now < self.kill_at:
            return False
        if not self.is_starting:
            self.kill_at = max(self.kill_at, self._grace_ends_at)
        return now >= self.kill_at

    def kill(self, exit_reason: ExitReason) -> None:
        """Kill its process."""
        if self._process is not None:
            self.exit_reason = exit_reason
            self._process.kill()
            self._process.wait()

    def overdue(self) -> Iterator[HandlerCall]:
        """Return the handler calls that exceed their time limit."""
        if self._process is not None:
            now = time.monotonic_ns()
            yield from (call for call in self.scoreboard.calls() if 0 < call.deadline_ns <= now)

    @property
    def is_silent(self) -> bool:
        """Whether its process runs without beats: a handler blocks the interpreter."""
        if not (self.is_running and self.is_ready and self.scoreboard.is_late and sees_others()):
            return False
        with suppress(psutil.Error):
            status = psutil.Process(self.pid).status()
            return status not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        return False

    def rss_bytes(self) -> int:
        """Return the memory that its process uses; 0 where it cannot be seen."""
        used = None if self._process is None else usage(self.pid)
        return 0 if used is None else used.rss_bytes


def describe_exit(code: int) -> str:
    """Return how a process ended, in words: its exit code, or the signal."""
    if code < 0:
        return signal_name(-code)
    if code == CLOSED_DESCRIPTORS:
        return f"exit code {code}, a handler closed file descriptors that are not its own"
    return f"exit code {code}"
