"""The processor time of an idle fleet, and its latency when work arrives.

The figures are for people; no test depends on them.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import psutil

from durableq.bench.app import HOLD, NOTES_VARIABLE, QUEUE
from durableq.bench.figures import machine, percentile
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.client.queue import Queue
from durableq.demo.processes import Processes, ended_by_signals
from durableq.store.core import Capability

APP: Final = "durableq.bench.app:dq"
START_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 30.0
_Fact = TypeVar("_Fact")
#: Shortest and longest pause between two sends, so that the workers are idle again.
BETWEEN_SECONDS: Final = (0.02, 0.1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured figures, in milliseconds and percent of one core."""

    machine: str
    procs: int
    #: From the return of send() to the first line of the handler.
    wake_up_ms: list[float]
    #: From SIGKILL of a worker to the first line of another one's handler.
    give_back_ms: list[float]
    idle_seconds: float
    #: All workers together.
    idle_workers_percent: float
    idle_supervisor_percent: float

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Name, bound and figure, for a table."""
        wake, back = self.wake_up_ms, self.give_back_ms
        return [
            ("send to handler, p50", "5 ms", f"{percentile(wake, 50):.2f} ms"),
            ("send to handler, p99", "25 ms", f"{percentile(wake, 99):.2f} ms"),
            ("send to handler, max", "", f"{max(wake):.2f} ms of {len(wake)}"),
            ("kill -9 to handled again, p50", "250 ms", f"{percentile(back, 50):.1f} ms"),
            ("kill -9 to handled again, max", "250 ms", f"{max(back):.1f} ms of {len(back)}"),
            (f"{self.procs} idle workers", "2 %", f"{self.idle_workers_percent:.2f} % of a core"),
            ("idle supervisor", "", f"{self.idle_supervisor_percent:.2f} % of a core"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under stable names."""
        wake, back = self.wake_up_ms, self.give_back_ms
        return {
            "machine": self.machine,
            "procs": self.procs,
            "wake_up_ms": _spread(wake),
            "give_back_ms": _spread(back),
            "idle": {
                "seconds": self.idle_seconds,
                "workers_percent": round(self.idle_workers_percent, 3),
                "supervisor_percent": round(self.idle_supervisor_percent, 3),
            },
        }


def measure(
    procs: int, messages: int, kills: int, idle_seconds: float, progress: Callable[[str], None]
) -> Figures:
    """Start a fleet on a new file and measure it; no process outlives the call.

    Args:
        procs: the number of worker processes, at least 2.
        messages: the number of timed sends.
        kills: the number of killed workers.
        idle_seconds: the time for which the idle fleet is watched.
        progress: called with a line that names each measurement.

    Raises:
        DurableQError: the fleet does not start, or does not process a message in time.
    """
    with ended_by_signals(), TemporaryDirectory(prefix="durableq-bench-") as name:
        folder = Path(name)
        notes = Notes(folder / "notes")
        with (
            DurableQ(folder / "bench.db") as app,
            _fleet(app, folder, procs, notes, progress) as processes,
        ):
            queue = app.queue(QUEUE)
            progress(f"waiting: {procs} workers start")
            processes.wait_for(
                lambda: len(_workers(app)) == procs, "the workers to start", START_SECONDS
            )
            progress(f"idle: watching for {idle_seconds:g} s")
            workers_percent, supervisor_percent = _idle(processes, app, idle_seconds)
            progress(f"wake-up: {messages} messages, one at a time")
            wake_up = [_wake_up(processes, queue, notes) for _ in range(messages)]
            give_back = []
            for number in range(kills):
                progress(f"give-back: kill -9 {number + 1} of {kills}")
                give_back.append(_give_back(processes, app, queue, notes, procs))
    return Figures(
        machine(),
        procs,
        wake_up,
        give_back,
        idle_seconds,
        workers_percent,
        supervisor_percent,
    )


class Notes:
    """The handlers' notes: message, start time and worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, message_id: str) -> list[tuple[int, int]]:
        """Return the worker and the time, in ns, of each start of the message's handler."""
        text = self.path.read_text() if self.path.exists() else ""
        lines = [line.split() for line in text.rpartition("\n")[0].splitlines()]
        return [(int(pid), int(at)) for of, pid, at in lines if of == message_id]

    def again(self, message_id: str) -> int:
        """Return the time, in ns, of the second start of the message's handler; 0 before."""
        starts = self.of(message_id)
        return starts[1][1] if len(starts) > 1 else 0


@contextmanager
def _fleet(
    app: DurableQ, folder: Path, procs: int, notes: Notes, progress: Callable[[str], None]
) -> Iterator[Processes]:
    """Run `durableq work` as a process of its own."""
    _ = app.store  # creates the file before the workers start
    environment = {URL_VARIABLE: app.url, NOTES_VARIABLE: str(notes.path)}
    with Processes(folder, environment, progress) as processes:
        processes.start("work", "--procs", str(procs), "--app", APP)
        yield processes


def _workers(app: DurableQ) -> list[int]:
    return [worker.pid for worker in app.store.require(Capability.FLEET).workers()]


def _idle(processes: Processes, app: DurableQ, seconds: float) -> tuple[float, float]:
    """Return the CPU use of the workers together, and of the supervisor, in percent of a core."""
    pids = set(_workers(app))
    fleet = psutil.Process(processes.pid("work"))
    workers = [process for process in processes.children("work") if process.pid in pids]
    time.sleep(1)  # let the work of starting end
    workers_before, fleet_before = cpu_seconds(workers), cpu_seconds([fleet])
    time.sleep(seconds)
    workers_used = cpu_seconds(workers) - workers_before
    fleet_used = cpu_seconds([fleet]) - fleet_before
    return 100 * workers_used / seconds, 100 * fleet_used / seconds


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time that processes have used, of user and system together."""
    times = [process.cpu_times() for process in processes]
    return sum(used.user + used.system for used in times)


def _wake_up(processes: Processes, queue: Queue, notes: Notes) -> float:
    time.sleep(random.uniform(*BETWEEN_SECONDS))
    message_id = queue.send("")
    sent_ns = time.monotonic_ns()
    begun = processes.wait_for(
        lambda: notes.of(message_id), "a message to be handled", ANSWER_SECONDS
    )
    return (begun[0][1] - sent_ns) / 1e6


def _give_back(
    processes: Processes, app: DurableQ, queue: Queue, notes: Notes, procs: int
) -> float:
    """Return the time, in ms, from the kill of a message's worker to its next handler."""
    message_id = queue.send(HOLD)
    ((pid, _),) = processes.wait_for(
        lambda: notes.of(message_id), "a worker to hold a message", ANSWER_SECONDS
    )
    time.sleep(random.uniform(*BETWEEN_SECONDS))
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    begun_ns = processes.wait_for(lambda: notes.again(message_id), "its return", ANSWER_SECONDS)
    processes.wait_for(
        lambda: len(_workers(app)) == procs, "the replacement to start", START_SECONDS
    )
    return (begun_ns - killed_ns) / 1e6


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "p50": round(percentile(values, 50), 3),
        "p99": round(percentile(values, 99), 3),
        "max": round(max(values), 3),
        "mean": round(statistics.fmean(values), 3),
    }
