"""One queue's dead letters at a recovery process: leased a few at a time, and decided about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from durableq.model.decisions import Decision, Hold, Requeue, Retry
from durableq.model.errors import InvalidInput
from durableq.model.message import DeadLetter, Outcome, Receipt
from durableq.model.queues import dead_letter_name
from durableq.recovery.breaker_state import CircuitBreaker
from durableq.recovery.circuit_breaker import BreakerState, Phase
from durableq.recovery.leases import Leases
from durableq.recovery.policies import Judgment, Policies
from durableq.recovery.rate import Rate
from durableq.runtime.outage import Outage, persist
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability, Store

T = TypeVar("T")

DEAD_LETTERS_AT_ONCE: Final = 10
#: While the breaker lets nothing back, so many letters are looked through for others.
MOST_PUT_OFF: Final = 1_000
#: After that, new letters are looked through at most this often.
REST_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryDecision:
    """A verdict on a letter, and what came of it."""

    dead_letter: DeadLetter
    decision: Decision
    #: None when it was only planned.
    outcome: Outcome | None
    #: Whose verdict it is: a rule with its line, or a Python policy.
    by: str = ""


class RecoveryContext(NamedTuple):
    """What all desks of a process share."""

    store: Store
    policies: Policies
    leases: Leases
    rate: Rate
    stopping: WakeupEvent
    owner_id: int
    actor: str
    on_decision: Callable[[RecoveryDecision], None]
    outage: Outage
    #: Whether the process ends when no letter is ready that may be decided about now.
    once: bool = False

    def persist(self, call: Callable[[], T]) -> T | None:
        """Make a call until the file is not busy; None if it was stopped before."""
        return persist(call, self.stopping, self.outage)


class _Stand(NamedTuple):
    """How the breaker stood when it let a letter not pass."""

    phase: Phase
    since_ms: int
    probes: int

    @classmethod
    def of(cls, state: BreakerState) -> _Stand:
        return cls(state.phase, state.since_ms, len(state.probes))


class DeadLetterConsumer:
    """One queue at a recovery process.

    Args:
        office: what it shares.
        queue: whose letters.
        gate: asked before one is sent back.
    """

    def __init__(self, context: RecoveryContext, queue: str, breaker: CircuitBreaker) -> None:
        self._context = context
        self._dead_letters = dead_letter_name(queue)
        self._breaker = breaker
        self._put_off: list[Receipt] = []
        """Leased while the others behind them are looked through, then given back untouched."""
        self._stand = _Stand(Phase.CLOSED, 0, 0)
        self._moved_in = 0
        self._rests_since: float | None = None
        self.decided = 0

    @property
    def dead_letters(self) -> str:
        """The name of the dead-letter queue."""
        return self._dead_letters

    def rests(self) -> bool:
        """Return whether there is nothing to do until the breaker allows, or new letters come."""
        if self._rests_since is None:
            return False
        state = self._breaker.look()
        rested = time.monotonic() >= self._rests_since + REST_SECONDS
        if (_Stand.of(state) != self._stand and state.phase is not Phase.OPEN) or (
            rested and self._count_moved_in() != self._moved_in
        ):
            self._rests_since = None
        return self._rests_since is not None

    def rest_seconds(self, most: float) -> float:
        """Return when a rest should be looked at again."""
        left_ms = self._breaker.left_ms()
        return min(most, left_ms / 1000) if self._rests_since is not None and left_ms else most

    def turn(self) -> int:
        """Look at a few letters; return their number, or 0 if none was ready."""
        if self.rests():
            return 0
        if not self._put_off and self._breaker.state.phase is not Phase.CLOSED:
            self._moved_in = self._count_moved_in()
        dead_letters = self._receive() if self._may_put_off else None
        if dead_letters is None:
            self._begin_rest()
            return 0
        self._breaker.look([dead_letter for dead_letter, _ in dead_letters])
        for dead_letter, receipt in dead_letters:
            if self._context.stopping.is_set:
                break
            if self._context.leases.begin(receipt):
                self._decide(dead_letter, receipt)
        return max(len(dead_letters), 1)

    @property
    def _may_put_off(self) -> bool:
        """Whether more letters are looked through for others: with `once`, all of them."""
        return self._context.once or len(self._put_off) < MOST_PUT_OFF

    def _receive(self) -> list[tuple[DeadLetter, Receipt]] | None:
        """Lease a few letters; None if none is ready, an empty list if others may be."""
        store, leases = self._context.store, self._context.leases
        with leases.settled():
            if store.ready_in_ms([self._dead_letters]) != 0:  # to receive is to write
                return None
        limit = self._context.rate.at_once(DEAD_LETTERS_AT_ONCE)
        received = store.receive(self._dead_letters, limit, owner_id=self._context.owner_id)
        if received.idle:
            return None
        leases.take(received.messages)
        dead_letters = []
        for message in received.messages:
            dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
            if dead_letter is not None and message.receipt is not None:
                dead_letters.append((dead_letter, message.receipt))
            elif message.receipt is not None:
                leases.let_go([message.receipt])  # decided by a person, or purged, since
        return dead_letters

    def _decide(self, dead_letter: DeadLetter, receipt: Receipt) -> None:
        context = self._context
        judgment = context.policies.judge(dead_letter)
        if isinstance(judgment.decision, (Retry, Requeue)) and not self._may_send(dead_letter):
            if not context.stopping.is_set:
                self._put_off.append(receipt)
                self._stand = _Stand.of(self._breaker.state)
            return
        decision = context.persist(lambda: self._apply(dead_letter, receipt, judgment))
        if decision is not None:
            context.leases.let_go([receipt])
            self.decided += 1
            context.on_decision(decision)

    def _may_send(self, dead_letter: DeadLetter) -> bool:
        """Wait for a turn, and ask the breaker; False also if it was stopped meanwhile."""
        return (
            self._breaker.would_admit(dead_letter)
            and self._context.rate.wait(self._context.stopping)
            and bool(self._context.persist(lambda: self._breaker.admit(dead_letter)))
        )

    def _apply(
        self, dead_letter: DeadLetter, receipt: Receipt, judgment: Judgment
    ) -> RecoveryDecision:
        decision, (store, actor) = judgment.decision, (self._context.store, self._context.actor)
        try:
            (outcome,) = store.require(Capability.DEAD_LETTERS).decide(
                [(receipt, decision)], actor=actor
            )
        except InvalidInput as error:  # a changed body over the queue's limit
            decision = Hold(f"the policy's verdict cannot be applied: {error}")
            (outcome,) = store.require(Capability.DEAD_LETTERS).decide(
                [(receipt, decision)], actor=actor
            )
        return RecoveryDecision(dead_letter, decision, outcome, judgment.by)

    def _begin_rest(self) -> None:
        """Nothing is left to look through: what was put off goes back, and waits."""
        if not self._put_off:
            return
        self._context.leases.give_back(self._put_off)
        self._put_off = []
        self._rests_since = time.monotonic()

    def _count_moved_in(self) -> int:
        return (
            self._context.store.require(Capability.INSPECT)
            .queue(self._dead_letters)
            .counters.moved_in
        )
