"""Thresholds of `durableq doctor`: how much may wait, how long, and how many may be dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass

from durableq.model.health import Finding, Level, bad, ok
from durableq.model.info import QueueInfo
from durableq.model.queues import Counts
from durableq.model.units import span


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The most that each queue may have; None allows any number."""

    #: Stored messages that have not ended, without the dead ones.
    backlog: int | None = None
    #: Age of the oldest ready message.
    age_ms: int | None = None
    #: Dead letters in a dead-letter queue, held ones too.
    dead: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return astuple(self) != (None, None, None)

    def findings(self, queues: Iterable[QueueInfo], now_ms: int) -> list[Finding]:
        """Return a bad finding for each threshold that a queue exceeds, or one that none does.

        Args:
            queues: all of the database, dead-letter queues too.
            now_ms: the wall clock.
        """
        infos = [*queues]
        dead = _dead_letters(infos)
        exceeded = [
            one for info in infos for one in self._exceeded(info, now_ms, dead.get(info.name, 0))
        ]
        return exceeded or [ok("thresholds", "no queue exceeds one")]

    def not_checked(self) -> Finding:
        """Return the finding about a database whose queues cannot be read."""
        return bad(
            "thresholds",
            "not checked: the queues cannot be read",
            "See the lines above. Name the right database with --db, or create it: durableq init.",
        )

    def _exceeded(self, info: QueueInfo, now_ms: int, dead: int) -> Iterator[Finding]:
        """Yield the thresholds that a queue exceeds, which has so many dead letters of others."""
        name, number = info.name, info.counts.present
        if self.dead is not None and dead > self.dead:
            what = f"{name}: dead letters {dead}, threshold {self.dead}"
            yield Finding("max_dead", Level.BAD, what, "See durableq dlq groups.", name)
        if info.dead_letter_queue is None:
            return
        if self.backlog is not None and number > self.backlog:
            what = f"{name}: messages {number}, threshold {self.backlog}"
            advice = "See durableq status: start more workers, or slow the producers."
            yield Finding("max_backlog", Level.BAD, what, advice, name)
        waited_ms = 0 if info.oldest_ready_ms is None else now_ms - info.oldest_ready_ms
        if self.age_ms is not None and waited_ms > self.age_ms:
            age = f"oldest ready message {span(waited_ms)}, threshold {span(self.age_ms)}"
            advice = "See durableq status, and durableq explain for the message."
            yield Finding("max_age", Level.BAD, f"{name}: {age}", advice, name)


def _dead_letters(infos: Sequence[QueueInfo]) -> Counter[str]:
    """Return the number of dead letters by dead-letter queue."""
    present = {info.name: info.counts for info in infos}
    numbers: Counter[str] = Counter()
    for info in infos:
        if (name := info.dead_letter_queue) is not None:
            numbers[name] += (info.dead_letters or present.get(name, Counts())).present
    return numbers
