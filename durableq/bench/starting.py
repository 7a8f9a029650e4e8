"""Processes: the start-up of commands, the memory of an idle worker, the log after a drain."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from durableq.bench.app import HANDLER_VARIABLE, QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme
from durableq.bench.workers import APP
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes
from durableq.model.errors import DurableQError
from durableq.store.core import Capability

ROUNDS, QUICK_ROUNDS = 11, 2
IDLE_SECONDS: Final = 10.0
SECONDS: Final = 120.0
#: Messages that are drained before the log is looked at.
DRAINED: Final = 20_000
MIB: Final = 1 << 20

_COMMANDS: Final = {
    "durableq status": ("status",),
    "durableq --help": ("--help",),
    "durableq --version": ("--version",),
}
STATUS, HELP, VERSION = _COMMANDS
MEMORY: Final = "memory of an idle worker"
LOG: Final = "log after a drain"
ROWS: Final = (
    Row(STATUS, "s CPU", 0.35, at_least=False, seconds=15),
    Row(HELP, "s CPU", 0.2, at_least=False, seconds=8),
    Row(VERSION, "s CPU", 0.1, at_least=False, seconds=6),
    Row(MEMORY, "MiB", 40, at_least=False, seconds=20),
    Row(LOG, "MiB", 1, at_least=False, seconds=60),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module."""
    path = setting.folder / "queue.db"
    with DurableQ(path) as app:
        app.queue(QUEUE).send({"order": 1})
    commands = [row for row in rows if row.name in _COMMANDS]
    yield from _commands(commands, path, setting)
    for row in rows:
        if row.name in _FLEETS:
            setting.progress(row.name)
            yield _FLEETS[row.name](row, path, setting)


def _commands(rows: Sequence[Row], path: Path, setting: Setting) -> Iterator[Figure]:
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    used: dict[str, list[float]] = {row.name: [] for row in rows}
    for number in range(rounds + 1):
        setting.progress(f"start-up: round {number} of {rounds}")
        for row in rows:
            seconds = cpu_of_command(_COMMANDS[row.name], path)
            if number:  # the first round writes bytecode
                used[row.name].append(seconds)
    for row in rows:
        yield Figure(row, setting.synchronous, Spread.of(used[row.name]), {})


def cpu_of_command(arguments: Sequence[str], path: Path) -> float:
    """Run `durableq arguments…` with its output in a pipe; return its processor time.

    Raises:
        DurableQError: it failed.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "durableq", *arguments],
        env=os.environ | {URL_VARIABLE: str(path)},
        stdout=subprocess.PIPE,
    ) as process:
        if process.stdout is not None:
            process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise DurableQError(f"`durableq {' '.join(arguments)}` ended with {process.returncode}.")
    return used.ru_utime + used.ru_stime


def _memory(row: Row, path: Path, setting: Setting) -> Figure:
    """Return the resident memory of workers that have handled a message and are idle."""
    environment = {URL_VARIABLE: str(path), HANDLER_VARIABLE: "no-op"}
    procs = 1 if setting.quick else 4
    with (
        DurableQ(path) as app,
        Processes(setting.folder, environment, setting.progress) as processes,
    ):
        processes.start("work", "--procs", str(procs), "--app", APP)
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


def _log(row: Row, path: Path, setting: Setting) -> Figure:
    """Return the size of the log after a drain and ten idle seconds, with the workers running."""
    count = DRAINED // 10 if setting.quick else DRAINED
    environment = {URL_VARIABLE: str(path), HANDLER_VARIABLE: "no-op"}
    log = Path(f"{path}-wal")
    with (
        DurableQ(path) as app,
        Processes(setting.folder, environment, setting.progress) as processes,
    ):
        queue = app.queue(QUEUE)
        with queue.producer(batch_size=1000, linger=None) as producer:
            for number in range(count):
                producer.send({"order": number, "text": "x" * 76}, key=f"log-{number}")
        processes.start("work", "--procs", "4", "--app", APP)
        processes.wait_for(lambda: queue.info().counts.present == 0, "the drain", SECONDS)
        drained = log.stat().st_size / MIB
        deadline = time.monotonic() + IDLE_SECONDS
        sizes = [drained]
        while time.monotonic() < deadline:
            time.sleep(0.5)
            sizes.append(log.stat().st_size / MIB)
    details = {"at the drain, MiB": Spread.of([drained])}
    return Figure(row, "full", Spread.of([sizes[-1]]), details)


_FLEETS: Final[dict[str, Callable[[Row, Path, Setting], Figure]]] = {MEMORY: _memory, LOG: _log}


STARTING: Final = Theme("processes", ROWS, measure, by_synchronous=False)
