"""Progress and summary of `durableq work --drain`.

The numbers are those of the queues: the counters of the database, and the failures in the history.
So they include the work of other processes on these queues meanwhile, and all of a worker that was
killed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from durableq.cli.live_line import LiveLine
from durableq.model.errors import DurableQError
from durableq.model.info import HistoryFilter
from durableq.model.message import Event
from durableq.model.queues import ENDS, Counters
from durableq.model.units import span
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability, Store
from durableq.supervisor.supervisor import SupervisorEvent

#: Before the first look on a terminal: the fleet has begun by then.
FIRST_SECONDS: Final = 0.5
#: Between two looks, and between two lines where stderr is no terminal.
LOOK_SECONDS: Final = 1.0
LINE_SECONDS: Final = 10.0
#: A look may take this share of the time.
LOOK_SHARE: Final = 0.05
#: The rate is that of the last looks.
RATE_LOOKS: Final = 10
_FAILURES: Final = (Event.FAILED, Event.LEASE_EXPIRED)
#: Events that are read at a time.
_PAGE: Final = 500


class Report(Protocol):
    """Prints an event of the fleet; with --json its facts too."""

    def __call__(self, event: SupervisorEvent, **facts: Any) -> None:
        """Print it."""
        ...


class Tally(NamedTuple):
    """Numbers of messages of some queues: those of the time since the start, and those left."""

    counters: Counters
    failures: int
    left: int
    delayed: int
    #: Behind the heads of their groups.
    blocked: int

    @property
    def done(self) -> int:
        """The number of messages that ended, or died."""
        return self.counters.ended + self.counters.moved_out


class Counting:
    """Counts the ends and failures of the messages of queues from now on.

    Args:
        store: has them.
        queues: their names.
    """

    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        self._inspect = store.require(Capability.INSPECT)
        self._queues = queues
        self._wanted = HistoryFilter(queues, _FAILURES)
        self._mark = self._inspect.mark_before(0)
        self._failures = 0
        self._before = self._look().counters

    def tally(self) -> Tally:
        """Return the numbers so far."""
        self._count_failures()
        now = self._look()
        return now._replace(counters=now.counters - self._before)

    def _count_failures(self) -> None:
        while True:
            page = self._inspect.events(self._mark, _PAGE, self._wanted)
            self._failures += len(page.events)
            if page.mark == self._mark:
                return
            self._mark = page.mark

    def _look(self) -> Tally:
        infos = [self._inspect.queue(name) for name in self._queues]
        counts = [info.counts for info in infos]
        return Tally(
            sum((info.counters for info in infos), Counters()),
            self._failures,
            sum(each.present for each in counts),
            sum(each.delayed for each in counts),
            sum(each.blocked for each in counts),
        )


def run(
    fleet: Callable[[], int],
    store: Store,
    queues: Sequence[str],
    report: Report,
    line: LiveLine | None,
) -> int:
    """Run a fleet to its end with its progress, and report a summary; return its exit code.

    Args:
        fleet: runs it.
        store: has the queues.
        queues: the names of those that it drains.
        report: prints an event.
        line: shows the progress; None reports it from time to time.
    """
    began_at, counting = time.monotonic(), None
    with suppress(DurableQError):  # the workers wait for the end of an outage, and say so
        counting = Counting(store, queues)
    if counting is None:
        return fleet()
    with _Progress(counting, report, line):
        code = fleet()
    with suppress(DurableQError):
        _summarize(counting.tally(), time.monotonic() - began_at, report)
    return code


class _Progress:
    """A thread that shows the progress during a block."""

    def __init__(self, counting: Counting, report: Report, line: LiveLine | None) -> None:
        self._counting = counting
        self._report = report
        self._line = line
        self._done = WakeupEvent()
        self._looks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], RATE_LOOKS)
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._line is not None:
            self._line.end()
        self._done.close()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        pause = FIRST_SECONDS if self._line is not None else LINE_SECONDS
        while not self._done.wait(pause):
            began_at = time.monotonic()
            with suppress(DurableQError):
                text = self.words(self._counting.tally(), began_at)
                if self._line is not None:
                    self._line.show(text)
                else:
                    self._report(SupervisorEvent("progress", text))
            took = time.monotonic() - began_at
            pause = LOOK_SECONDS if self._line is not None else LINE_SECONDS
            pause = max(pause, took / LOOK_SHARE)

    def words(self, tally: Tally, now: float) -> str:
        """Return the progress in words, and keep it for the rate of the next ones."""
        at, done = self._looks[0]
        self._looks.append((now, tally.done))
        rate = (tally.done - done) / (now - at) if now > at else 0.0
        delayed = f" ({tally.delayed:,} delayed)" if tally.delayed else ""
        words = f"{tally.done:,} done, {tally.left:,} left{delayed}, {_rate(rate)}/s"
        if not rate or not tally.left:
            return words
        return f"{words}, {span(max(1000, round(1000 * tally.left / rate)))} to go"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _summarize(tally: Tally, seconds: float, report: Report) -> None:
    """Report the work of a fleet, and the messages that it has left."""
    counted = tally.counters
    others = {name: getattr(counted, name) for name in ENDS[2:]}
    words = [
        f"{counted.completed:,} completed",
        f"{tally.failures:,} failed",
        f"{counted.moved_out:,} dead",
        f"{counted.duplicates:,} duplicates skipped",
        *(f"{number:,} {name}" for name, number in others.items() if number),
    ]
    active = tally.left - tally.blocked
    if active:
        words.append(f"{active:,} left")
    if tally.blocked:
        words.append(f"{tally.blocked:,} blocked behind dead letters of their groups")
    facts = {
        "completed": counted.completed,
        "failed": tally.failures,
        "dead": counted.moved_out,
        "duplicates": counted.duplicates,
        **others,
        "left": tally.left,
        "blocked": tally.blocked,
        "seconds": round(seconds, 3),
    }
    how = "stopped" if active else "drained"
    text = f"{how} in {seconds:.1f} s: {', '.join(words)}"
    report(SupervisorEvent("fleet_summary", text), **facts)
