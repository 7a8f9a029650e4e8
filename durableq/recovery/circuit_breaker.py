"""The circuit breaker over recovery: when what it sends back keeps dying, it stops and probes.

Facts in, state out: no clock, no I/O. `durableq.recovery.breaker_state` keeps the state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from durableq.model.dead_letters import Recovered, RecoveredFate
from durableq.model.errors import InvalidInput
from durableq.model.text import shown
from durableq.model.units import check_whole, to_ms
from durableq.store.core import Capability, Store

#: How the name begins under which a queue's state is remembered; its name follows.
METADATA_PREFIX: Final = "breaker:"
MAX_WINDOW: Final = 200
MAX_PROBES: Final = 20
#: Maximum of both cool-downs.
LONGEST_SECONDS: Final = 30 * 86_400


class Phase(StrEnum):
    """Whether recovery sends letters back."""

    #: It does.
    CLOSED = "closed"
    #: It does not.
    OPEN = "open"
    #: A few, to see what becomes of them.
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the breaker opens, how long it waits, and how it probes.

    Raises:
        InvalidInput: one is out of bounds.
    """

    #: So many messages are looked at: those sent back last of which the end is known.
    window: int = 20
    #: Opens when at least this share of them died again.
    share: float = 0.5
    #: With fewer messages than this it does not judge.
    least: int = 10
    #: Seconds it stays open the first time; each time in a row, twice as long.
    cool_down: float = 60.0
    #: Seconds, at most.
    longest_cool_down: float = 3600.0
    #: Messages sent back to see whether it is better now.
    probes: int = 3

    def __post_init__(self) -> None:
        check_whole(self.window, "window", 1, MAX_WINDOW)
        check_whole(self.least, "least", 1, MAX_WINDOW)
        check_whole(self.probes, "probes", 1, MAX_PROBES)
        number = isinstance(self.share, (int, float)) and not isinstance(self.share, bool)
        if not number or not 0 < self.share <= 1:
            raise InvalidInput(f"share is a number over 0 and up to 1, got {shown(self.share)}.")
        if self.least > self.window:
            raise InvalidInput(
                f"least is at most window ({self.window}), or it never opens; got {self.least}."
            )
        for name in ("cool_down", "longest_cool_down"):
            if not to_ms(getattr(self, name), name, LONGEST_SECONDS * 1000):
                raise InvalidInput(f"{name} is more than 0 seconds.")
        if self.longest_cool_down < self.cool_down:
            raise InvalidInput(
                f"longest_cool_down ({self.longest_cool_down:g}) is not shorter than cool_down "
                f"({self.cool_down:g})."
            )

    def is_bad(self, died: int, known: int) -> bool:
        """Return whether so many deaths of so many are too much."""
        return died > 0 and died >= self.share * known


DEFAULT_THRESHOLDS: Final = Thresholds()


class Probe(NamedTuple):
    """A message that was let through while the breaker was half-open."""

    at_ms: int
    message_id: str


class Seen(NamedTuple):
    """What became of a message that was sent back."""

    #: When it was sent back.
    at_ms: int
    message_id: str
    died: bool


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker as it stands. Times are of the wall clock."""

    phase: Phase
    since_ms: int
    #: How often in a row it opened.
    trips: int = 0
    #: Closed: the messages of the window, in the order they were sent back.
    seen: tuple[Seen, ...] = ()
    #: Half-open: the messages that were let through.
    probes: tuple[Probe, ...] = ()
    #: Of how many messages that it judged by when it opened ...
    died: int = 0
    #: ... so many.
    judged: int = 0

    def cool_down_ms(self, limits: Thresholds) -> int:
        """Return how long it stays open, or waits for a probe that was never sent."""
        doubled = limits.cool_down * 2 ** min(max(self.trips - 1, 0), 30)
        return max(1, int(min(doubled, limits.longest_cool_down) * 1000))

    def left_ms(self, limits: Thresholds, now_ms: int) -> int:
        """Return how long until it probes; 0 unless it is open."""
        if self.phase is not Phase.OPEN:
            return 0
        return max(0, self.since_ms + self.cool_down_ms(limits) - now_ms)

    def to_json(self) -> str:
        """Return it as it is remembered."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BreakerState:
        """Read what was remembered.

        Raises:
            ValueError: it is of another version.
        """
        try:
            known = json.loads(text)
            phase, since_ms = Phase(known.pop("phase")), int(known.pop("since_ms"))
            seen = tuple(Seen(int(at), str(of), bool(died)) for at, of, died in known.pop("seen"))
            probes = tuple(Probe(int(at), str(of)) for at, of in known.pop("probes"))
            numbers = {name: int(value) for name, value in known.items()}
            return cls(phase, since_ms, seen=seen, probes=probes, **numbers)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a breaker's state: {text[:100]!r}") from error


def read(monitor: Store, queue: str) -> BreakerState | None:
    """Return how the breaker of a queue stands; None if recovery never looked at one."""
    text = monitor.require(Capability.METADATA).get_metadata(METADATA_PREFIX + queue)
    try:
        return None if text is None else BreakerState.from_json(text)
    except ValueError:
        return None


def advance(
    state: BreakerState, facts: Iterable[Recovered], now_ms: int, limits: Thresholds
) -> BreakerState:
    """Return the state after some facts. The same facts again change nothing more.

    Args:
        state: before.
        facts: what is known of messages that were sent back, in any order.
        now_ms: wall clock.
        limits: the thresholds.
    """
    if now_ms < state.since_ms:  # the clock was set back: nothing lasts until it is here again
        state = replace(state, since_ms=now_ms, seen=(), probes=())
    news = sorted((fact for fact in facts if fact.at_ms >= state.since_ms), key=_order)
    match state.phase:
        case Phase.CLOSED:
            return _watch(state, news, now_ms, limits)
        case Phase.HALF_OPEN:
            return _weigh(state, news, now_ms, limits)
        case Phase.OPEN if state.left_ms(limits, now_ms) == 0:
            return BreakerState(Phase.HALF_OPEN, now_ms, state.trips)
    return state


def admit(
    state: BreakerState, message_id: str, now_ms: int, limits: Thresholds
) -> BreakerState | None:
    """Return the state in which this message may be sent back; None if it may not.

    A probe's place is taken before it is sent, so that two processes do not send twice as many;
    and a probe that has died again is not a probe a second time.
    """
    if state.phase is Phase.CLOSED:
        return state
    is_new = all(probe.message_id != message_id for probe in state.probes)
    if state.phase is Phase.HALF_OPEN and is_new and len(state.probes) < limits.probes:
        return replace(state, probes=(*state.probes, Probe(now_ms, message_id)))
    return None


def _watch(
    state: BreakerState, news: list[Recovered], now_ms: int, limits: Thresholds
) -> BreakerState:
    newest = {seen.message_id: seen for seen in state.seen}
    for fact in news:
        known = newest.get(fact.message_id)
        if fact.fate is not RecoveredFate.PENDING and (known is None or known.at_ms <= fact.at_ms):
            died = fact.fate is RecoveredFate.DIED
            newest[fact.message_id] = Seen(fact.at_ms, fact.message_id, died)
    window = tuple(sorted(newest.values())[-limits.window :])
    deaths = sum(seen.died for seen in window)
    if len(window) >= limits.least and limits.is_bad(deaths, len(window)):
        return _open(state, now_ms, deaths, len(window))
    return replace(state, seen=window)


def _weigh(
    state: BreakerState, news: list[Recovered], now_ms: int, limits: Thresholds
) -> BreakerState:
    """Judge by the probes: open as soon as too many died, closed when enough ended well."""
    fates = _fates(state.probes, news)
    known = [fate for fate in fates.values() if fate is not RecoveredFate.PENDING]
    deaths = known.count(RecoveredFate.DIED)
    overdue_ms = now_ms - state.cool_down_ms(limits)
    if limits.is_bad(deaths, limits.probes):
        return _open(state, now_ms, deaths, len(known))
    if len(known) >= limits.probes:
        return BreakerState(Phase.CLOSED, now_ms)
    if len(known) == len(state.probes) and limits.is_bad(deaths, len(known)):
        if max(probe.at_ms for probe in state.probes) <= overdue_ms:  # no more letters came
            return _open(state, now_ms, deaths, len(known))
        return state
    # Whoever took a place and never sent has died, or somebody decided otherwise about it.
    kept = tuple(p for p in state.probes if p in fates or p.at_ms > overdue_ms)
    return replace(state, probes=kept)


def _fates(probes: Iterable[Probe], news: list[Recovered]) -> dict[Probe, RecoveredFate]:
    """Return what became of the probes that were sent."""
    newest = {fact.message_id: fact for fact in news}
    found = {probe: newest.get(probe.message_id) for probe in probes}
    return {p: f.fate for p, f in found.items() if f is not None and f.at_ms >= p.at_ms}


def _order(fact: Recovered) -> tuple[int, bool]:
    """Of two facts about one message the newer counts, or the one that knows its end."""
    return fact.at_ms, fact.fate is not RecoveredFate.PENDING


def _open(state: BreakerState, now_ms: int, died: int, judged: int) -> BreakerState:
    return BreakerState(Phase.OPEN, now_ms, state.trips + 1, died=died, judged=judged)
