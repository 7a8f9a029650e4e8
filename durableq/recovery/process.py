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
from dataclasses import replace
from typing import Final

from durableq.client.app import DurableQ
from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.errors import PASSING, UnknownQueue
from durableq.model.queues import dead_letter_name
from durableq.recovery.circuit_breaker import (
    DEFAULT_THRESHOLDS,
    BreakerChange,
    CircuitBreaker,
    Thresholds,
)
from durableq.recovery.consumer import (
    DeadLetterConsumer,
    RecoveryContext,
    RecoveryResult,
    SendRate,
)
from durableq.recovery.leases import RecoveryLeases
from durableq.recovery.policies import AppPolicies, Policies, RulePolicies
from durableq.recovery.rules import Rules
from durableq.runtime.clock import Clock, SystemClock
from durableq.runtime.outage import PAUSE_SECONDS, Outage, describe, logged, persist
from durableq.runtime.wakeup import MessageWaiter, WakeupEvent
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import CONFIRM_SECONDS, DeadWorkers, this_process

log = logging.getLogger("durableq.recovery")

#: Number of dead letters to read at a time for a plan.
PAGE_SIZE: Final = 100
#: Maximum wait without a wake-up, in case one was missed.
LONGEST_WAIT_SECONDS: Final = 1.0
#: First and longest pause after a wake-up without a dead letter: a write of another process.
PAUSES_SECONDS: Final = (0.005, 0.2)
#: Interval between two searches for new queues, and for processes that died.
MAINTENANCE_SECONDS: Final = 1.0


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
    ) -> None:
        self._app = app
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
            after: str | None = None
            while page := store.require(Capability.INSPECT).peek(
                dead_letter_name(queue), PAGE_SIZE, after
            ):
                after = page[-1].id
                for message in page:
                    dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
                    if dead_letter is not None and not message.held:
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
            context = RecoveryContext(
                store,
                self.policies,
                leases,
                self._rate,
                self.stopping,
                owner_id,
                self._name,
                on_decision,
                outage,
                once,
            )
            while not self.stopping.is_set:
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
        return sum(consumer.decided for consumer in self._consumers.values())

    def _register(self) -> int:
        """Open the store, check the policies against it, and register this process."""
        store = self._app.store
        self.policies.check(store)
        self._registered = self._dead_letter_queues(store)
        return (
            store.require(Capability.FLEET)
            .register(replace(this_process(self._name), queues=self._registered))
            .owner_id
        )

    def _dead_letter_queues(self, store: Store) -> tuple[str, ...]:
        return tuple(map(dead_letter_name, self.policies.queues(store)))

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
            if self._dead_workers.reclaim(context.store):
                self._maintenance_due = time.monotonic() + CONFIRM_SECONDS
            self._open_consumers(context)
        count = 0
        for consumer in self._consumers.values():
            try:
                count += consumer.process_batch()
            except UnknownQueue as error:  # deleted; it may come back
                log.info("%s", error)
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
            active += [] if consumer.is_paused() else [consumer.dead_letters]
        try:
            waiter.wait(active, seconds)
        except UnknownQueue:
            waiter.wait((), seconds)
