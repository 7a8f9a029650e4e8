"""Fleets: `durableq work` beside hand-written processes, and beside itself with fewer processes.

The queue is paused while messages are sent and processes start. The time runs from the end of the
pause to the last completion, so it has no start-up in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from durableq.bench.app import HANDLER_VARIABLE, QUEUE
from durableq.bench.figures import Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.fleet import cpu_seconds
from durableq.bench.raw import Raw
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes
from durableq.store.core import Capability

APP: Final = "durableq.bench.app:dq"
ROUNDS, QUICK_ROUNDS = 5, 1
SECONDS: Final = 300.0
_CREATE: Final = "CREATE TABLE bench_effect (message_id INTEGER NOT NULL, amount INTEGER NOT NULL)"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Processes of one side.

    Args:
        handler: a name of durableq.bench.app.HANDLERS.
        procs: the number of processes.
        is_raw: whether they are hand-written.
    """

    handler: str
    procs: int
    is_raw: bool = False

    @property
    def name(self) -> str:
        """Its name among the details of a row."""
        side = "raw" if self.is_raw else "durableq"
        return f"{side}, {self.handler}, {self.procs} procs"


def _row(
    name: str,
    target: float,
    ours: Fleet,
    base: Fleet,
    count: int,
    *,
    synchronous: str = "normal",
    keyed: bool = False,
    at_least: bool = True,
) -> Row:
    unit = f"x {'raw' if base.is_raw else f'{base.procs} procs'}"
    if not at_least:
        unit = "x the time of raw"
    elif not base.is_raw and base.procs == ours.procs:
        unit = "x threads"
    workload = {
        "ours": ours,
        "base": base,
        "count": count,
        "synchronous": synchronous,
        "keyed": keyed,
    }
    return Row(name, unit, target, at_least, seconds=50, workload=workload)


ROWS: Final = (
    _row("fleet of 4, keys", 0.7, Fleet("no-op", 4), Fleet("no-op", 4, True), 20_000, keyed=True),
    _row("batch of 50 with effects", 0.5, Fleet("batch", 1), Fleet("batch", 1, True), 5_000),
    _row(
        "transaction per message, FULL",
        1.5,
        Fleet("transaction", 1),
        Fleet("transaction", 1, True),
        2_000,
        synchronous="full",
        at_least=False,
    ),
    _row(
        "transactions, 4 procs against 1",
        1.0,
        Fleet("transaction", 4),
        Fleet("transaction", 1),
        3_000,
    ),
    _row(
        "transactions, 4 procs, FULL",
        0.8,
        Fleet("transaction", 4),
        Fleet("transaction", 4, True),
        2_000,
        synchronous="full",
    ),
    _row("no-op, 4 procs", 0.9, Fleet("no-op", 4), Fleet("no-op", 4, True), 20_000),
    _row("no-op, 4 procs against 1", 1.0, Fleet("no-op", 4), Fleet("no-op", 1), 20_000),
    _row("no-op, 2 procs against 1", 1.0, Fleet("no-op", 2), Fleet("no-op", 1), 20_000),
    _row("1 ms CPU, 4 procs against 1", 1.5, Fleet("1 ms CPU", 4), Fleet("1 ms CPU", 1), 2_000),
    _row("10 ms wait, 4 procs against 1", 3, Fleet("10 ms wait", 4), Fleet("10 ms wait", 1), 400),
    _row("async against threads", 1.0, Fleet("async no-op", 1), Fleet("no-op", 1), 20_000),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module: both sides in turn, in each round."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    for row in rows:
        work = row.workload
        sides = [work["ours"], work["base"]]
        samples: dict[Fleet, list[Sample]] = {side: [] for side in sides}
        for number in range(rounds):
            setting.progress(f"{row.name}: round {number + 1} of {rounds}")
            for side in sides if number % 2 == 0 else reversed(sides):
                samples[side].append(_run(side, row, setting))
        pairs = [*zip(samples[work["ours"]], samples[work["base"]], strict=True)]
        ratios = [base.wall_seconds / ours.wall_seconds for ours, base in pairs]
        value = Spread.of(ratios if row.at_least else [1 / ratio for ratio in ratios])
        details = {}
        for side, of_side in samples.items():
            details[f"{side.name}, per second"] = Spread.of([1 / s.wall_seconds for s in of_side])
            details[f"{side.name}, µs CPU"] = Spread.of([1e6 * s.cpu_seconds for s in of_side])
        yield Figure(row, work["synchronous"], value, details)


def _run(side: Fleet, row: Row, setting: Setting) -> Sample:
    work = row.workload
    count = max(work["count"] // 10, 100) if setting.quick else work["count"]
    synchronous, keyed = work["synchronous"], work["keyed"]
    return run_fleet(side, count, setting, synchronous=synchronous, keyed=keyed)


def run_fleet(
    side: Fleet, count: int, setting: Setting, *, synchronous: str, keyed: bool
) -> Sample:
    """Let a fleet complete the messages of a new file; return the seconds of each."""
    path = setting.folder / "fleet.db"
    url = f"sqlite:///{path}?synchronous={synchronous}"
    try:
        with DurableQ(url) as app:
            _prepare(app, count, keyed=keyed)
            environment = {URL_VARIABLE: url, HANDLER_VARIABLE: side.handler}
            with Processes(setting.folder, environment, setting.progress) as processes:
                names = _start(processes, side, path, synchronous)
                processes.wait_for(lambda: _ready(app, side, setting.folder), "the fleet", SECONDS)
                time.sleep(0.5)  # the work of starting ends
                return _timed(app, path, processes, names, count)
    finally:
        for pattern in ("fleet.db*", "*.log", "*.ready"):
            for file in setting.folder.glob(pattern):
                file.unlink()


@contextmanager
def working(path: Path, procs: int, setting: Setting) -> Iterator[Processes]:
    """Run `durableq work` with a handler that does nothing, for the time of the block."""
    environment = {URL_VARIABLE: str(path), HANDLER_VARIABLE: "no-op"}
    with Processes(setting.folder, environment, setting.progress) as processes:
        processes.start("work", "--procs", str(procs), "--app", APP)
        yield processes


def _prepare(app: DurableQ, count: int, *, keyed: bool) -> None:
    queue = app.queue(QUEUE, visibility_timeout=3600)
    app.store.declare_queue(QUEUE, {"paused": 1})
    with app.engine.begin() as connection:
        connection.exec_driver_sql(_CREATE)
    with queue.producer(batch_size=100, linger=None) as producer:
        for number in range(count):
            key = f"order-{number}" if keyed else None
            producer.send({"order": number, "text": "x" * 76}, key=key)


def _start(processes: Processes, side: Fleet, path: Path, synchronous: str) -> list[str]:
    if not side.is_raw:
        processes.start("work", "--procs", str(side.procs), "--app", APP)
        return ["work"]
    names = [f"raw-{number}" for number in range(side.procs)]
    for name in names:
        arguments = (str(path), synchronous, side.handler, str(path.with_name(f"{name}.ready")))
        processes.start(name, *arguments, module="durableq.bench.raw_worker")
    return names


def _ready(app: DurableQ, side: Fleet, folder: Path) -> bool:
    if side.is_raw:
        return len([*folder.glob("raw-*.ready")]) == side.procs
    # The supervisor lists a worker that still imports its application, without queues.
    workers = app.store.require(Capability.FLEET).workers()
    return sum(bool(worker.queues) for worker in workers) == side.procs


def _timed(
    app: DurableQ, path: Path, processes: Processes, names: Sequence[str], count: int
) -> Sample:
    watching = Raw(path, QUEUE, "normal")
    try:
        family = [
            member
            for name in names
            for member in (psutil.Process(processes.pid(name)), *processes.children(name))
        ]
        cpu = cpu_seconds(family)
        began = time.perf_counter()
        app.store.declare_queue(QUEUE, {"paused": 0})
        processes.wait_for(
            lambda: watching.completed() >= count,
            "the messages to end",
            SECONDS,
            pause_seconds=0.005,
        )
        ended = time.perf_counter()
        return Sample((cpu_seconds(family) - cpu) / count, (ended - began) / count)
    finally:
        watching.close()


WORKERS: Final = Theme("workers", ROWS, measure, ROUNDS, by_synchronous=False)
