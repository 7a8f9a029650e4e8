"""Resident memory of processes: idle workers, and senders and workers of small and large bodies.

`python -m durableq.bench.memory FILE BYTES` is such a sender: it sends one batch and prints the
largest resident memory that it has had.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme
from durableq.bench.piped import PipedProcess
from durableq.bench.workers import working
from durableq.client.app import DurableQ
from durableq.store.core import Capability

ROUNDS: Final = 3
SECONDS: Final = 120.0
MIB: Final = 1 << 20
SMALL, LONG = 100, 500_000
#: Messages of a batch, and the number of batches that a worker drains.
BATCH, BATCHES = 100, 5

IDLE: Final = "memory of an idle worker"


def _row(name: str, of: str, body_bytes: int) -> Row:
    workload = {"of": of, "body_bytes": body_bytes}
    return Row(name, "MiB", at_least=False, seconds=15, workload=workload)


ROWS: Final = (
    Row(IDLE, "MiB", 40, at_least=False, seconds=20),
    _row("memory of a worker, 100 B bodies", "worker", SMALL),
    _row("memory of a worker, 500 KB bodies", "worker", LONG),
    _row("memory of a sender, 100 B bodies", "sender", SMALL),
    _row("memory of a sender, 500 KB bodies", "sender", LONG),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module."""
    rounds = setting.rounds or (1 if setting.quick else ROUNDS)
    for row in rows:
        if row.name == IDLE:
            setting.progress(row.name)
            yield _idle(row, setting)
            continue
        peak = _PEAKS[row.workload["of"]]
        found = []
        for number in range(rounds):
            setting.progress(f"{row.name}: round {number + 1} of {rounds}")
            found.append(peak(row.workload["body_bytes"], setting))
        yield Figure(row, "full", Spread.of(found), {})


def _idle(row: Row, setting: Setting) -> Figure:
    """Return the resident memory of workers that have handled a message and are idle."""
    path = setting.folder / "idle.db"
    procs = 1 if setting.quick else 4
    with DurableQ(path) as app, working(path, procs, setting) as processes:
        fleet = app.store.require(Capability.FLEET)
        processes.wait_for(lambda: len(fleet.workers()) == procs, "the workers", SECONDS)
        queue = app.queue(QUEUE)
        for _ in range(100):
            queue.send({"order": 1})
        processes.wait_for(lambda: queue.info().counts.present == 0, "the messages", SECONDS)
        time.sleep(1)
        pids = [worker.pid for worker in fleet.workers()]
        resident = [psutil.Process(pid).memory_info().rss / MIB for pid in pids]
        supervisor = psutil.Process(processes.pid("work")).memory_info().rss / MIB
    details = {"supervisor, MiB": Spread.of([supervisor])}
    return Figure(row, "full", Spread.of(resident), details)


def _of_worker(body_bytes: int, setting: Setting) -> float:
    """Return the largest resident memory of one worker that drains a queue."""
    path = setting.folder / f"worker-{body_bytes}.db"
    with DurableQ(path) as app:
        queue = app.queue(QUEUE, max_body_bytes=MIB)
        for _ in range(1 if setting.quick else BATCHES):
            queue.send_many(bodies(body_bytes))
        with working(path, 1, setting) as processes:
            processes.wait_for(lambda: queue.info().counts.present == 0, "the drain", SECONDS)
            (worker,) = app.store.require(Capability.FLEET).workers()
            return peak_bytes(worker.pid) / MIB


def _of_sender(body_bytes: int, setting: Setting) -> float:
    """Return the largest resident memory of a process that sends one batch."""
    path = setting.folder / f"sender-{body_bytes}.db"
    arguments = ("-m", "durableq.bench.memory", str(path), str(body_bytes))
    with PipedProcess("a sender", *arguments) as sender:
        return int(sender.answer()) / MIB


_PEAKS: Final[dict[str, Callable[[int, Setting], float]]] = {
    "worker": _of_worker,
    "sender": _of_sender,
}


def bodies(body_bytes: int) -> list[dict[str, object]]:
    """Return the bodies of a batch, each with a text of its own."""
    length = max(body_bytes - 24, 8)
    return [{"order": number, "text": f"{number:08}" * (length // 8)} for number in range(BATCH)]


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory that a process has had, or has now if that is unknown."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return psutil.Process(pid).memory_info().rss
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return psutil.Process(pid).memory_info().rss if found is None else int(found[1]) << 10


def main() -> None:
    """Send a batch, and print this process's largest resident memory in bytes."""
    path, body_bytes = sys.argv[1:]
    with DurableQ(path) as app:
        app.queue(QUEUE, max_body_bytes=MIB).send_many(bodies(int(body_bytes)))
    print(peak_bytes(os.getpid()), flush=True)  # noqa: T201 - to the starter


MEMORY: Final = Theme("memory", ROWS, measure, ROUNDS, by_synchronous=False)

if __name__ == "__main__":
    main()
