"""The fleet: worker processes started by exec, watched, restarted when they die, told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from durableq.errors import DurableQError
from durableq.processes import is_alive
from durableq.store import Store
from durableq.worker import WorkerOptions

WATCH_SECONDS: Final = 0.05
"""How often the fleet is looked at: a dead worker's messages are given back this soon."""
RESTART_SECONDS: Final = (0.1, 5.0)
"""First and longest pause before a dead worker is started again; doubled by each quick death."""
STEADY_SECONDS: Final = 10.0
"""A worker that lived this long dies a first time again."""


@dataclass
class _Member:
    """One place in the fleet, and the process that fills it."""

    options: WorkerOptions
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = RESTART_SECONDS[0]
    due: float = field(default=0.0)
    """When it is to be started; a monotonic time."""


class Fleet:
    """Runs N workers until they have drained or somebody says stop.

    Args:
        options: what each worker is told.
        procs: how many.
        store: where a dead worker's messages are given back.
        on_event: told in a sentence of each start, death and stop.
    """

    def __init__(
        self,
        options: WorkerOptions,
        procs: int,
        store: Store,
        *,
        on_event: Callable[[str], None],
    ) -> None:
        self._store = store
        self._say = on_event
        self._stop_signals = 0
        self._woken = threading.Event()
        self._members = [
            _Member(replace(options, name=f"worker-{number}", parent_pid=os.getpid()))
            for number in range(1, procs + 1)
        ]

    def run(self) -> int:
        """Run the fleet; return the exit code: 0 drained or stopped, 1 a worker had to be killed.

        SIGTERM and SIGINT are passed on: workers finish what is in hand. A second one kills.
        """
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            return self._watch()
        finally:
            for member in self._members:
                self._kill(member)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self) -> int:
        told = 0
        while True:
            for member in self._members:
                self._look_after(member)
            if not self._members:
                return 0
            if self._stop_signals > told:
                told = self._stop_signals
                if told > 1:
                    self._say("stopping at once")
                    return 1
                self._say("stopping: workers finish what they have in hand")
                for member in self._members:
                    self._tell(member)
            if told:
                self._members = [m for m in self._members if m.process is not None]
            self._woken.wait(WATCH_SECONDS)
            self._woken.clear()

    def _look_after(self, member: _Member) -> None:
        if member.process is None:
            if not self._stop_signals and time.monotonic() >= member.due:
                self._start(member)
            return
        code = member.process.poll()
        if code is None:
            return
        pid, member.process = member.process.pid, None
        if code == 0:
            self._members = [m for m in self._members if m is not member]
            return
        self._give_back(pid)
        now = time.monotonic()
        steady = now - member.started > STEADY_SECONDS
        member.pause = RESTART_SECONDS[0] if steady else min(2 * member.pause, RESTART_SECONDS[1])
        member.due = now + member.pause
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._say(f"{member.options.name} (pid {pid}) died: {cause}; restarting")

    def _start(self, member: _Member) -> None:
        # A process group of its own: Ctrl-C in the terminal reaches the fleet, which tells it.
        command = [sys.executable, "-m", "durableq.worker", member.options.to_json()]
        member.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        member.started = time.monotonic()
        self._say(f"{member.options.name} (pid {member.process.pid}) started")

    def _give_back(self, pid: int) -> None:
        """Take the leases of a dead child back now, instead of when they end."""
        try:
            for worker in self._store.workers():
                if worker.pid == pid and not is_alive(worker):
                    self._store.unregister(worker.holder)
        except DurableQError as error:
            self._say(f"what pid {pid} held comes back when its leases end: {error}")

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop_signals += 1
        self._woken.set()

    @staticmethod
    def _tell(member: _Member) -> None:
        if member.process is not None:
            with suppress(ProcessLookupError):
                member.process.terminate()

    def _kill(self, member: _Member) -> None:
        if member.process is not None:
            member.process.kill()
            member.process.wait()
            self._give_back(member.process.pid)
