"""A large file: looking at it, and receiving from it and beside it.

One file holds READY messages in one queue, DEAD dead letters, and an empty queue. Others have
backlogs of several lengths. `--quick` makes a hundredth of each, which shows that the rows work and
nothing about their targets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from durableq.admin.operations import examine
from durableq.bench.app import QUEUE
from durableq.bench.figures import Chart, Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.raw import Raw
from durableq.bench.starting import cpu_of_command
from durableq.bench.subject import OfDurableQ, Workloads
from durableq.client.app import DurableQ
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.model.message import Failure, Reason
from durableq.store.core import Capability

READY, DEAD = 800_000, 200_000
#: Lengths of backlogs; the ratio is of the last to the first.
BACKLOGS: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS, QUICK_ROUNDS = 7, 2
#: The share of the numbers above in the quick mode.
QUICK_SHARE: Final = 100
#: Messages that are received and completed in a round from each backlog.
RECEIVED: Final = 300
BUILD: Final = 10_000
_EMPTY: Final = "empty"
#: The queues of the ready messages, and of the dead letters.
OTHER, SICK = "other", "sick"
_KINDS: Final = 20

PEEK, COUNTS, GROUPS = "peek of an empty queue", "counts", "dlq groups"
DOCTOR, LIST = "doctor", "dlq list --limit 10000"
BESIDE: Final = "beside 800 k other messages"
DEEP, OVER = "backlog 1 M against 1 k", "throughput over backlog"
ROWS: Final = (
    Row(PEEK, "ms", 2, at_least=False, seconds=90, is_large=True),
    Row(COUNTS, "ms", 20, at_least=False, seconds=5, is_large=True),
    Row(GROUPS, "s", 0.2, at_least=False, seconds=10, is_large=True),
    Row(DOCTOR, "s", 0.5, at_least=False, seconds=15, is_large=True),
    Row(LIST, "s CPU", 1, at_least=False, seconds=60, is_large=True),
    Row(BESIDE, "x alone", 1.1, at_least=False, seconds=10, is_large=True),
    Row(DEEP, "x 1 k", 1.1, at_least=False, seconds=60, is_large=True),
    Row(OVER, "/s at 1 M", seconds=1, is_large=True),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, on files that are made once."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    if setting.quick:
        rows = [replace(row, target=None) for row in rows]
    looking = [row for row in rows if row.name in _LOOKS]
    beside = [row for row in rows if row.name == BESIDE]
    over = [row for row in rows if row.name in {DEEP, OVER}]
    if looking or beside:
        path = setting.folder / "large.db"
        with DurableQ(path) as app:
            build(app, path, setting)
            for row in looking:
                setting.progress(f"{row.name}: {rounds} rounds")
                look = _LOOKS[row.name]
                scale = 1000 if row.unit == "ms" else 1
                found = [scale * look(app, path) for _ in range(rounds + 1)][1:]
                yield Figure(row, "normal", Spread.of(found), {})
        for row in beside:
            yield _beside(row, path, setting, rounds)
    if over:
        yield from _over_backlogs(over, setting, rounds)


def _size(count: int, setting: Setting) -> int:
    return count // QUICK_SHARE if setting.quick else count


def build(app: DurableQ, path: Path, setting: Setting) -> None:
    """Fill a new file with READY messages and DEAD dead letters."""
    ready, dead = _size(READY, setting), _size(DEAD, setting)
    for name in (OTHER, _EMPTY):
        app.queue(name)
    app.queue(SICK, max_receives=1, visibility_timeout=3600)
    _ = app.store
    _send(path, OTHER, ready, setting)
    _send(path, SICK, dead, setting)
    failures = [
        Failure(Reason.HANDLER_ERROR, "ValueError", f"kind {number}", "a traceback\n" * 10)
        for number in range(_KINDS)
    ]
    buried = 0
    while received := app.store.receive(SICK, MAX_RECEIVE_BATCH).messages:
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


def _beside(row: Row, path: Path, setting: Setting, rounds: int) -> Figure:
    """Compare receiving from a queue in the large file and from one that is alone in its file."""
    backlog = _size(BACKLOGS[0], setting)
    paths = {"alone": setting.folder / "alone.db", "beside": path}
    with ExitStack() as stack:
        subjects = {name: _opened(stack, at, backlog, setting) for name, at in paths.items()}
        samples = _in_turn(row.name, subjects, setting, rounds)
    return Figure(row, "normal", _ratio(samples["beside"], samples["alone"]), _times(samples))


def _over_backlogs(rows: Sequence[Row], setting: Setting, rounds: int) -> Iterator[Figure]:
    """Compare receiving from backlogs of several lengths; all rows come from the same samples."""
    sizes = {f"{size:,} ready": _size(size, setting) for size in BACKLOGS}
    with ExitStack() as stack:
        subjects = {
            name: _opened(stack, setting.folder / f"backlog-{size}.db", size, setting)
            for name, size in sizes.items()
        }
        samples = _in_turn("backlogs", subjects, setting, rounds)
    smallest, *_, largest = samples
    rates = {
        name: Spread.of([1 / one.wall_seconds for one in of_size])
        for name, of_size in samples.items()
    }
    points = zip(sizes.values(), (rate.median for rate in rates.values()), strict=True)
    chart = Chart(OVER, "line", "ready messages", "messages per second", tuple(points))
    for row in rows:
        if row.name == OVER:
            details = {f"{name}, per second": rate for name, rate in rates.items()}
            yield Figure(row, "normal", rates[largest], details, chart)
        else:
            ratio = _ratio(samples[largest], samples[smallest])
            yield Figure(row, "normal", ratio, _times(samples))


def _opened(stack: ExitStack, path: Path, backlog: int, setting: Setting) -> OfDurableQ:
    """Open a file until the stack is closed, and store a backlog in it."""
    subject = OfDurableQ(f"sqlite:///{path}?synchronous=normal")
    stack.enter_context(closing(subject.app))
    _send(path, QUEUE, backlog, setting)
    return subject


def _in_turn(
    name: str, subjects: Mapping[str, OfDurableQ], setting: Setting, rounds: int
) -> dict[str, list[Sample]]:
    """Receive and complete messages one at a time, from each in turn; each is sent as many."""
    samples: dict[str, list[Sample]] = {of: [] for of in subjects}
    for number in range(rounds + 1):
        setting.progress(f"{name}: round {number} of {rounds}")
        order = [*subjects.items()]
        turn = number % len(order)
        for of, subject in order[turn:] + order[:turn]:
            times = Workloads(subject).run("receive", RECEIVED, 1, 100, keyed=False)
            if number:  # the first round warms up
                samples[of].append(Sample(*(seconds / RECEIVED for seconds in times)))
    return samples


def _ratio(ours: Sequence[Sample], base: Sequence[Sample]) -> Spread:
    pairs = zip(ours, base, strict=True)
    return Spread.of([one.cpu_seconds / other.cpu_seconds for one, other in pairs])


def _times(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Spread]:
    return {
        f"{name}, µs CPU": Spread.of([1e6 * one.cpu_seconds for one in found])
        for name, found in samples.items()
    }


LARGE: Final = Theme("large", ROWS, measure, ROUNDS, by_synchronous=False)
