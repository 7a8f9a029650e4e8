"""Several processes on PostgreSQL: producers at once, and a fleet, beside hand-written ones.

The ratios are of wall time, for a lock that is waited for takes no processor time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

import psutil

from durableq.bench.app import HANDLER_VARIABLE, QUEUE
from durableq.bench.figures import RAW, SUBJECT, Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.fleet import cpu_seconds
from durableq.bench.messages import times_of
from durableq.bench.piped import PipedProcess
from durableq.bench.postgres import raw
from durableq.bench.postgres.messages import Side
from durableq.bench.postgres.server import Meter, Schemas, watching, with_options
from durableq.bench.workers import APP, SECONDS
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes
from durableq.store.core import Capability

PROCS: Final = 4
ROUNDS, QUICK_ROUNDS = 7, 1
#: Messages of a producer in a round by the size of its batches; those of a fleet.
COUNTS: Final = {1: 150, 10: 1_000}
FLEET_MESSAGES: Final = 10_000
_COMPLETED: Final = "SELECT sum(completed)::bigint FROM durableq_totals"
_WORKER: Final = "durableq.bench.postgres.raw_worker"


def _producers(name: str, batch: int, *, keyed: bool) -> Row:
    workload = {"operation": "store", "batch": batch, "keyed": keyed, "body_bytes": 250}
    return Row(f"{PROCS} producers, {name}", "x raw", 0.85, seconds=20, workload=workload)


FLEET: Final = f"fleet of {PROCS}, keys"
ROWS: Final = (
    _producers("send one, key", 1, keyed=True),
    _producers("send in 10", 10, keyed=False),
    Row(FLEET, "x raw", seconds=80),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module: both sides in turn, in each round."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    for row in rows:
        run = _fleets if row.name == FLEET else _senders
        samples: dict[str, list[Sample]] = {SUBJECT: [], RAW: []}
        for name, sample in run(row, setting, rounds):
            samples[name].append(sample)
        pairs = [*zip(samples[RAW], samples[SUBJECT], strict=True)]
        details = times_of(samples)
        details["CPU, x raw"] = Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in pairs])
        value = Spread.of([a.wall_seconds / b.wall_seconds for a, b in pairs])
        yield Figure(row, setting.synchronous, value, details)


def _senders(row: Row, setting: Setting, rounds: int) -> Iterator[tuple[str, Sample]]:
    """Let several processes send at the same time; what they send stays."""
    each = COUNTS[row.workload["batch"]] // (10 if setting.quick else 1)
    line = json.dumps({**row.workload, "count": each})
    with Schemas(setting.database) as schemas, ExitStack() as stack:
        urls = {name: schemas.make(name) for name in (SUBJECT, RAW)}
        raw.create(urls[RAW])
        sides = [
            (name, [stack.enter_context(Side(name, url)) for _ in range(PROCS)])
            for name, url in urls.items()
        ]
        for number in range(rounds + 1):
            setting.progress(f"{row.name}: round {number} of {rounds}")
            for name, processes in sides if number % 2 == 0 else reversed(sides):
                began = time.perf_counter()
                for process in processes:
                    process.tell(line)
                cpu = sum(json.loads(process.answer())[0] for process in processes)
                wall = time.perf_counter() - began
                if number:  # the first round warms up
                    yield name, Sample(cpu / (PROCS * each), wall / (PROCS * each))


def _fleets(row: Row, setting: Setting, rounds: int) -> Iterator[tuple[str, Sample]]:
    """Let a fleet complete a backlog, each time in a new schema."""
    count = FLEET_MESSAGES // (20 if setting.quick else 1)
    sides = [(SUBJECT, _work), (RAW, _work_by_hand)]
    for number in range(rounds):
        setting.progress(f"{row.name}: round {number + 1} of {rounds}")
        for name, work in sides if number % 2 == 0 else reversed(sides):
            with Schemas(setting.database) as schemas:
                cpu, wall = work(schemas.make(name), count, setting)
            yield name, Sample(cpu / count, wall / count)


def _bodies(start: int, count: int) -> tuple[list[Any], list[str]]:
    numbers = range(start, start + count)
    bodies = [{"order": number, "text": "x" * 226} for number in numbers]
    return bodies, [f"order-{number}" for number in numbers]


def _work_by_hand(url: str, count: int, _setting: Setting) -> tuple[float, float]:
    raw.create(url)
    with closing(raw.Raw(url)) as sender:
        for start in range(0, count, 100):
            sender.send_many(*_bodies(start, 100))
    with ExitStack() as stack:
        workers = [
            stack.enter_context(PipedProcess("a hand-written worker", "-m", _WORKER, url))
            for _ in range(PROCS)
        ]
        for worker in workers:
            worker.answer()
        began = time.perf_counter()
        for worker in workers:
            worker.tell()
        cpu = sum(float(worker.answer()) for worker in workers)
        return cpu, time.perf_counter() - began


def _work(url: str, count: int, setting: Setting) -> tuple[float, float]:
    """Run `durableq work` on a queue that is paused until the workers are there."""
    of_fleet = with_options(url, application_name="fleet")
    environment = {URL_VARIABLE: of_fleet, HANDLER_VARIABLE: "no-op"}
    with (
        DurableQ(url) as app,
        Processes(setting.folder, environment, setting.progress) as processes,
    ):
        queue = app.queue(QUEUE, visibility_timeout=3600)
        app.store.declare_queue(QUEUE, {"paused": 1})
        with queue.producer(batch_size=100, linger=None) as producer:
            for body, key in zip(*_bodies(0, count), strict=True):
                producer.send(body, key=key)
        processes.start("work", "--procs", str(PROCS), "--app", APP)
        fleet = app.store.require(Capability.FLEET)
        processes.wait_for(
            lambda: sum(bool(worker.queues) for worker in fleet.workers()) == PROCS,
            "the fleet",
            SECONDS,
        )
        time.sleep(0.5)  # the work of starting ends
        return _timed(app, processes, url, count)


def _timed(app: DurableQ, processes: Processes, url: str, count: int) -> tuple[float, float]:
    family = [psutil.Process(processes.pid("work")), *processes.children("work")]
    with closing(Meter(url, "fleet")) as meter, closing(watching(url)) as looking:

        def used() -> float:
            if not meter.sees_server:
                return time.perf_counter()
            return cpu_seconds(family) + meter.of_server()

        cpu, began = used(), time.perf_counter()
        app.store.declare_queue(QUEUE, {"paused": 0})
        processes.wait_for(
            lambda: looking.execute(_COMPLETED).fetchone()[0] >= count,
            "the messages to end",
            SECONDS,
            pause_seconds=0.01,
        )
        ended = time.perf_counter()
        return used() - cpu, ended - began


MANY: Final = Theme("processes", ROWS, measure, ROUNDS)
