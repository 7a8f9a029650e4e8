"""A large file: looking at it, and receiving from it.

One file holds READY messages in one queue, DEAD dead letters, and an empty queue. `--quick` makes a
hundredth of it, which shows that the rows work and nothing about their targets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from durableq.admin.operations import examine
from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.raw import Raw
from durableq.bench.starting import cpu_of_command
from durableq.bench.subject import OfDurableQ, Workloads
from durableq.client.app import DurableQ
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.model.message import Failure, Reason
from durableq.store.core import Capability

READY, DEAD = 800_000, 200_000
BACKLOG, SMALL_BACKLOG = 1_000_000, 1_000
ROUNDS, QUICK_ROUNDS = 7, 2
#: Messages that are received and completed in a round from each backlog.
RECEIVED: Final = 300
BUILD: Final = 10_000
_EMPTY, _SICK = "empty", "sick"
_KINDS: Final = 20

PEEK, COUNTS, GROUPS = "peek of an empty queue", "counts", "dlq groups"
DOCTOR, LIST, DEEP = "doctor", "dlq list --limit 10000", "backlog 1 M against 1 k"
ROWS: Final = (
    Row(PEEK, "ms", 2, at_least=False, seconds=90, is_large=True),
    Row(COUNTS, "ms", 20, at_least=False, seconds=5, is_large=True),
    Row(GROUPS, "s", 0.2, at_least=False, seconds=10, is_large=True),
    Row(DOCTOR, "s", 0.5, at_least=False, seconds=15, is_large=True),
    Row(LIST, "s CPU", 1, at_least=False, seconds=60, is_large=True),
    Row(DEEP, "x 1 k", 1.1, at_least=False, seconds=60, is_large=True),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, on files that are made once."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    if setting.quick:
        rows = [replace(row, target=None) for row in rows]
    looking = [row for row in rows if row.name != DEEP]
    if looking:
        path = setting.folder / "large.db"
        with DurableQ(path) as app:
            _build(app, path, setting)
            for row in looking:
                setting.progress(f"{row.name}: {rounds} rounds")
                look = _LOOKS[row.name]
                scale = 1000 if row.unit == "ms" else 1
                found = [scale * look(app, path) for _ in range(rounds + 1)][1:]
                yield Figure(row, "normal", Spread.of(found), {})
    for row in rows:
        if row.name == DEEP:
            yield _deep(row, setting, rounds)


def _build(app: DurableQ, path: Path, setting: Setting) -> None:
    ready, dead = (READY // 100, DEAD // 100) if setting.quick else (READY, DEAD)
    for name in (QUEUE, _EMPTY):
        app.queue(name)
    app.queue(_SICK, max_receives=1, visibility_timeout=3600)
    _ = app.store
    _send(path, QUEUE, ready, setting)
    _send(path, _SICK, dead, setting)
    failures = [
        Failure(Reason.HANDLER_ERROR, "ValueError", f"kind {number}", "a traceback\n" * 10)
        for number in range(_KINDS)
    ]
    buried = 0
    while received := app.store.receive(_SICK, MAX_RECEIVE_BATCH).messages:
        failed = [
            (message.receipt, failures[number % _KINDS])
            for number, message in enumerate(received)
            if message.receipt is not None
        ]
        app.store.fail(failed)
        buried += len(failed)
        if buried % BUILD == 0:
            setting.progress(f"building: {buried} of {dead} dead letters")


def _send(path: Path, queue: str, count: int, setting: Setting) -> None:
    """Store messages by hand: this is not measured."""
    raw = Raw(path, queue, "normal")
    for start in range(0, count, BUILD):
        numbers = range(start, min(start + BUILD, count))
        raw.send_many([{"order": number, "text": "x" * 76} for number in numbers])
        setting.progress(f"building: {numbers.stop} of {count} messages in {queue}")
    raw.close()


def _wall(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _peek(app: DurableQ, _path: Path) -> float:
    inspect = app.store.require(Capability.INSPECT)
    return _wall(lambda: inspect.peek(_EMPTY, 20))


def _counts(app: DurableQ, _path: Path) -> float:
    return _wall(app.store.require(Capability.INSPECT).queues)


def _groups(app: DurableQ, _path: Path) -> float:
    return _wall(app.store.require(Capability.DEAD_LETTERS).dead_letter_groups)


def _doctor(_app: DurableQ, path: Path) -> float:
    return _wall(lambda: examine(str(path)))


def _list(_app: DurableQ, path: Path) -> float:
    return cpu_of_command(("dlq", "list", "--limit", "10000"), path)


_LOOKS: Final[dict[str, Callable[[DurableQ, Path], float]]] = {
    PEEK: _peek,
    COUNTS: _counts,
    GROUPS: _groups,
    DOCTOR: _doctor,
    LIST: _list,
}


def _deep(row: Row, setting: Setting, rounds: int) -> Figure:
    """Compare receiving from a long backlog and from a short one, in turn."""
    sizes = (SMALL_BACKLOG, BACKLOG // 100 if setting.quick else BACKLOG)
    samples: dict[int, list[Sample]] = {size: [] for size in sizes}
    subjects = {}
    for size in sizes:
        path = setting.folder / f"backlog-{size}.db"
        subjects[size] = OfDurableQ(path, "normal")
        _send(path, QUEUE, size, setting)
    for number in range(rounds + 1):
        setting.progress(f"{row.name}: round {number} of {rounds}")
        for size, subject in subjects.items():  # each sends as many as it receives
            times = Workloads(subject).run("receive", RECEIVED, 1, 100, keyed=False)
            if number:
                samples[size].append(Sample(*(seconds / RECEIVED for seconds in times)))
    small, large = samples.values()
    ratios = [b.cpu_seconds / a.cpu_seconds for a, b in zip(small, large, strict=True)]
    details = {
        f"{size}, µs CPU": Spread.of([1e6 * one.cpu_seconds for one in of_size])
        for size, of_size in samples.items()
    }
    for subject in subjects.values():
        subject.app.close()
    return Figure(row, "normal", Spread.of(ratios), details)


LARGE: Final = Theme("large", ROWS, measure, by_synchronous=False)
