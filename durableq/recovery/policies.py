"""The sources of decisions: an application's functions, or a file of rules."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from durableq.client.failures import failure_of, message_of, text_of, type_name
from durableq.client.handlers import Policy
from durableq.model import codec
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import AppError, InvalidInput
from durableq.model.limits import MAX_DELAY_MS, MAX_ERROR_CHARS
from durableq.model.message import DeadLetter
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.model.text import shown, storable
from durableq.model.units import to_ms
from durableq.runtime.clock import Clock
from durableq.runtime.printable import VisibleStream
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from durableq.recovery.rules import Rule, Rules


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """A decision and its origin."""

    decision: Decision
    #: The rule with its line, or the name of the Python policy.
    by: str
    #: The rules before that one, and why each does not fit.
    passed_over: tuple[tuple[Rule, str], ...] = ()
    #: The rule that decides.
    rule: Rule | None = None


class Policies(Protocol):
    """Decides about the dead letters of some queues."""

    def queues(self, store: Store) -> tuple[str, ...]:
        """Return the existing source queues whose dead letters it decides about."""
        ...

    def check(self, store: Store) -> None:
        """Refuse policies for queues in which no message can die.

        Raises:
            InvalidInput: a named queue does not exist, or is a private dead-letter queue.
        """
        ...

    def decide(self, dead_letter: DeadLetter) -> PolicyDecision:
        """Return the decision about a dead letter. It raises no Exception."""
        ...


class AppPolicies:
    """An application's policies.

    Args:
        policies: the policies by source queue.
        queues: the queues to use; empty means all that have a policy.

    Raises:
        AppError: there is no policy, or none for a named queue.
    """

    def __init__(self, policies: Mapping[str, Policy], queues: tuple[str, ...] = ()) -> None:
        if not policies:
            raise AppError(
                "The application holds no recovery policy: decorate one with @dq.recovery(QUEUE), "
                "or name a file of rules with --policy."
            )
        for queue in queues:
            if queue not in policies:
                known = ", ".join(sorted(policies))
                raise AppError(f"No recovery policy for queue {shown(queue)}; there is: {known}.")
        self._policies = policies
        self._queues = queues or tuple(policies)

    def check(self, store: Store) -> None:
        """Refuse policies for private dead-letter queues; an application declares its queues.

        Raises:
            InvalidInput: there is such a policy.
        """
        queues = store.require(Capability.INSPECT).queues()
        private = {info.name for info in queues if info.dead_letter_queue is None}
        for queue in self._queues:
            if queue in private:
                source = queue.removesuffix(DEAD_LETTER_SUFFIX)
                raise InvalidInput(
                    f"A policy is for the queue whose messages died, {source!r}; {queue!r} is "
                    "where they wait."
                )

    def queues(self, store: Store) -> tuple[str, ...]:
        """Return the queues that have a policy."""
        there = set(_sources(store))
        return tuple(queue for queue in self._queues if queue in there)

    def decide(self, dead_letter: DeadLetter) -> PolicyDecision:
        """Return the decision of the queue's policy."""
        policy = self._policies.get(dead_letter.source_queue)
        if policy is None:
            return PolicyDecision(Hold("no policy for this queue"), "no policy")
        with redirect_stdout(VisibleStream(sys.stderr)):  # stdout is for the command's data
            decision = call_policy(policy, dead_letter)
        return PolicyDecision(
            decision, f"policy {text_of(lambda: _name(policy), 'without a name')}"
        )


class RulePolicies:
    """A file's rules.

    Args:
        rules: the rules.
        clock: the clock for the age of dead letters.
        queues: the queues to use; empty means all that the rules are for.

    Raises:
        InvalidInput: the rules are not for a named queue.
    """

    def __init__(self, rules: Rules, clock: Clock, queues: tuple[str, ...] = ()) -> None:
        for queue in queues:
            if rules.queues and queue not in rules.queues:
                known = ", ".join(rules.queues)
                raise InvalidInput(f"No rule is for queue {shown(queue)}; they are for: {known}.")
        self._rules = rules
        self._clock = clock
        self._queues = queues or rules.queues

    def check(self, store: Store) -> None:
        """Refuse rules that name queues that do not exist.

        Raises:
            InvalidInput: a rule, or the command line, names such a queue.
        """
        there = set(_sources(store))
        for rule in self._rules.rules:
            for queue in rule.when.queue:
                if queue not in there:
                    raise InvalidInput(
                        f"{self._rules.source}, line {rule.line}: rule[{rule.number}].when.queue: "
                        "it can never match: "
                        f"there is no queue {shown(queue)} in this database."
                    )
        for queue in self._queues:
            store.require(Capability.INSPECT).queue(queue)

    def queues(self, store: Store) -> tuple[str, ...]:
        """Return the queues that the rules name, or all if a rule names none."""
        return tuple(queue for queue in _sources(store) if queue in (self._queues or {queue}))

    def decide(self, dead_letter: DeadLetter) -> PolicyDecision:
        """Return the decision of the first rule that fits; without one, Hold."""
        try:
            passed_over = tuple(self._rules.passed_over(dead_letter, self._clock.wall_ms()))
        except TimeoutError as error:
            reason = f"the patterns of the rules are too slow for this dead letter: {error}"
            return PolicyDecision(Hold(reason), self._rules.source)
        if len(passed_over) == len(self._rules.rules):
            return PolicyDecision(
                Hold("no rule fits"), f"no rule of {self._rules.source}", passed_over
            )
        rule = self._rules.rules[len(passed_over)]
        decision = call_policy(rule.decision, dead_letter)
        return PolicyDecision(
            decision, f"{rule.location} of {self._rules.source}", passed_over, rule
        )


def _name(policy: Policy) -> str:
    module = getattr(policy, "__module__", "")
    name = getattr(policy, "__qualname__", type(policy).__qualname__)
    return f"{module}.{name}"


def _sources(store: Store) -> list[str]:
    return [
        info.name
        for info in store.require(Capability.INSPECT).queues()
        if info.dead_letter_queue is not None
    ]


def call_policy(policy: Policy, dead_letter: DeadLetter) -> Decision:
    """Return a policy's decision; Hold if it raises, or if its decision cannot be applied.

    A message that was recovered `max_recoveries` times is not sent back again, so that none
    bounces for ever; discarding it is still allowed.
    """
    try:
        decision: object = policy(dead_letter)
    except BaseException as error:  # a policy may raise CancelledError too
        if _is_ctrl_c(error):
            raise
        failure = failure_of(error)
        return _held(f"the policy raised {failure.error_type}: {failure.error_message}")
    kind = type(decision)  # its `__class__` may be another
    if not issubclass(kind, (Discard, Retry, Requeue, Hold)):
        return _held(f"the policy returned {type_name(kind)}, not a decision")
    if (
        issubclass(kind, (Retry, Requeue))
        and dead_letter.recovery_count >= dead_letter.max_recoveries
    ):
        return Hold(f"recovered {dead_letter.recovery_count} times already, without success")
    try:
        return _plain(decision)
    except BaseException as error:  # code of a subclass, or of a body
        if _is_ctrl_c(error):
            raise
        return _held(f"the policy's decision cannot be applied: {message_of(error)}")


def _held(reason: str) -> Hold:
    return Hold(storable(reason)[:MAX_ERROR_CHARS])


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether a KeyboardInterrupt may be a person's. `durableq recover` has its own handler."""
    by_signal = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return type(error) is KeyboardInterrupt and by_signal


def _plain(decision: Any) -> Decision:
    """Return a copy of a decision without any code of the user's in it.

    Raises:
        InvalidInput: it cannot be applied. A subclass may raise any other exception.
    """
    kind, reason = type(decision), decision.reason
    if not issubclass(type(reason), str) or str.__len__(reason) > MAX_ERROR_CHARS:
        raise InvalidInput(f"a reason is a string of at most {MAX_ERROR_CHARS} characters.")
    reason = str.__getitem__(reason, slice(None))
    reason.encode()
    if issubclass(kind, Discard):
        return Discard(reason)
    if issubclass(kind, Hold):
        return Hold(reason)
    delay_ms = to_ms(decision.delay, "The delay of a decision", MAX_DELAY_MS)
    delay = decision.delay if type(decision.delay) in {int, float} else delay_ms / 1000
    if issubclass(kind, Requeue):
        return Requeue(reason, delay)
    return Retry(codec.decode(codec.encode(decision.body)), reason, delay)
