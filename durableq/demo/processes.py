"""Processes of demo, chaos and bench: started, watched, and all ended with their starter.

`python -m durableq.demo.processes` is their guard: it reads the session of each from stdin, one a
line, and kills them at the end of stdin, which is the end of the process that started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, TypeVar

import psutil

from durableq.model.errors import DurableQError

#: Maximum time for processes to finish their running work before they are killed.
STOP_SECONDS: Final = 10.0
#: By so much at most a deadline is longer on a loaded machine.
MOST_SCALE: Final = 6.0
#: Maximum wait for the end of killed processes.
KILL_SECONDS: Final = 1.0
TAIL_LINES: Final = 15
#: Attempts to set the niceness of a session.
AUTOGROUP_ATTEMPTS: Final = 5

_Fact = TypeVar("_Fact")


def scaled(seconds: float) -> float:
    """Return a deadline for a machine as loaded as this one, in seconds.

    What takes a second on an idle machine takes as many as there are processes for each processor,
    as the load average of the last minute tells.

    Args:
        seconds: the deadline on an idle machine.
    """
    if not hasattr(os, "getloadavg"):
        return seconds
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(max(1.0, crowd), MOST_SCALE)


class Guard:
    """A process that kills the sessions it was told of when this process dies."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "durableq.demo.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, session: int) -> None:
        """Tell it of a session."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # the guard was killed
                print(session, file=self._process.stdin, flush=True)

    def end(self) -> None:
        """End it: every process of the sessions has ended."""
        self._process.kill()
        self._process.communicate()


class Processes:
    """Several `python -m durableq …` processes; leaving the `with` block ends them all.

    A guard process ends them when this process dies. Each has a session of its own: Ctrl-C in the
    terminal reaches this process only, and the children of a process are known by its session, even
    after that process has died.

    Args:
        folder: the folder for the stderr of each process.
        environment: variables to add to those of this process.
        progress: called with a line for each process that was killed because it did not stop.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], progress: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._environment = {**os.environ, **environment}
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: Guard | None = None

    def start(self, name: str, *arguments: str, module: str = "") -> None:
        """Start `python -m durableq name arguments…`, or `python -m module arguments…`."""
        words = [module, *arguments] if module else ["durableq", name, *arguments]
        with self.log(name).open("wb") as log:
            self._started[name] = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        share_niceness(self._started[name].pid)
        if self._guard is not None:
            self._guard.watch(self._started[name].pid)

    def pid(self, name: str) -> int:
        """Return its process id."""
        return self._started[name].pid

    def ended(self, name: str) -> bool:
        """Return whether it has ended with exit code 0.

        Raises:
            DurableQError: it has failed; the message shows the end of its stderr.
        """
        code = self._started[name].poll()
        if code:
            raise DurableQError(self._report(name, f"failed with {_cause(code)}"))
        return code == 0

    def expect_running(self, name: str) -> None:
        """Check that it runs.

        Raises:
            DurableQError: it has ended; the message shows the end of its stderr.
        """
        if self.ended(name):
            raise DurableQError(self._report(name, "ended before the work did"))

    def wait_for(
        self, fact: Callable[[], _Fact], event: str, seconds: float, *, pause_seconds: float = 0.02
    ) -> _Fact:
        """Wait until a fact is true, while all processes run; return it.

        Args:
            fact: is asked again after each pause.
            event: names it in the error.
            seconds: maximum wait on an idle machine; see `scaled`.
            pause_seconds: between two questions.

        Raises:
            DurableQError: it was not true in time, or a process has ended.
        """
        allowed = scaled(seconds)
        deadline = time.monotonic() + allowed
        while not (found := fact()):
            for name in self._started:
                self.expect_running(name)
            if time.monotonic() > deadline:
                raise DurableQError(f"Waited {allowed:.0f} seconds for {event}, in vain.")
            time.sleep(pause_seconds)
        return found

    def children(self, name: str) -> list[psutil.Process]:
        """Return its children that still run."""
        with suppress(psutil.Error):
            found = psutil.Process(self._started[name].pid).children()
            return [child for child in found if lives(child)]
        return []

    def stop(self) -> None:
        """Stop all processes; kill those that do not end in time."""
        sessions = {process.pid for process in self._started.values()}
        for process in self._started.values():
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + scaled(STOP_SECONDS)
        try:
            for name, process in self._started.items():
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._progress(f"`durableq {name}` is killed: it has not stopped in time.")
        finally:
            left = kill_sessions(sessions)
            for process in self._started.values():
                process.wait()
            psutil.wait_procs([one for one in left if one.pid not in sessions], KILL_SECONDS)

    def __enter__(self) -> Processes:
        self._guard = Guard()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self._guard is not None:
                self._guard.end()

    def log(self, name: str) -> Path:
        """Return the file of its stderr."""
        return self._folder / f"{name}.log"

    def _report(self, name: str, fate: str) -> str:
        text = self.log(name).read_text(encoding="utf-8", errors="backslashreplace")
        tail = text.splitlines()[-TAIL_LINES:]
        said = "\n".join(f"    {line}" for line in tail) if tail else "    nothing"
        return f"`durableq {name}` {fate}. All were stopped. The last it said:\n{said}"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit in the block, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def lives(process: psutil.Process) -> bool:
    """Return whether a process lives and is no zombie."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def share_niceness(pid: int) -> None:
    """Give the session of a new process the niceness of this one.

    A process inherits its niceness, but Linux divides the processors among sessions first
    (autogroup), and a new session has the niceness 0: that of its processes then counts among
    themselves only. Where there are no autogroups nothing is to be done.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if not niceness:
        return
    for _ in range(AUTOGROUP_ATTEMPTS):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
        except BlockingIOError:  # the kernel takes one change in a tenth of a second
            time.sleep(0.1)
        except OSError:  # no such file, the process has ended, or not allowed
            return
        else:
            return


def kill_sessions(sessions: set[int]) -> list[psutil.Process]:
    """Kill every process of these sessions, and return them."""
    left = list(_of_sessions(sessions))
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    return left


def _of_sessions(sessions: set[int]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(process.pid) in sessions:
                yield process


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    kill_sessions({int(line) for line in sys.stdin})
