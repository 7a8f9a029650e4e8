"""The circuit breaker: it opens when too many fail, waits, lets a few probes through, and closes.

This is the one state machine. A queue's breaker for workers (`queue_breaker`) and the recovery
process's (`durableq.recovery.circuit_breaker`) collect their evidence, each in its own way, and
step through it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

#: The part of the open time by which jitter may shorten it, so that breakers of many queues do not
#: probe one service at the same moment.
JITTER: Final = 0.2


class Phase(StrEnum):
    """The phase of a circuit breaker."""

    #: All messages go through.
    CLOSED = "closed"
    #: None goes through.
    OPEN = "open"
    #: A few go through, as probes.
    HALF_OPEN = "half_open"

    @property
    def label(self) -> str:
        """The phase in prose: closed, open, half-open."""
        return self.value.replace("_", "-")


class BreakerSettings(NamedTuple):
    """When a breaker opens, how long it stays open, and how it probes. Times are milliseconds."""

    #: It opens when at least this share of the messages failed.
    share: float
    #: It stays closed while fewer messages than this have a result.
    minimum: int
    #: The time that it stays open at first; it doubles each time that probes fail.
    open_ms: int
    #: The maximum of that time.
    open_max_ms: int
    #: The number of messages that go through while it is half-open.
    probes: int

    def exceeded(self, failed: int, judged: int) -> bool:
        """Return whether `failed` of `judged` messages reach the share."""
        return failed > 0 and failed >= self.share * judged

    def open_for_ms(self, trips: int) -> int:
        """Return how long a breaker stays open after opening `trips` times in a row."""
        doubled = self.open_ms << min(max(trips - 1, 0), 40)
        return max(1, min(doubled, self.open_max_ms))


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of a circuit breaker. All times are of one clock, which its owner chooses."""

    phase: Phase
    #: When the phase began.
    since_ms: int
    #: The number of times in a row that it opened.
    trips: int = 0
    #: While open: when it begins to probe.
    until_ms: int = 0
    #: Failures among the `judged` messages that made it open.
    died: int = 0
    judged: int = 0

    def left_ms(self, now_ms: int) -> int:
        """Return the time until it probes; 0 unless it is open."""
        return max(0, self.until_ms - now_ms) if self.phase is Phase.OPEN else 0

    def places(self, taken: int, settings: BreakerSettings) -> int | None:
        """Return the number of messages that may go through now; None means no limit.

        Args:
            taken: the number of probes that are out.
            settings: the settings.
        """
        if self.phase is Phase.CLOSED:
            return None
        return max(0, settings.probes - taken) if self.phase is Phase.HALF_OPEN else 0


B = TypeVar("B", bound=Breaker)


class Tally(NamedTuple):
    """The results that count: of the window while closed, of the probes while half-open."""

    failed: int
    #: The number of messages with a result, failed or succeeded.
    judged: int
    #: While half-open: whether no other probe is out or will come, so that these few decide.
    is_final: bool = False


NO_RESULTS: Final = Tally(0, 0)


def advance(state: B, tally: Tally, now_ms: int, settings: BreakerSettings, rng: float = 0.0) -> B:
    """Return the state after these results at this time; the same state if nothing changes.

    Args:
        state: the state before.
        tally: the results that count in its phase.
        now_ms: the time.
        settings: the settings.
        rng: a random number in [0, 1), for the jitter of the open time.
    """
    failed, judged, is_final = tally
    probes = min(judged, settings.probes) if is_final else settings.probes
    match state.phase:
        case Phase.CLOSED if judged >= settings.minimum and settings.exceeded(failed, judged):
            return trip(state, tally, now_ms, settings, rng)
        case Phase.OPEN if now_ms >= state.until_ms:
            return replace(state, phase=Phase.HALF_OPEN, since_ms=now_ms, until_ms=0)
        case Phase.HALF_OPEN if settings.exceeded(failed, probes):
            return trip(state, tally, now_ms, settings, rng)
        case Phase.HALF_OPEN if judged >= settings.probes:
            return close(state, now_ms)
    return state


def trip(
    state: B,
    tally: Tally,
    now_ms: int,
    settings: BreakerSettings,
    rng: float = 0.0,
    *,
    at_least_ms: int = 0,
) -> B:
    """Return the state of a breaker that opens now, because of these results.

    Args:
        state: the state before.
        tally: the results.
        now_ms: the time.
        settings: the settings.
        rng: a random number in [0, 1), for the jitter of the open time.
        at_least_ms: a longer open time that the service asked for; the maximum holds.
    """
    trips = state.trips + 1
    open_ms = int(settings.open_for_ms(trips) * (1 - JITTER * rng))
    open_ms = max(1, open_ms, min(at_least_ms, settings.open_max_ms))
    return replace(
        state,
        phase=Phase.OPEN,
        since_ms=now_ms,
        trips=trips,
        until_ms=now_ms + open_ms,
        died=tally.failed,
        judged=tally.judged,
    )


def close(state: B, now_ms: int) -> B:
    """Return the state of a breaker that closes now."""
    return replace(
        state, phase=Phase.CLOSED, since_ms=now_ms, trips=0, until_ms=0, died=0, judged=0
    )


def set_back(state: B, now_ms: int) -> B:
    """Return the state as it began now: its clock was set back, and no time may be in the future.

    The time that is left of being open stays bounded by the whole open time.
    """
    return replace(
        state, since_ms=now_ms, until_ms=max(0, now_ms + state.until_ms - state.since_ms)
    )
