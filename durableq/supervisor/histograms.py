"""Histograms of a fleet: how long messages wait and handlers run, in memory that workers share.

Each worker process adds to memory of its own, so that no two write a word at once. The supervisor
keeps the memory when a process ends and gives it to a later one, which goes on adding: no number
ever goes back.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add
from typing import Final

from durableq.client.delivery import Delivery
from durableq.supervisor.scoreboard import anonymous_file

#: Upper bounds of the buckets, in seconds; the last bucket has none.
BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0, 7200.0),
)
#: Number of queues in one memory; the times of any beyond are not recorded.
QUEUES: Final = 256
_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS)
#: The words of 8 bytes of a histogram: its buckets, and the sum of its values in ns.
_BUCKETS: Final = len(BOUNDS) + 1
_HISTOGRAM_WORDS: Final = _BUCKETS + 1
#: The words of a queue. A name has at most 80 bytes; a queue without a length is not there.
_LENGTH, _NAME, _FAILED, _HANDLER = 0, 1, 11, 12
_WAIT: Final = _HANDLER + _HISTOGRAM_WORDS
_QUEUE_WORDS: Final = _WAIT + _HISTOGRAM_WORDS
_WORD: Final = 8
_SIZE: Final = _WORD * QUEUES * _QUEUE_WORDS


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values in seconds, counted by bucket."""

    #: The number of values in each bucket alone, in the order of BOUNDS; the last are above all.
    buckets: tuple[int, ...] = (0,) * _BUCKETS
    sum_seconds: float = 0.0

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both."""
        buckets = tuple(map(add, self.buckets, other.buckets))
        return Histogram(buckets, self.sum_seconds + other.sum_seconds)


@dataclass(frozen=True, slots=True)
class QueueTimes:
    """The times of the messages of a queue."""

    #: Duration of each handler call that returned or raised; a batch is one call.
    handler: Histogram = Histogram()
    #: From the arrival of each message in the queue to its first handler call.
    wait: Histogram = Histogram()
    #: Number of the handler calls that failed a message.
    failed: int = 0

    def __add__(self, other: QueueTimes) -> QueueTimes:
        """Return the times of both."""
        return QueueTimes(
            self.handler + other.handler, self.wait + other.wait, self.failed + other.failed
        )


class WorkerHistograms:
    """The histograms of one worker process. The worker writes, the supervisor reads.

    Args:
        fileno: descriptor of the memory, which a worker inherits; None for new memory.
    """

    def __init__(self, fileno: int | None = None) -> None:
        self.fileno = anonymous_file("durableq-histograms", _SIZE) if fileno is None else fileno
        self._memory = mmap.mmap(self.fileno, _SIZE)
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("q")
        #: The first word of each queue; the processes before may have added some.
        self._places = dict(self._named())
        self._adding = threading.Lock()

    # ---- the worker's side

    def begin(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Record the waits of messages whose handler is called, at their first delivery."""
        now_ms = time.time_ns() // 1_000_000
        with self._adding:
            place = self._places.get(queue)
            if place is None:
                place = self._add(queue)
            if place is None:
                return
            for delivery in deliveries:
                message = delivery.message
                if message.receive_count == 1:
                    waited_ns = (now_ms - message.enqueued_at_ms) * 1_000_000
                    self._record(place + _WAIT, waited_ns)

    def end(self, queue: str, ran_ns: int, *, failed: bool) -> None:
        """Record the duration of a handler call."""
        with self._adding:
            place = self._places.get(queue)
            if place is None:
                place = self._add(queue)
            if place is not None:
                self._record(place + _HANDLER, ran_ns)
                self._words[place + _FAILED] += failed

    def _record(self, at: int, ns: int) -> None:
        ns = max(0, ns)
        self._words[at + bisect_left(_BOUNDS_NS, ns)] += 1
        self._words[at + _BUCKETS] += ns

    def _add(self, queue: str) -> int | None:
        """Add a queue and return its first word; None if there is no room."""
        if len(self._places) == QUEUES:
            return None
        name = queue.encode()
        place = self._places[queue] = len(self._places) * _QUEUE_WORDS
        at = _WORD * (place + _NAME)
        self._bytes[at : at + len(name)] = name
        self._words[place + _LENGTH] = len(name)  # the last: from here on it is read
        return place

    # ---- the supervisor's side

    def read(self) -> dict[str, QueueTimes]:
        """Return the times of each queue."""
        return {
            name: QueueTimes(
                self._histogram(place + _HANDLER),
                self._histogram(place + _WAIT),
                self._words[place + _FAILED],
            )
            for name, place in self._named()
        }

    def close(self) -> None:
        """Unmap the memory, and close its descriptor."""
        self._words.release()
        self._bytes.release()
        self._memory.close()
        os.close(self.fileno)

    def _histogram(self, at: int) -> Histogram:
        *buckets, sum_ns = self._words[at : at + _HISTOGRAM_WORDS]
        return Histogram(tuple(buckets), sum_ns / 1e9)

    def _named(self) -> Iterator[tuple[str, int]]:
        for place in range(0, QUEUES * _QUEUE_WORDS, _QUEUE_WORDS):
            length = self._words[place + _LENGTH]
            if not length:
                return
            at = _WORD * (place + _NAME)
            yield self._bytes[at : at + length].tobytes().decode(), place


class FleetHistograms:
    """The memory of all worker processes of a fleet. The supervisor's; any thread may read it."""

    def __init__(self) -> None:
        self._all: list[WorkerHistograms] = []
        self._free: list[WorkerHistograms] = []
        #: Number of worker processes that were started.
        self.starts = 0

    def take(self) -> WorkerHistograms:
        """Return memory for a new process."""
        self.starts += 1
        if self._free:
            return self._free.pop()
        self._all.append(WorkerHistograms())
        return self._all[-1]

    def give_back(self, ended: WorkerHistograms) -> None:
        """Keep the memory of a process that has ended for a later one."""
        self._free.append(ended)

    def read(self) -> dict[str, QueueTimes]:
        """Return the times of each queue, of all processes so far."""
        found: dict[str, QueueTimes] = {}
        for histograms in tuple(self._all):
            for name, times in histograms.read().items():
                found[name] = found.get(name, QueueTimes()) + times
        return found

    def close(self) -> None:
        """Unmap the memory, once no thread reads it."""
        for histograms in self._all:
            histograms.close()
