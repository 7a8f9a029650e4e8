"""The recording of a run: samples of its queue, and the counts of its downstream."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from durableq.demo.spike.downstream import PERIOD_NS, SECOND_NS, Calls, Client, Figures
from durableq.demo.spike.load import QUEUE, Load
from durableq.model.flow.breaker import Phase
from durableq.model.queues import dead_letter_name
from durableq.store.core import Capability, Store

PERIODS_OF_A_SECOND: Final = SECOND_NS // PERIOD_NS


class Sample(NamedTuple):
    """The counters of the queue at a time."""

    #: Seconds since the start of the run.
    at: float
    #: Messages that have not ended.
    backlog: int
    completed: int
    dead: int
    #: The phase of the breaker; None without one.
    breaker: Phase | None

    @property
    def ended(self) -> int:
        """The messages that have ended, in success or as dead letters."""
        return self.completed + self.dead


class Change(NamedTuple):
    """A change of the breaker's phase."""

    #: Seconds since the start of the run.
    at: float
    phase: Phase


@dataclass
class Recording:
    """A run so far."""

    load: Load
    #: The start of the run on the monotonic clock, which its processes share.
    began_ns: int
    samples: list[Sample] = field(default_factory=list)
    downstream: Figures = field(default_factory=Figures)
    #: The changes of the breaker's phase.
    changes: list[Change] = field(default_factory=list)
    #: A sentence, if the run did not end in time.
    interruption: str = ""

    @property
    def last(self) -> Sample:
        """The newest sample."""
        return self.samples[-1]

    @property
    def total(self) -> Calls:
        """The sum of all calls."""
        return sum(self.downstream.periods.values(), Calls())

    @property
    def outage(self) -> tuple[float, float] | None:
        """The beginning and the end of the outage, in seconds since the start."""
        found = self.downstream.outage
        return found and (self._at(found[0]), self._at(found[1]))

    @property
    def is_down(self) -> bool:
        """Whether the newest sample is in the outage."""
        return self.outage is not None and self.outage[0] <= self.last.at < self.outage[1]

    def sample_at(self, at: float) -> Sample:
        """Return the first sample of this time or later; the newest if there is none."""
        later = bisect_left(self.samples, at, key=lambda sample: sample.at)
        return self.samples[min(later, len(self.samples) - 1)]

    def seconds(self, newest: int | None = None) -> Iterator[tuple[float, Calls]]:
        """Yield the calls of the last second at the end of each period, or of the newest ones."""
        first = self.began_ns // PERIOD_NS
        last = (self.began_ns + round(self.last.at * SECOND_NS)) // PERIOD_NS
        if newest is not None:
            first = max(first, last - newest + 1)
        none = Calls()
        for period in range(first, last + 1):
            recent = range(period - PERIODS_OF_A_SECOND + 1, period + 1)
            calls = (self.downstream.periods.get(one, none) for one in recent)
            yield self._at((period + 1) * PERIOD_NS), sum(calls, Calls())

    def _at(self, ns: int) -> float:
        return (ns - self.began_ns) / SECOND_NS


class Sampler:
    """Adds samples to a recording.

    Args:
        recording: gets them.
        store: the store of the queue.
        client: the downstream.
    """

    def __init__(self, recording: Recording, store: Store, client: Client) -> None:
        self._recording = recording
        self._inspect = store.require(Capability.INSPECT)
        self._control = store.require(Capability.CONTROL)
        self._client = client
        #: The wall clock at the start of the run, as history has it.
        self._began_ms = time.time() * 1000 - (time.monotonic_ns() - recording.began_ns) / 1e6

    def sample(self) -> Sample:
        """Read the counters and the downstream's new figures; return the sample."""
        recording = self._recording
        # The last known period may have had more calls since.
        known = max(recording.downstream.periods, default=0)
        recording.downstream.update(self._client.figures(known))
        queue = self._inspect.queue(QUEUE)
        # Read after the queue: a message that has just died counts in both, never in none.
        dead = self._inspect.queue(dead_letter_name(QUEUE)).counts.present
        breaker = self._control.breaker(QUEUE)
        recording.changes = [
            Change((event.at_ms - self._began_ms) / 1000, Phase(event.detail["phase"]))
            for event in breaker.transitions
        ]
        recording.samples.append(
            Sample(
                (time.monotonic_ns() - recording.began_ns) / SECOND_NS,
                queue.counts.present,
                queue.counters.completed,
                dead,
                breaker.phase if breaker.is_on else None,
            )
        )
        return recording.last
