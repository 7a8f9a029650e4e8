"""The recovery process: leases dead letters, asks the policies, and applies their decisions.

Several processes are safe side by side: one at a time leases a dead letter, and the receipt fences
its decision.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from durableq.client.app import DurableQ
from durableq.model.dead_letters import RECOVERY_ACTOR, DeadLetterFilter
from durableq.model.decisions import Decision, Hold, Requeue, Retry
from durableq.model.errors import PASSING, InvalidInput, UnknownQueue
from durableq.model.flow.breaker import Phase
from durableq.model.message import DeadLetter, Outcome, Receipt
from durableq.recovery.circuit_breaker import (
    DEFAULT_THRESHOLDS,
    BreakerChange,
    BreakerState,
    CircuitBreaker,
    Thresholds,
)
from durableq.recovery.leases import RecoveryLeases
from durableq.recovery.policies import AppPolicies, Policies, PolicyDecision, RulePolicies
from durableq.recovery.send_rate import SendRate
from durableq.recovery.sources import LOOK_SECONDS, DeadLetterSource
from durableq.runtime.clock import Clock, SystemClock
from durableq.runtime.outage import PAUSE_SECONDS, Outage, describe, logged, persist
from durableq.runtime.systemd import Systemd
from durableq.runtime.wakeup import MessageWaiter, WakeupEvent
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import this_process
from durableq.supervisor.peers import DeadWorkers

if TYPE_CHECKING:
    from durableq.recovery.rules import Rules

log = logging.getLogger("durableq.recovery")

T = TypeVar("T")

#: Number of dead letters to read at a time for a plan.
PAGE_SIZE: Final = 100
#: Maximum wait without a wake-up, in case one was missed.
LONGEST_WAIT_SECONDS: Final = 1.0
#: First and longest pause after a wake-up without a dead letter: a write of another process.
PAUSES_SECONDS: Final = (0.005, 0.2)
#: Interval between two searches for new queues, and for processes that died.
MAINTENANCE_SECONDS: Final = 1.0
#: Maximum number of dead letters to lease at a time.
BATCH_SIZE: Final = 10
#: While the breaker admits none, maximum number of dead letters to defer in search of others.
MAX_DEFERRED: Final = 1_000
#: Minimum interval between two such searches.
SEARCH_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """A decision about a dead letter, and its outcome."""

    dead_letter: DeadLetter
    decision: Decision
    #: None for a decision that was only planned.
    outcome: Outcome | None
    #: The origin of the decision: a rule with its line, or a Python policy.
    by: str = ""


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
    #: Called at least once a second while the process does its work.
    on_step: Callable[[], None]
    #: Whether the process ends when no dead letter is ready that may be decided about now.
    once: bool = False


class DeadLetterConsumer:
    """Consumes the dead letters of one queue.

    Args:
        context: the objects shared with other consumers.
        queue: the source queue.
        breaker: its circuit breaker.
    """

    def __init__(self, context: RecoveryContext, queue: str, breaker: CircuitBreaker) -> None:
        self._context = context
        self.source = DeadLetterSource(context.store, queue)
        self._breaker = breaker
        # Leased during a search for others that may be settled, then released untouched.
        self._deferred: list[Receipt] = []
        # The breaker when it refused a dead letter.
        self._refused_by = (Phase.CLOSED, 0, 0)
        self._moved_in = 0
        self._paused_at: float | None = None

    def is_paused(self) -> bool:
        """Return whether to wait until the breaker admits messages, or new dead letters come."""
        if self._paused_at is None:
            return False
        state = self._breaker.update()
        admits = _snapshot(state) != self._refused_by and state.phase is not Phase.OPEN
        over = time.monotonic() >= self._paused_at + SEARCH_PAUSE_SECONDS
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
        self.source.look()
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
            self._context.on_step()
            if self._context.leases.start(receipt):
                self._decide(dead_letter, receipt)
        return max(len(dead_letters), 1)

    def _receive(self) -> list[tuple[DeadLetter, Receipt]] | None:
        """Lease a few dead letters; None if none is ready, an empty list if others may be."""
        store, leases = self._context.store, self._context.leases
        with leases.none_returning():
            if not self.source.is_ready():
                return None
        limit = self._context.rate.batch_size(BATCH_SIZE)
        messages = self.source.lease(limit, self._context.owner_id)
        if messages is None:
            return None
        leases.add(messages)
        dead_letters = []
        for message in messages:
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
                self._refused_by = _snapshot(self._breaker.state)
            return
        result = self._persist(lambda: self._apply(dead_letter, receipt, decided))
        if result is not None:
            context.leases.end(receipt)
            context.on_decision(result)

    def _may_send(self, dead_letter: DeadLetter) -> bool:
        """Wait for the rate limit and ask the breaker; False also if told to stop meanwhile."""
        context = self._context
        return (
            self._breaker.may_admit(dead_letter)
            and context.rate.wait(context.stopping, context.on_step)
            and bool(self._persist(lambda: self._breaker.admit(dead_letter)))
        )

    def _persist(self, write: Callable[[], T]) -> T | None:
        """Write, again and again during an outage; None if told to stop meanwhile."""
        context = self._context

        def step() -> T:
            context.on_step()
            return write()

        return persist(step, context.stopping, context.outage)

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
        return inspect.queue(self.source.name).counters.moved_in


class Recovery:
    """Recovers the dead letters of an application's queues, or of those that rules name.

    Args:
        app: the application with the policies; with rules, only its database is used.
        queues: the source queues; empty means all that have a policy.
        rules: the rules, instead of the application's policies.
        rate: maximum number of messages to send back per second; None means no limit.
        thresholds: the thresholds of the circuit breakers; None means those of the rules.
        on_change: called when a breaker opens, probes or closes.
        clock: the clock; tests replace it.
        systemd: is told what this process does; None without it.

    Raises:
        AppError: there is no policy, or none for a named queue.
        InvalidInput: no rule is for a named queue, or the rate is not a number over 0.
    """

    def __init__(
        self,
        app: DurableQ,
        *,
        queues: tuple[str, ...] = (),
        rules: Rules | None = None,
        rate: float | None = None,
        thresholds: Thresholds | None = None,
        on_change: Callable[[BreakerChange], None] = lambda _: None,
        clock: Clock | None = None,
        systemd: Systemd | None = None,
    ) -> None:
        self._app = app
        self._systemd = systemd or Systemd({})
        self._clock = clock or SystemClock()
        self.policies: Policies = (
            AppPolicies(app.policies, queues)
            if rules is None
            else RulePolicies(rules, self._clock, queues)
        )
        self._thresholds = thresholds or (rules.thresholds if rules else DEFAULT_THRESHOLDS)
        self._rate = SendRate(rate)
        self._on_change = on_change
        self._name = f"{RECOVERY_ACTOR}{os.getpid()}"
        self._consumers: dict[str, DeadLetterConsumer] = {}
        # The dead-letter queues in this process's row.
        self._registered: tuple[str, ...] = ()
        self._maintenance_due = 0.0
        self._dead_workers = DeadWorkers()
        #: Set it, also from a signal handler, to finish the current dead letter and stop.
        self.stopping = WakeupEvent()

    def plan(self, store: Store) -> Iterator[RecoveryResult]:
        """Yield the decisions that would be made now, without leasing or writing.

        Args:
            store: the store; the application's own would declare its missing queues.

        Raises:
            InvalidInput: a rule names a queue that does not exist.
        """
        self.policies.check(store)
        for queue in self.policies.queues(store):
            wanted = DeadLetterFilter(queue)
            after: str | None = None
            while page := store.require(Capability.DEAD_LETTERS).dead_letters(
                wanted, PAGE_SIZE, after
            ):
                after = page[-1].id
                for dead_letter in page:
                    if not dead_letter.message.held:
                        decided = self.policies.decide(dead_letter)
                        yield RecoveryResult(dead_letter, decided.decision, None, decided.by)

    def run(self, *, once: bool, on_decision: Callable[[RecoveryResult], None]) -> int:
        """Decide about dead letters until told to stop; return the number of decisions.

        Args:
            once: stop when no dead letter is ready that may be decided about now, and none may come
                back from a process that has just died.
            on_decision: called after each decision was committed, or refused.

        Raises:
            InvalidInput: a rule names a queue that does not exist.
        """
        outage = Outage(logged(log))
        owner_id = persist(self._register, self.stopping, outage)
        if owner_id is None:
            return 0
        store = self._app.store
        with ExitStack() as stack:
            stack.callback(self._unregister, owner_id)
            leases = stack.enter_context(RecoveryLeases(store, owner_id))
            stack.callback(leases.release)
            waiter = stack.enter_context(
                closing(MessageWaiter(store, self.stopping, PAUSES_SECONDS))
            )
            context = self._context(leases, owner_id, on_decision, outage, once)
            self._systemd.ready()
            stack.callback(self._systemd.stopping)
            while not self.stopping.is_set:
                context.on_step()
                try:
                    count = self._process_batches(context)
                    outage.end()
                    if count:
                        waiter.reset()
                    if not count and not self.stopping.is_set:
                        if once and leases.is_empty and not self._dead_workers.has_suspects:
                            break
                        self._wait(waiter)
                except PASSING as error:
                    outage.report(error)
                    self.stopping.wait(PAUSE_SECONDS)
        return leases.decided

    def _context(
        self,
        leases: RecoveryLeases,
        owner_id: int,
        on_decision: Callable[[RecoveryResult], None],
        outage: Outage,
        once: bool,
    ) -> RecoveryContext:
        systemd = self._systemd  # not self, which keeps contexts: its event would stay open
        return RecoveryContext(
            self._app.store,
            self.policies,
            leases,
            self._rate,
            self.stopping,
            owner_id,
            self._name,
            on_decision,
            outage,
            lambda: systemd.beat(f"{leases.decided} decided"),
            once,
        )

    def _register(self) -> int:
        """Open the store, check the policies against it, and register this process."""
        store = self._app.store
        self.policies.check(store)
        self._registered = self._dead_letter_queues(store)
        # A worker has no state until its application is imported. Here it is already.
        this = replace(this_process(self._name), queues=self._registered, state="idle")
        return store.require(Capability.FLEET).register(this).owner_id

    def _dead_letter_queues(self, store: Store) -> tuple[str, ...]:
        infos = {info.name: info for info in store.require(Capability.INSPECT).queues()}
        named = [
            infos[queue].dead_letter_queue if queue in infos else None
            for queue in self.policies.queues(store)
        ]
        return tuple(dict.fromkeys(filter(None, named)))

    def _unregister(self, owner_id: int) -> None:
        try:
            self._app.store.require(Capability.FLEET).unregister(owner_id)
        except PASSING as error:
            text = "this process stays listed until another one notices its end: %s"
            log.warning(text, describe(error))

    def _process_batches(self, context: RecoveryContext) -> int:
        """Process a batch of each queue; return the number of dead letters."""
        if time.monotonic() >= self._maintenance_due:
            self._maintenance_due = time.monotonic() + MAINTENANCE_SECONDS
            again = self._dead_workers.reclaim(context.store)
            if again is not None:
                self._maintenance_due = time.monotonic() + min(again, MAINTENANCE_SECONDS)
            self._open_consumers(context)
        count = 0
        for consumer in self._consumers.values():
            try:
                count += consumer.process_batch()
            except UnknownQueue as error:  # deleted; it may come back
                log.debug("%s", error)
        return count

    def _open_consumers(self, context: RecoveryContext) -> None:
        """Open a consumer for each new queue, and add the queues to this process's row."""
        new = [
            queue for queue in self.policies.queues(context.store) if queue not in self._consumers
        ]
        for queue in new:
            breaker = CircuitBreaker(
                context.store, queue, self._thresholds, self._clock, self._on_change
            )
            self._consumers[queue] = DeadLetterConsumer(context, queue, breaker)
        dead_letters = self._dead_letter_queues(context.store) if new else self._registered
        if dead_letters != self._registered:
            context.store.require(Capability.FLEET).beat(context.owner_id, queues=dead_letters)
            self._registered = dead_letters

    def _wait(self, waiter: MessageWaiter) -> None:
        """Wait until a batch may not be empty."""
        seconds = min(LONGEST_WAIT_SECONDS, max(0.0, self._maintenance_due - time.monotonic()))
        active = []
        for consumer in self._consumers.values():
            seconds = consumer.pause_seconds(seconds)
            if not consumer.source.is_private:
                seconds = min(seconds, LOOK_SECONDS)
            elif not consumer.is_paused():
                active.append(consumer.source.name)
        try:
            waiter.wait(active, seconds)
        except UnknownQueue:
            waiter.wait((), seconds)


def _snapshot(state: BreakerState) -> tuple[Phase, int, int]:
    return state.phase, state.since_ms, len(state.probes)
