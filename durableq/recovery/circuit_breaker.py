"""The circuit breaker of recovery: when the messages that it sends back keep dying, it stops.

Here is its evidence: what became of the messages that were sent back. The state machine is
`durableq.model.flow.breaker`. `advance` and `admit` are pure. `CircuitBreaker` keeps the state of
one queue in the store, where all recovery processes share it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, NamedTuple

from durableq.model.dead_letters import RECOVERY_ACTOR, Recovered, RecoveredFate
from durableq.model.flow import breaker
from durableq.model.flow.breaker import Breaker, BreakerSettings, Phase, Tally
from durableq.model.message import DeadLetter, Event
from durableq.model.units import span
from durableq.runtime.clock import Clock
from durableq.store.core import Capability, Store

#: The name of a queue's state in the store is this and the name of the queue.
METADATA_PREFIX: Final = "breaker:"
MAX_WINDOW: Final = 200
MAX_PROBES: Final = 20
#: Maximum of both cool-downs.
LONGEST_SECONDS: Final = 30 * 86_400
#: Maximum number of results to read at a time: the newest.
MAX_RESULTS: Final = 1_000
#: Interval between two reads of the results while the breaker is closed. Deaths are seen at once.
RESULTS_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the breaker opens, how long it waits, and how it probes. The rules file checks them."""

    #: Number of messages that count: those sent back last whose result is known.
    window: int = 20
    #: Open when at least this share of them died again.
    share: float = 0.5
    #: Stay closed with fewer messages than this.
    least: int = 10
    #: Seconds to stay open the first time; twice as long each time in a row.
    cool_down: float = 60.0
    #: Maximum number of seconds to stay open.
    longest_cool_down: float = 3600.0
    #: Number of messages to send back as probes before closing.
    probes: int = 3

    @property
    def settings(self) -> BreakerSettings:
        """The settings of the state machine."""
        open_ms, open_max_ms = (int(s * 1000) for s in (self.cool_down, self.longest_cool_down))
        return BreakerSettings(self.share, self.least, open_ms, open_max_ms, self.probes)


DEFAULT_THRESHOLDS: Final = Thresholds()


class Probe(NamedTuple):
    """A message that was sent back while the breaker was half-open."""

    at_ms: int
    message_id: str


class Result(NamedTuple):
    """The result of a message that was sent back."""

    #: The time at which it was sent back.
    at_ms: int
    message_id: str
    died: bool


@dataclass(frozen=True, slots=True)
class BreakerState(Breaker):
    """The state of a breaker, with its evidence. Times are of the wall clock."""

    #: While closed: the results in the window, in the order in which they were sent back.
    seen: tuple[Result, ...] = ()
    #: While half-open: the messages that were sent back.
    probes: tuple[Probe, ...] = ()

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BreakerState:
        """Read the stored form.

        Raises:
            ValueError: another version wrote it.
        """
        try:
            known = json.loads(text)
            phase, since_ms = Phase(known.pop("phase")), int(known.pop("since_ms"))
            seen = tuple(Result(int(at), str(of), bool(died)) for at, of, died in known.pop("seen"))
            probes = tuple(Probe(int(at), str(of)) for at, of in known.pop("probes"))
            known.setdefault("until_ms", since_ms)  # release 0.1 has none: it probes at once
            numbers = {name: int(value) for name, value in known.items()}
            return cls(phase, since_ms, seen=seen, probes=probes, **numbers)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a breaker's state: {text[:100]!r}") from error


def read(store: Store, queue: str) -> BreakerState | None:
    """Return the state of a queue's breaker; None if there is none that this version can read."""
    return _state(store.require(Capability.METADATA).get_metadata(METADATA_PREFIX + queue))


def words(store: Store, queue: str) -> str | None:
    """Return the state of a queue's breaker as a sentence; None if it is closed."""
    state = read(store, queue)
    if state is None or state.phase is Phase.CLOSED:
        return None
    if state.phase is Phase.HALF_OPEN:
        return f"The breaker of {queue} is half-open: only probes are sent back."
    return (
        f"The breaker of {queue} is open: {state.died} of {state.judged} messages that recovery "
        "sent back died again; nothing is sent back until it probes."
    )


def _state(text: str | None) -> BreakerState | None:
    try:
        return None if text is None else BreakerState.from_json(text)
    except ValueError:
        return None


def advance(
    state: BreakerState, facts: Iterable[Recovered], now_ms: int, limits: Thresholds
) -> BreakerState:
    """Return the state after some facts. The same facts again change nothing more.

    Args:
        state: the state before.
        facts: the known results of messages that were sent back, in any order.
        now_ms: the wall clock.
        limits: the thresholds.
    """
    if now_ms < state.since_ms:
        state = replace(breaker.set_back(state, now_ms), seen=(), probes=())
    new = sorted((fact for fact in facts if fact.at_ms >= state.since_ms), key=_order)
    tally = breaker.NO_RESULTS
    if state.phase is Phase.CLOSED:
        state, tally = _window(state, new, limits)
    elif state.phase is Phase.HALF_OPEN:
        state, tally = _probed(state, new, now_ms, limits)
    after = breaker.advance(state, tally, now_ms, limits.settings)
    return after if after.phase is state.phase else replace(after, seen=(), probes=())


def admit(
    state: BreakerState, message_id: str, now_ms: int, limits: Thresholds
) -> BreakerState | None:
    """Return the state in which this message may be sent back; None if it may not.

    A probe is recorded before it is sent, so that two processes together send no more than the
    limit. A probe that has died again is not a probe a second time.
    """
    places = state.places(len(state.probes), limits.settings)
    if places is None:
        return state
    is_new = all(probe.message_id != message_id for probe in state.probes)
    if places and is_new:
        return replace(state, probes=(*state.probes, Probe(now_ms, message_id)))
    return None


def _window(
    state: BreakerState, new: list[Recovered], limits: Thresholds
) -> tuple[BreakerState, Tally]:
    """Add results to the window; count it."""
    newest = {seen.message_id: seen for seen in state.seen}
    for fact in new:
        known = newest.get(fact.message_id)
        if fact.fate is not RecoveredFate.PENDING and (known is None or known.at_ms <= fact.at_ms):
            died = fact.fate is RecoveredFate.DIED
            newest[fact.message_id] = Result(fact.at_ms, fact.message_id, died)
    window = tuple(sorted(newest.values())[-limits.window :])
    return replace(state, seen=window), Tally(sum(seen.died for seen in window), len(window))


def _probed(
    state: BreakerState, new: list[Recovered], now_ms: int, limits: Thresholds
) -> tuple[BreakerState, Tally]:
    """Count the results of the probes. Those of fewer decide if no more dead letters came."""
    fates = _fates(state.probes, new)
    known = [fate for fate in fates.values() if fate is not RecoveredFate.PENDING]
    overdue_ms = now_ms - limits.settings.open_for_ms(state.trips)
    has_all = bool(known) and len(known) == len(state.probes)
    is_final = has_all and max(probe.at_ms for probe in state.probes) <= overdue_ms
    if not has_all:
        # Forget a probe that was never sent: its process died, or a person decided about it.
        kept = tuple(p for p in state.probes if p in fates or p.at_ms > overdue_ms)
        state = replace(state, probes=kept)
    return state, Tally(known.count(RecoveredFate.DIED), len(known), is_final)


def _fates(probes: Iterable[Probe], new: list[Recovered]) -> dict[Probe, RecoveredFate]:
    """Return the results of the probes that were sent."""
    newest = {fact.message_id: fact for fact in new}
    found = {probe: newest.get(probe.message_id) for probe in probes}
    return {p: f.fate for p, f in found.items() if f is not None and f.at_ms >= p.at_ms}


def _order(fact: Recovered) -> tuple[int, bool]:
    """Order facts about one message: the newer counts, or the one with a result."""
    return fact.at_ms, fact.fate is not RecoveredFate.PENDING


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A change of a breaker's phase."""

    queue: str
    before: Phase
    state: BreakerState
    cool_down_ms: int

    @property
    def text(self) -> str:
        """The change as a sentence."""
        match self.state.phase:
            case Phase.OPEN:
                return (
                    f"breaker of {self.queue} is open: {self.state.died} of {self.state.judged} "
                    "messages that recovery sent back died again; for "
                    f"{span(self.cool_down_ms)} it sends none back"
                )
            case Phase.HALF_OPEN:
                return f"breaker of {self.queue} is half-open: a few messages go back as probes"
        return f"breaker of {self.queue} is closed: messages that are sent back succeed again"


class CircuitBreaker:
    """The breaker of one queue.

    Args:
        store: the store with the state and the facts.
        queue: the source queue.
        limits: the thresholds of this process.
        clock: the wall clock.
        on_change: called in the process that changes the phase.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        limits: Thresholds,
        clock: Clock,
        on_change: Callable[[BreakerChange], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._limits = limits
        self._clock = clock
        self._on_change = on_change
        self._results_due = 0.0
        #: The state that was read last.
        self.state = BreakerState(Phase.CLOSED, clock.wall_ms())

    def update(self, dead_letters: Sequence[DeadLetter] = ()) -> BreakerState:
        """Apply the new facts and the deaths of these dead letters; return the state."""
        facts = [fact for dead_letter in dead_letters if (fact := _death(dead_letter)) is not None]
        due = self.state.phase is Phase.HALF_OPEN or time.monotonic() >= self._results_due
        if due and self.state.phase is not Phase.OPEN:  # no fact opens it before its time
            self._results_due = time.monotonic() + RESULTS_SECONDS
            facts += self._store.require(Capability.DEAD_LETTERS).recoveries(
                self._queue, self.state.since_ms, MAX_RESULTS
            )
        now_ms = self._clock.wall_ms()
        self._change(lambda state: advance(state, facts, now_ms, self._limits))
        return self.state

    def may_admit(self, dead_letter: DeadLetter) -> bool:
        """Return whether the last known state admits a dead letter; record nothing."""
        now_ms = self._clock.wall_ms()
        return admit(self.state, dead_letter.id, now_ms, self._limits) is not None

    def admit(self, dead_letter: DeadLetter) -> bool:
        """Return whether a dead letter may be sent back now, and record it if it is a probe."""
        now_ms = self._clock.wall_ms()
        return self._change(lambda state: admit(state, dead_letter.id, now_ms, self._limits))

    def left_ms(self) -> int:
        """Return the time until it probes; 0 unless it is open."""
        return self.state.left_ms(self._clock.wall_ms())

    def _change(self, step: Callable[[BreakerState], BreakerState | None]) -> bool:
        """Apply `step` to the stored state with compare-and-set; False if it returns None."""
        name = METADATA_PREFIX + self._queue
        while True:
            text = self._store.require(Capability.METADATA).get_metadata(name)
            before = _state(text) or BreakerState(Phase.CLOSED, self._clock.wall_ms())
            after = step(before)
            if after is None:
                self.state = before
                return False
            written = after.to_json()
            if written == text or self._store.require(Capability.METADATA).compare_and_set(
                name, written, expected=text
            ):
                break
        self.state = after
        if after.phase is not before.phase:
            cool_down_ms = self._limits.settings.open_for_ms(after.trips)
            self._on_change(BreakerChange(self._queue, before.phase, after, cool_down_ms))
        return True


def _death(dead_letter: DeadLetter) -> Recovered | None:
    """Return the fact that a message died again after recovery sent it back, if it did."""
    sent = {Event.RETRIED, Event.REQUEUED}
    for event in reversed(dead_letter.history):
        if event.event in sent and event.actor.startswith(RECOVERY_ACTOR):
            return Recovered(dead_letter.id, event.at_ms, RecoveredFate.DIED)
    return None
