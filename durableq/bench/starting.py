"""Processes: the start-up of commands, and the log after a drain."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme
from durableq.bench.workers import working
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.model.errors import DurableQError

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
LOG: Final = "log after a drain"
ROWS: Final = (
    Row(STATUS, "s CPU", 0.35, at_least=False, seconds=15),
    Row(HELP, "s CPU", 0.2, at_least=False, seconds=8),
    Row(VERSION, "s CPU", 0.1, at_least=False, seconds=6),
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
        if row.name == LOG:
            setting.progress(row.name)
            yield _log(row, path, setting)


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
        process_group=0,  # Ctrl-C reaches this process alone, which ends it
    ) as process:
        try:
            if process.stdout is not None:
                process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise DurableQError(f"`durableq {' '.join(arguments)}` ended with {process.returncode}.")
    return used.ru_utime + used.ru_stime


def _log(row: Row, path: Path, setting: Setting) -> Figure:
    """Return the size of the log after a drain and ten idle seconds, with the workers running."""
    count = DRAINED // 10 if setting.quick else DRAINED
    log = Path(f"{path}-wal")
    with DurableQ(path) as app:
        queue = app.queue(QUEUE)
        with queue.producer(batch_size=1000, linger=None) as producer:
            for number in range(count):
                producer.send({"order": number, "text": "x" * 76}, key=f"log-{number}")
        with working(path, 4, setting) as processes:
            processes.wait_for(lambda: queue.info().counts.present == 0, "the drain", SECONDS)
            drained = log.stat().st_size / MIB
            time.sleep(IDLE_SECONDS)
            left = log.stat().st_size / MIB
    details = {"at the drain, MiB": Spread.of([drained])}
    return Figure(row, "full", Spread.of([left]), details)


STARTING: Final = Theme("processes", ROWS, measure, ROUNDS, by_synchronous=False)
