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
from durableq.runtime.wakeup import WakeupEvent, wait_readable
from durableq.store.core import Capability, Store
from durableq.supervisor.supervisor import SupervisorEvent

#: Before the first look on a terminal: the fleet has begun by then.
FIRST_SECONDS: Final = 0.5
#: Between two looks, and between two lines where stderr is no terminal.
LOOK_SECONDS: Final = 1.0
LINE_SECONDS: Final = 10.0
#: Until a look that a log line has asked for.
RENEW_SECONDS: Final = 0.1
#: A look may take this share of the time.
LOOK_SHARE: Final = 0.05
#: The rate is that of this time. Less than the least tells nothing.
RATE_SECONDS: Final = 5.0
LEAST_RATE_SECONDS: Final = 1.0
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
    #: In flight, or ready in a queue that is not paused.
    active: int
    #: Queues with messages left that are paused.
    paused: tuple[str, ...]
    #: If none is active: the time until a delayed one is due. None: unknown.
    next_ms: int | None

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
        self._store = store
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
        delayed = sum(each.delayed for each in counts)
        active = sum(
            info.counts.in_flight + (0 if info.settings.paused else info.counts.ready)
            for info in infos
        )
        waits = delayed and not active
        return Tally(
            sum((info.counters for info in infos), Counters()),
            self._failures,
            left=sum(each.present for each in counts),
            delayed=delayed,
            blocked=sum(each.blocked for each in counts),
            active=active,
            paused=tuple(
                info.name for info in infos if info.settings.paused and info.counts.present
            ),
            next_ms=self._store.ready_in_ms(self._queues) if waits else None,
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
        #: Set by log lines above the line.
        self._covered = WakeupEvent()
        #: Times, and the messages that were done, from the first one on.
        self._looks: deque[tuple[float, int]] = deque()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> None:
        if self._line is not None:
            self._line.renew = self._covered.set
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._line is not None:
            self._line.end()
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        self._done.close()
        self._covered.close()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        # Every other look is a log line: the rate of the first one begins at the look before it.
        usual = LOOK_SECONDS if self._line is not None else LINE_SECONDS / 2
        least, most = 0.0, FIRST_SECONDS if self._line is not None else usual
        is_line = False
        while not self._is_over_after(least, most):
            began_at = time.monotonic()
            with suppress(DurableQError):
                tally = self._counting.tally()
                text = self.words(tally, began_at)
                if self._line is not None:
                    self._renew(self._line, tally, text)
                elif is_line:
                    self._report(SupervisorEvent("progress", text))
            is_line = not is_line
            least = max(RENEW_SECONDS, (time.monotonic() - began_at) / LOOK_SHARE)
            most = max(usual, least)

    def _is_over_after(self, least: float, most: float) -> bool:
        """Wait for the time of the next look; return whether there is none.

        Args:
            least: seconds, after which it comes as soon as a log line has covered the line.
            most: seconds.
        """
        if not self._done.wait(least):
            wait_readable(most - least, self._done, self._covered)
        self._covered.clear()
        return self._done.is_set

    @staticmethod
    def _renew(line: LiveLine, tally: Tally, text: str) -> None:
        if tally.left > tally.blocked:
            line.show(text)
        else:
            line.end()  # the lines about the ends of the workers follow

    def words(self, tally: Tally, now: float) -> str:
        """Return the progress in words, and keep it for the rate of the next ones."""
        delayed = f" ({tally.delayed:,} delayed)" if tally.delayed else ""
        words = [f"{tally.done:,} done", f"{tally.left:,} left{delayed}"]
        rate = self._rate(tally.done, now)
        if rate is not None:
            words.append(f"{_number(rate)}/s")
        if tally.next_ms:
            words.append(f"next due in {span(tally.next_ms)}")
        elif rate and tally.active and not tally.paused:
            words.append(f"{span(max(1000, round(1000 * tally.left / rate)))} to go")
        if tally.paused:
            words.append(f"paused: {', '.join(tally.paused)}")
        return ", ".join(words)

    def _rate(self, done: int, now: float) -> float | None:
        """Return the messages per second of the last seconds; None before enough was seen.

        It begins when a message is done: the start of the workers is no part of it.
        """
        if not done:
            return None
        looks = self._looks
        looks.append((now, done))
        while len(looks) > 1 and looks[1][0] <= now - RATE_SECONDS:
            looks.popleft()
        at, before = looks[0]
        return (done - before) / (now - at) if now - at >= LEAST_RATE_SECONDS else None


def _number(rate: float) -> str:
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
