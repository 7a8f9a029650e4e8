"""The time from a send to its handler: with an idle fleet, and at half of its throughput.

A sample is the time from the return of `send()` to the first line of the handler.
The two bounds with `synchronous=full` depend on the disk, so one synced commit is measured beside.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from durableq.bench.app import HANDLER_VARIABLE, NOTES_VARIABLE, QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme, histogram, percentile
from durableq.bench.raw import Raw
from durableq.bench.workers import APP
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes
from durableq.store.core import Capability

PROCS: Final = 4
IDLE, LOADED, CAPACITY = 300, 2_000, 3_000
QUICK: Final = 20
#: Shortest and longest pause between two sends to an idle fleet.
PAUSES_SECONDS: Final = (0.02, 0.1)
SECONDS: Final = 120.0
_BOUND: Final = "x (commit + 1 ms)"
ROUNDS: Final = 3

ROWS: Final = (
    Row("latency, idle, p50", "ms", 2, False, 30, synchronous="normal"),
    Row("latency, idle, p99", "ms", 5, False, 1, synchronous="normal"),
    Row("latency, idle, FULL, p50", _BOUND, 1, False, 30, synchronous="full"),
    Row("latency, idle, FULL, p99", _BOUND, 3, False, 1, synchronous="full"),
    Row("latency, half load, p50", "ms", 3, False, 30, synchronous="normal"),
    Row("latency, half load, p99", "ms", 12, False, 1, synchronous="normal"),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module; p50 and p99 come from one sample."""
    commit_ms = _commit_ms(setting)
    for loaded in (False, True):
        chosen = [row for row in rows if ("half load" in row.name) == loaded]
        if not chosen:
            continue
        name = f"latency, {'half load' if loaded else 'idle'}, {setting.synchronous}"
        rounds = setting.rounds or (1 if setting.quick else ROUNDS)
        samples = []
        for number in range(rounds):
            setting.progress(f"{name}: round {number + 1} of {rounds}")
            samples.append(_sample(setting, loaded=loaded))
        everything = [one for sample in samples for one in sample]
        for row in chosen:
            percent = 99 if row.name.endswith("p99") else 50
            scale = 1 / (commit_ms + 1) if row.unit == _BOUND else 1
            value = Spread.of([scale * percentile(sample, percent) for sample in samples])
            details = _details(everything, commit_ms)
            yield Figure(
                row, setting.synchronous, value, details, histogram(name, everything, "messages")
            )


def _details(sample: Sequence[float], commit_ms: float) -> dict[str, Spread]:
    found = {
        "p50, ms": percentile(sample, 50),
        "p99, ms": percentile(sample, 99),
        "longest, ms": max(sample),
        "one commit, ms": commit_ms,
    }
    return {name: Spread.of([value]) for name, value in found.items()}


def _commit_ms(setting: Setting) -> float:
    """Return the median duration of one hand-written send."""
    path = setting.folder / "commit.db"
    with DurableQ(path) as app:
        app.queue(QUEUE)
        _ = app.store
    raw = Raw(path, QUEUE, setting.synchronous)
    durations = []
    for number in range(QUICK if setting.quick else 100):
        began = time.perf_counter()
        raw.send({"order": number})
        durations.append(1000 * (time.perf_counter() - began))
    raw.close()
    return statistics.median(durations)


def _sample(setting: Setting, *, loaded: bool) -> list[float]:
    """Return the latencies in ms of the messages of one fleet on a new file."""
    path, notes = setting.folder / "latency.db", setting.folder / "notes"
    notes.write_text("")
    url = f"sqlite:///{path}?synchronous={setting.synchronous}"
    environment = {URL_VARIABLE: url, NOTES_VARIABLE: str(notes), HANDLER_VARIABLE: "note"}
    with (
        DurableQ(url) as app,
        Processes(setting.folder, environment, setting.progress) as processes,
    ):
        app.queue(QUEUE).send("warm")
        processes.start("work", "--procs", str(PROCS), "--app", APP)
        fleet = app.store.require(Capability.FLEET)
        processes.wait_for(
            lambda: len(fleet.workers()) == PROCS and len(begun(notes)) == 1, "the fleet", SECONDS
        )
        time.sleep(0.5)
        pause = None
        if loaded:
            pause = 2 * _capacity(app, notes, processes, QUICK * 10 if setting.quick else CAPACITY)
        count = QUICK if setting.quick else LOADED if loaded else IDLE
        return timed(app, notes, processes, count, pause)


def _capacity(app: DurableQ, notes: Path, processes: Processes, count: int) -> float:
    """Return the seconds that the fleet takes for a message of a backlog."""
    before = len(begun(notes))
    began = time.monotonic()
    with app.queue(QUEUE).producer(batch_size=100, linger=None) as producer:
        for _ in range(count):
            producer.send("")
    processes.wait_for(lambda: len(begun(notes)) >= before + count, "the messages", SECONDS)
    return (time.monotonic() - began) / count


def timed(
    app: DurableQ, notes: Path, processes: Processes, count: int, pause: float | None
) -> list[float]:
    """Send messages singly; return the ms from each send's return to its handler.

    Args:
        app: the application.
        notes: the handlers' notes.
        processes: the fleet.
        count: the number of messages.
        pause: seconds from one send to the next; None: at random, so that the fleet is idle.
    """
    queue, sent = app.queue(QUEUE), {}
    due = time.monotonic()
    for _ in range(count):
        if pause is None:
            time.sleep(random.uniform(*PAUSES_SECONDS))
        else:
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
        message_id = queue.send("")
        sent[message_id] = time.monotonic_ns()
    processes.wait_for(lambda: sent.keys() <= begun(notes).keys(), "the messages", SECONDS)
    at_ns = begun(notes)
    return [(at_ns[message_id] - at) / 1e6 for message_id, at in sent.items()]


def begun(notes: Path) -> dict[str, int]:
    """Return when the handler of each message began, in ns, from the handlers' notes."""
    lines = notes.read_text().rpartition("\n")[0].splitlines()
    return {message_id: int(at) for message_id, _, at in map(str.split, lines)}


LATENCY: Final = Theme("latency", ROWS, measure, ROUNDS)
