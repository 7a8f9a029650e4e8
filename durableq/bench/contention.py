"""Many writers: threads of one process that send singly, and processes that hammer the file.

`python -m durableq.bench.contention URL SECONDS` is one of those processes: it sends singly until
the time is over and prints the durations of its sends in ms.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from typing import Final

from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme, histogram, percentile
from durableq.bench.piped import PipedProcess
from durableq.bench.raw import Raw
from durableq.client.app import DurableQ

THREADS: Final = 64
HAMMERS, CROWD = 4, 8
HAMMER_SECONDS, CROWD_SECONDS = 10.0, 60.0
QUICK_SECONDS: Final = 1.0
ROUNDS: Final = 5

GROUP, WAITING = "64 threads send singly, FULL", "send, 4 hammering processes, p99"
FAIR: Final = "fewest / most commits, 8 processes"
ROWS: Final = (
    Row(GROUP, "x single commits", 8, seconds=30),
    Row(WAITING, "ms", 60, at_least=False, seconds=40),
    Row(FAIR, "", 0.6, seconds=70),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module."""
    for row in rows:
        setting.progress(row.name)
        yield _MEASURES[row.name](row, setting)


def _group(row: Row, setting: Setting) -> Figure:
    """Compare the sends of many threads with hand-written single commits, in turn."""
    path = setting.folder / "threads.db"
    each = 2 if setting.quick else 20
    singly = 20 if setting.quick else 200
    ratios, ours, base = [], [], []
    with DurableQ(path) as app:
        queue = app.queue(QUEUE)
        queue.send("warm")
        raw = Raw(path, QUEUE, "full")
        for _ in range(setting.rounds or (1 if setting.quick else ROUNDS)):
            began = time.perf_counter()
            for number in range(singly):
                raw.send({"order": number})
            base.append((time.perf_counter() - began) / singly)
            ours.append(in_threads(lambda: queue.send({"order": 1}), each) / (each * THREADS))
            ratios.append(base[-1] / ours[-1])
        raw.close()
    details = {
        "durableq, per second": Spread.of([1 / seconds for seconds in ours]),
        "single commits, per second": Spread.of([1 / seconds for seconds in base]),
    }
    return Figure(row, "full", Spread.of(ratios), details)


def in_threads(call: Callable[[], object], each: int) -> float:
    """Return the seconds that THREADS threads take for `each` calls of their own.

    When one fails, or this thread is interrupted, the others stop after their current call.
    """
    start, stopping = threading.Barrier(THREADS + 1), threading.Event()

    def run() -> None:
        with suppress(threading.BrokenBarrierError):
            start.wait()
        for _ in range(each):
            if stopping.is_set():
                break
            call()

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            running = [pool.submit(run) for _ in range(THREADS)]
            start.wait()
            began = time.perf_counter()
            for one in as_completed(running):
                one.result()
            return time.perf_counter() - began
        finally:
            stopping.set()
            start.abort()


def _waiting(row: Row, setting: Setting) -> Figure:
    rounds = setting.rounds or (1 if setting.quick else 3)
    seconds = QUICK_SECONDS if setting.quick else HAMMER_SECONDS
    samples = [[*itertools.chain(*_hammer(HAMMERS, seconds, setting))] for _ in range(rounds)]
    values = [percentile(sample, 99) for sample in samples]
    details = {
        "p50, ms": Spread.of([percentile(sample, 50) for sample in samples]),
        "longest, ms": Spread.of([max(sample) for sample in samples]),
        "per second": Spread.of([len(sample) / seconds for sample in samples]),
    }
    chart = histogram(row.name.removesuffix(", p99"), [*itertools.chain(*samples)], "sends")
    return Figure(row, "normal", Spread.of(values), details, chart)


def _fair(row: Row, setting: Setting) -> Figure:
    seconds = QUICK_SECONDS if setting.quick else CROWD_SECONDS
    counts = sorted(map(len, _hammer(CROWD, seconds, setting)))
    details = {"fewest": Spread.of([counts[0]]), "most": Spread.of([counts[-1]])}
    return Figure(row, "normal", Spread.of([counts[0] / counts[-1]]), details)


_MEASURES: Final[dict[str, Callable[[Row, Setting], Figure]]] = {
    GROUP: _group,
    WAITING: _waiting,
    FAIR: _fair,
}


def _hammer(procs: int, seconds: float, setting: Setting) -> list[list[float]]:
    """Let processes send singly at the same time; return the durations of each in ms."""
    url = f"sqlite:///{setting.folder / 'hammer.db'}?synchronous=normal"
    with DurableQ(url) as app:
        app.queue(QUEUE).send("warm")
    arguments = ("-m", "durableq.bench.contention", url, str(seconds))
    with ExitStack() as stack:
        started = [
            stack.enter_context(PipedProcess("a hammering sender", *arguments))
            for _ in range(procs)
        ]
        for process in started:
            process.answer()
        for process in started:
            process.tell()
        return [json.loads(process.answer()) for process in started]


def main() -> None:
    """Say that it is ready, wait for a line, send, and print the durations.

    Without the line, its starter has ended.
    """
    url, seconds = sys.argv[1], float(sys.argv[2])
    durations = []
    with DurableQ(url) as app:
        queue = app.queue(QUEUE)
        _ = app.store
        print("ready", flush=True)  # noqa: T201 - to the starter
        if not sys.stdin.readline():
            return
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            queue.send({"order": 1})
            before, now = now, time.perf_counter()
            durations.append(round(1000 * (now - before), 3))
    print(json.dumps(durations), flush=True)  # noqa: T201


CONTENTION: Final = Theme("contention", ROWS, measure, ROUNDS, by_synchronous=False)

if __name__ == "__main__":
    main()
