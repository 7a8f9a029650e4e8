"""The breaker of one queue, shared by every recovery process through the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from durableq.model.dead_letters import RECOVERY_ACTOR, Recovered, RecoveredFate
from durableq.model.message import DeadLetter, Event
from durableq.model.units import span
from durableq.recovery import circuit_breaker
from durableq.recovery.circuit_breaker import BreakerState, Phase, Thresholds
from durableq.runtime.clock import Clock
from durableq.store.core import Capability, Store

#: Messages sent back that are looked at: the newest.
FACTS: Final = 1_000
#: How often they are looked at while it is closed. What dies again is seen as it comes.
LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker that has opened, begun to probe, or closed."""

    queue: str
    before: Phase
    state: BreakerState
    cool_down_ms: int

    @property
    def words(self) -> str:
        """What has happened, in a sentence."""
        match self.state.phase:
            case Phase.OPEN:
                return (
                    f"breaker of {self.queue} is open: {self.state.died} of {self.state.judged} "
                    "messages that recovery sent back died again; for "
                    f"{span(self.cool_down_ms)} it sends none back"
                )
            case Phase.HALF_OPEN:
                return f"breaker of {self.queue} is half-open: a few letters go back as probes"
        return f"breaker of {self.queue} is closed: what is sent back succeeds again"


class CircuitBreaker:
    """Asked before a letter is sent back.

    Args:
        store: where the state is kept, and the facts are.
        queue: whose letters.
        limits: the thresholds of this process.
        clock: the wall clock.
        on_change: told when the phase changes, by the process that changed it.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        limits: Thresholds,
        clock: Clock,
        on_change: Callable[[Change], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._limits = limits
        self._clock = clock
        self._on_change = on_change
        self._due = 0.0
        self.state = BreakerState(Phase.CLOSED, clock.wall_ms())
        """As it was seen last."""

    def look(self, dead_letters: Sequence[DeadLetter] = ()) -> BreakerState:
        """Take in the facts, with what these letters tell by being dead; return the state."""
        facts = [fact for dead_letter in dead_letters if (fact := _death(dead_letter)) is not None]
        due = self.state.phase is Phase.HALF_OPEN or time.monotonic() >= self._due
        if due and self.state.phase is not Phase.OPEN:  # no fact opens it before its time
            self._due = time.monotonic() + LOOK_SECONDS
            facts += self._store.require(Capability.DEAD_LETTERS).recoveries(
                self._queue, self.state.since_ms, FACTS
            )
        now_ms = self._clock.wall_ms()
        self._change(lambda state: circuit_breaker.advance(state, facts, now_ms, self._limits))
        return self.state

    def would_admit(self, dead_letter: DeadLetter) -> bool:
        """Return whether it looks as if a letter may be sent back; nothing is reserved."""
        now_ms = self._clock.wall_ms()
        return circuit_breaker.admit(self.state, dead_letter.id, now_ms, self._limits) is not None

    def admit(self, dead_letter: DeadLetter) -> bool:
        """Return whether a letter may be sent back now; a probe's place is then taken."""
        now_ms = self._clock.wall_ms()
        return self._change(
            lambda state: circuit_breaker.admit(state, dead_letter.id, now_ms, self._limits)
        )

    def left_ms(self) -> int:
        """Return how long until it probes; 0 unless it is open."""
        return self.state.left_ms(self._limits, self._clock.wall_ms())

    def _change(self, step: Callable[[BreakerState], BreakerState | None]) -> bool:
        """Write what a step makes of the state that is there; False if it makes nothing of it."""
        name = circuit_breaker.METADATA_PREFIX + self._queue
        while True:
            text = self._store.require(Capability.METADATA).get_metadata(name)
            before = self._read(text)
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
            cool_down_ms = after.cool_down_ms(self._limits)
            self._on_change(Change(self._queue, before.phase, after, cool_down_ms))
        return True

    def _read(self, text: str | None) -> BreakerState:
        """Return what is remembered; what cannot be read is as good as nothing."""
        try:
            if text is not None:
                return BreakerState.from_json(text)
        except ValueError:
            pass
        return BreakerState(Phase.CLOSED, self._clock.wall_ms())


def _death(dead_letter: DeadLetter) -> Recovered | None:
    """Return what it tells that a letter which recovery had sent back is dead again."""
    sent = {Event.RETRIED, Event.REQUEUED}
    for event in reversed(dead_letter.history):
        if event.event in sent and event.actor.startswith(RECOVERY_ACTOR):
            return Recovered(dead_letter.id, event.at_ms, RecoveredFate.DIED)
    return None
