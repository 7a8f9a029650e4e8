"""The process that applies verdicts: receive a letter under a lease, decide, in one transaction.

Several of them are safe side by side: a letter is leased by one at a time, and a verdict is
fenced by the receipt.
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
from durableq.recovery.breaker_state import Change, CircuitBreaker
from durableq.recovery.circuit_breaker import DEFAULT_THRESHOLDS, Thresholds
from durableq.recovery.consumer import DeadLetterConsumer, RecoveryContext, RecoveryDecision
from durableq.recovery.leases import Leases
from durableq.recovery.policies import AppPolicies, Policies, RulePolicies
from durableq.recovery.rate import Rate
from durableq.recovery.rules import Rules
from durableq.runtime.clock import Clock, SystemClock
from durableq.runtime.outage import PAUSE_SECONDS, Outage, condition, logged, persist
from durableq.runtime.wakeup import MessageWaiter, WakeupEvent
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import CONFIRM_SECONDS, DeadWorkers, this_process

log = logging.getLogger("durableq.recovery")

__all__ = ["RecoveryDecision", "Recovery"]

PAGE: Final = 100
#: Without any sign the file is looked at this often, in case a sign was missed.
LONGEST_WAIT_SECONDS: Final = 1.0
#: First and longest pause after a sign that brought nothing: somebody else's write.
PAUSES_SECONDS: Final = (0.005, 0.2)
#: How often queues are looked for, and processes that have died.
UPKEEP_SECONDS: Final = 1.0


class Recovery:
    """Recovers the dead letters of an application's queues, or of those that rules name.

    Args:
        app: the application with the policies; with rules, only its file is used.
        queues: which source queues; empty means all that there are verdicts for.
        rules: a file's rules, instead of the application's policies.
        rate: verdicts a second that send a letter back; None means as many as there are.
        thresholds: of the breaker; None means the rules' own.
        on_change: told when a breaker opens, probes or closes.
        clock: for tests.

    Raises:
        AppError: there is no policy, or none for a queue that was named.
        InvalidInput: no rule is for a queue that was named, or the rate is none.
    """

    def __init__(
        self,
        app: DurableQ,
        *,
        queues: tuple[str, ...] = (),
        rules: Rules | None = None,
        rate: float | None = None,
        thresholds: Thresholds | None = None,
        on_change: Callable[[Change], None] = lambda _: None,
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
        self._rate = Rate(rate)
        self._on_change = on_change
        self._name = f"{RECOVERY_ACTOR}{os.getpid()}"
        self._consumers: dict[str, DeadLetterConsumer] = {}
        self._told: tuple[str, ...] = ()
        """The dead-letter queues that this process has registered."""
        self._upkeep_due = 0.0
        self._dead_workers = DeadWorkers()
        self.stopping = WakeupEvent()
        """Set it, from a signal handler too, to finish the letter in hand and stop."""

    def plan(self, monitor: Store) -> Iterator[RecoveryDecision]:
        """Return what would be decided now. Nothing is leased, nothing is written.

        Args:
            monitor: where to look; the application's own store would make its missing queues.

        Raises:
            InvalidInput: a rule names a queue that is not there.
        """
        self.policies.check(monitor)
        for queue in self.policies.queues(monitor):
            after: str | None = None
            while page := monitor.require(Capability.INSPECT).peek(
                dead_letter_name(queue), PAGE, after
            ):
                after = page[-1].id
                for message in page:
                    dead_letter = monitor.require(Capability.DEAD_LETTERS).dead_letter(message.id)
                    if dead_letter is not None and not message.held:
                        judgment = self.policies.judge(dead_letter)
                        yield RecoveryDecision(dead_letter, judgment.decision, None, judgment.by)

    def run(self, *, once: bool, on_decision: Callable[[RecoveryDecision], None]) -> int:
        """Decide about dead letters until told to stop; return how many were decided.

        Args:
            once: stop when no letter is ready that may be decided about now, nor may come back from
                a process that has just died.
            on_decision: called after each verdict was committed, or refused.

        Raises:
            InvalidInput: a rule names a queue that is not there.
        """
        outage = Outage(logged(log))
        owner_id = persist(self._register, self.stopping, outage)
        if owner_id is None:
            return 0
        store = self._app.store
        with ExitStack() as stack:
            stack.callback(self._unregister, owner_id)
            leases = stack.enter_context(Leases(store, owner_id))
            stack.callback(leases.give_back)
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
                    seen = self._round(context)
                    outage.over()
                    if seen:
                        waiter.reset()
                    if not seen and not self.stopping.is_set:
                        if once and leases.are_empty and not self._dead_workers.has_suspects:
                            break
                        self._wait(waiter)
                except PASSING as error:
                    outage.note(error)
                    self.stopping.wait(PAUSE_SECONDS)
        return sum(consumer.decided for consumer in self._consumers.values())

    def _register(self) -> int:
        """Open the file, check the policies against it, and enter this process."""
        store = self._app.store
        self.policies.check(store)
        self._told = self._dead_letter_queues(store)
        return (
            store.require(Capability.FLEET)
            .register(replace(this_process(self._name), queues=self._told))
            .owner_id
        )

    def _dead_letter_queues(self, store: Store) -> tuple[str, ...]:
        return tuple(map(dead_letter_name, self.policies.queues(store)))

    def _unregister(self, owner_id: int) -> None:
        try:
            self._app.store.require(Capability.FLEET).unregister(owner_id)
        except PASSING as error:
            text = "this process stays listed until another one notices its end: %s"
            log.warning(text, condition(error))

    def _round(self, context: RecoveryContext) -> int:
        """Give each queue a turn; return how many letters were looked at."""
        if time.monotonic() >= self._upkeep_due:
            self._upkeep_due = time.monotonic() + UPKEEP_SECONDS
            if self._dead_workers.reclaim(context.store):
                self._upkeep_due = time.monotonic() + CONFIRM_SECONDS
            self._open_consumers(context)
        seen = 0
        for consumer in self._consumers.values():
            try:
                seen += consumer.turn()
            except UnknownQueue as error:  # deleted; it may come back
                log.info("%s", error)
        return seen

    def _open_consumers(self, context: RecoveryContext) -> None:
        """Begin with the queues that have come, and tell the file of them."""
        new = [
            queue for queue in self.policies.queues(context.store) if queue not in self._consumers
        ]
        for queue in new:
            breaker = CircuitBreaker(
                context.store, queue, self._thresholds, self._clock, self._on_change
            )
            self._consumers[queue] = DeadLetterConsumer(context, queue, breaker)
        dead_letters = self._dead_letter_queues(context.store) if new else self._told
        if dead_letters != self._told:
            context.store.require(Capability.FLEET).beat(context.owner_id, queues=dead_letters)
            self._told = dead_letters

    def _wait(self, waiter: MessageWaiter) -> None:
        """Wait until a turn may bring something."""
        seconds = min(LONGEST_WAIT_SECONDS, max(0.0, self._upkeep_due - time.monotonic()))
        awake = []
        for consumer in self._consumers.values():
            seconds = consumer.rest_seconds(seconds)
            awake += [] if consumer.rests() else [consumer.dead_letters]
        try:
            waiter.wait(awake, seconds)
        except UnknownQueue:
            waiter.wait((), seconds)
