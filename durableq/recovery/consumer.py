"""The dead letters of one queue: leased a few at a time, decided about, and settled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from durableq.model.decisions import Decision, Hold, Requeue, Retry
from durableq.model.errors import InvalidInput
from durableq.model.message import DeadLetter, Outcome, Receipt
from durableq.model.queues import dead_letter_name
from durableq.model.text import shown
from durableq.recovery.circuit_breaker import BreakerState, CircuitBreaker, Phase
from durableq.recovery.leases import RecoveryLeases
from durableq.recovery.policies import Policies, PolicyDecision
from durableq.runtime.outage import Outage, persist
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability, Store

T = TypeVar("T")

#: Maximum number of dead letters to lease at a time.
BATCH_SIZE: Final = 10
#: While the breaker admits none, maximum number of dead letters to defer in search of others.
MAX_DEFERRED: Final = 1_000
#: Minimum interval between two such searches.
PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """A decision about a dead letter, and its outcome."""

    dead_letter: DeadLetter
    decision: Decision
    #: None for a decision that was only planned.
    outcome: Outcome | None
    #: The origin of the decision: a rule with its line, or a Python policy.
    by: str = ""


class SendRate:
    """A rate limit without bursts for messages that are sent back.

    Args:
        per_second: the limit; None means no limit.
        now: seconds, on a monotonic clock.

    Raises:
        InvalidInput: not more than 0.
    """

    def __init__(self, per_second: float | None, now: Callable[[], float] = time.monotonic) -> None:
        if per_second is not None and not 0 < per_second < float("inf"):
            raise InvalidInput(f"A rate is a number over 0, got {shown(per_second)}.")
        self._per_second = per_second
        self._now = now
        self._next_at = now()

    def batch_size(self, most: int) -> int:
        """Return the number of dead letters to lease: no more than may be sent in a second."""
        return most if self._per_second is None else max(1, min(most, int(self._per_second)))

    def wait(self, stopping: WakeupEvent) -> bool:
        """Wait until one may be sent, and count it; False if told to stop meanwhile."""
        if self._per_second is None:
            return True
        while (left := self._next_at - self._now()) > 0:
            if stopping.wait(left):
                return False
        self._next_at = self._now() + 1 / self._per_second
        return True


class RecoveryContext(NamedTuple):
    """The objects that all consumers of a process share."""

    store: Store
    policies: Policies
    leases: RecoveryLeases
    rate: SendRate
    stopping: WakeupEvent
    owner_id: int
    actor: str
    on_decision: Callable[[RecoveryResult], None]
    outage: Outage
    #: Whether the process ends when no dead letter is ready that may be decided about now.
    once: bool = False

    def persist(self, call: Callable[[], T]) -> T | None:
        """Repeat a call until the database is not busy; None if told to stop meanwhile."""
        return persist(call, self.stopping, self.outage)


class _BreakerSnapshot(NamedTuple):
    """The state of the breaker when it refused a dead letter."""

    phase: Phase
    since_ms: int
    probes: int

    @classmethod
    def of(cls, state: BreakerState) -> _BreakerSnapshot:
        return cls(state.phase, state.since_ms, len(state.probes))


class DeadLetterConsumer:
    """Consumes the dead letters of one queue.

    Args:
        context: the objects shared with other consumers.
        queue: the source queue.
        breaker: its circuit breaker.
    """

    def __init__(self, context: RecoveryContext, queue: str, breaker: CircuitBreaker) -> None:
        self._context = context
        self._dead_letters = dead_letter_name(queue)
        self._breaker = breaker
        # Leased during a search for others that may be settled, then released untouched.
        self._deferred: list[Receipt] = []
        self._refused_by = _BreakerSnapshot(Phase.CLOSED, 0, 0)
        self._moved_in = 0
        self._paused_at: float | None = None
        #: Number of decisions that were applied or refused.
        self.decided = 0

    @property
    def dead_letters(self) -> str:
        """The name of the dead-letter queue."""
        return self._dead_letters

    def is_paused(self) -> bool:
        """Return whether to wait until the breaker admits messages, or new dead letters come."""
        if self._paused_at is None:
            return False
        state = self._breaker.update()
        admits = _BreakerSnapshot.of(state) != self._refused_by and state.phase is not Phase.OPEN
        over = time.monotonic() >= self._paused_at + PAUSE_SECONDS
        if admits or (over and self._count_moved_in() != self._moved_in):
            self._paused_at = None
        return self._paused_at is not None

    def pause_seconds(self, most: float) -> float:
        """Return the time until the pause may be over, `most` if there is none."""
        left_ms = self._breaker.left_ms()
        return min(most, left_ms / 1000) if self._paused_at is not None and left_ms else most

    def process_batch(self) -> int:
        """Decide about a few dead letters; return 0 if none was ready."""
        if self.is_paused():
            return 0
        if not self._deferred and self._breaker.state.phase is not Phase.CLOSED:
            self._moved_in = self._count_moved_in()
        may_defer = self._context.once or len(self._deferred) < MAX_DEFERRED
        dead_letters = self._receive() if may_defer else None
        if dead_letters is None:
            self._release_deferred()
            return 0
        self._breaker.update([dead_letter for dead_letter, _ in dead_letters])
        for dead_letter, receipt in dead_letters:
            if self._context.stopping.is_set:
                break
            if self._context.leases.start(receipt):
                self._decide(dead_letter, receipt)
        return max(len(dead_letters), 1)

    def _receive(self) -> list[tuple[DeadLetter, Receipt]] | None:
        """Lease a few dead letters; None if none is ready, an empty list if others may be."""
        store, leases = self._context.store, self._context.leases
        with leases.none_returning():
            if store.ready_in_ms([self._dead_letters]) != 0:  # a receive would write
                return None
        limit = self._context.rate.batch_size(BATCH_SIZE)
        received = store.receive(self._dead_letters, limit, owner_id=self._context.owner_id)
        if received.idle:
            return None
        leases.add(received.messages)
        dead_letters = []
        for message in received.messages:
            dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
            if dead_letter is not None and message.receipt is not None:
                dead_letters.append((dead_letter, message.receipt))
            elif message.receipt is not None:
                leases.forget([message.receipt])  # decided by a person, or purged, since
        return dead_letters

    def _decide(self, dead_letter: DeadLetter, receipt: Receipt) -> None:
        context = self._context
        decided = context.policies.decide(dead_letter)
        if isinstance(decided.decision, (Retry, Requeue)) and not self._may_send(dead_letter):
            if not context.stopping.is_set:
                self._deferred.append(receipt)
                self._refused_by = _BreakerSnapshot.of(self._breaker.state)
            return
        result = context.persist(lambda: self._apply(dead_letter, receipt, decided))
        if result is not None:
            context.leases.forget([receipt])
            self.decided += 1
            context.on_decision(result)

    def _may_send(self, dead_letter: DeadLetter) -> bool:
        """Wait for the rate limit and ask the breaker; False also if told to stop meanwhile."""
        return (
            self._breaker.may_admit(dead_letter)
            and self._context.rate.wait(self._context.stopping)
            and bool(self._context.persist(lambda: self._breaker.admit(dead_letter)))
        )

    def _apply(
        self, dead_letter: DeadLetter, receipt: Receipt, decided: PolicyDecision
    ) -> RecoveryResult:
        store = self._context.store.require(Capability.DEAD_LETTERS)
        decision, actor = decided.decision, self._context.actor
        try:
            (outcome,) = store.decide([(receipt, decision)], actor=actor)
        except InvalidInput as error:  # a changed body over the queue's limit
            decision = Hold(f"the policy's decision cannot be applied: {error}")
            (outcome,) = store.decide([(receipt, decision)], actor=actor)
        return RecoveryResult(dead_letter, decision, outcome, decided.by)

    def _release_deferred(self) -> None:
        """End a search: release the deferred dead letters, and pause."""
        if not self._deferred:
            return
        self._context.leases.release(self._deferred)
        self._deferred = []
        self._paused_at = time.monotonic()

    def _count_moved_in(self) -> int:
        inspect = self._context.store.require(Capability.INSPECT)
        return inspect.queue(self._dead_letters).counters.moved_in
