"""Where verdicts come from: an application's functions, or a file of rules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Protocol

from durableq.client.failures import text_of
from durableq.client.handlers import Policy
from durableq.model.decisions import Decision, Hold
from durableq.model.errors import AppError, InvalidInput
from durableq.model.message import DeadLetter
from durableq.model.text import shown
from durableq.recovery.patterns import PatternTimeout
from durableq.recovery.policy import judge
from durableq.recovery.rules import DeadLetterFacts, Rule, Rules
from durableq.runtime.clock import Clock
from durableq.runtime.printable import VisibleStream
from durableq.store.core import Capability, Store


@dataclass(frozen=True, slots=True)
class Judgment:
    """A verdict, and whose it is."""

    decision: Decision
    by: str
    #: The rules that were asked before, and why each does not fire.
    passed_over: tuple[tuple[Rule, str], ...] = ()
    #: The one that fires.
    rule: Rule | None = None


class Policies(Protocol):
    """What decides about the letters of some queues."""

    def queues(self, monitor: Store) -> tuple[str, ...]:
        """The source queues whose letters it decides about, as far as they are there now."""
        ...

    def check(self, monitor: Store) -> None:
        """Refuse what can decide about nothing in this database.

        Raises:
            InvalidInput: a queue is named that is not there.
        """
        ...

    def judge(self, dead_letter: DeadLetter) -> Judgment:
        """What becomes of a letter. It raises nothing."""
        ...


class AppPolicies:
    """An application's policies.

    Args:
        policies: by source queue.
        queues: only these; empty means all that have a policy.

    Raises:
        AppError: there is no policy, or none for a queue that was named.
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

    def check(self, monitor: Store) -> None:
        """Do nothing: opening the application has made its queues."""

    def queues(self, monitor: Store) -> tuple[str, ...]:
        """Return the queues that have a policy."""
        there = set(_sources(monitor))
        return tuple(queue for queue in self._queues if queue in there)

    def judge(self, dead_letter: DeadLetter) -> Judgment:
        """Return the policy's verdict, within limits."""
        policy = self._policies.get(dead_letter.source_queue)
        if policy is None:
            return Judgment(Hold("no policy for this queue"), "no policy")
        with redirect_stdout(VisibleStream(sys.stderr)):  # stdout is the command's data
            decision = judge(dead_letter, policy)
        return Judgment(decision, f"policy {text_of(lambda: _name(policy), 'without a name')}")


class RulePolicies:
    """A file's rules.

    Args:
        rules: what was read.
        clock: tells how old a letter is.
        queues: only these; empty means all the rules are for.

    Raises:
        InvalidInput: the rules are not for a queue that was named.
    """

    def __init__(self, rules: Rules, clock: Clock, queues: tuple[str, ...] = ()) -> None:
        for queue in queues:
            if rules.queues and queue not in rules.queues:
                known = ", ".join(rules.queues)
                raise InvalidInput(f"No rule is for queue {shown(queue)}; they are for: {known}.")
        self._rules = rules
        self._clock = clock
        self._queues = queues or rules.queues

    def check(self, monitor: Store) -> None:
        """Refuse rules for queues that are not there: they would never match.

        Raises:
            InvalidInput: one names such a queue.
        """
        there = set(_sources(monitor))
        for rule in self._rules.rules:
            for queue in rule.queues:
                if queue not in there:
                    raise InvalidInput(
                        f"{self._rules.source}, line {rule.line}: {rule.label} can never match: "
                        f"there is no queue {shown(queue)} in this database."
                    )
        for queue in self._queues:
            monitor.require(Capability.INSPECT).queue(queue)

    def queues(self, monitor: Store) -> tuple[str, ...]:
        """Return the queues that rules name, or all if one names none."""
        return tuple(queue for queue in _sources(monitor) if queue in (self._queues or {queue}))

    def judge(self, dead_letter: DeadLetter) -> Judgment:
        """Return the verdict of the first rule that fits; without one, Hold."""
        facts = DeadLetterFacts(dead_letter, self._clock.wall_ms())
        try:
            passed_over = tuple(self._rules.passed_over(facts))
        except PatternTimeout as error:
            reason = f"the patterns of the rules are too slow for this dead letter: {error}"
            return Judgment(Hold(reason), self._rules.source)
        if len(passed_over) == len(self._rules.rules):
            return Judgment(Hold("no rule fits"), f"no rule of {self._rules.source}", passed_over)
        rule = self._rules.rules[len(passed_over)]
        decision = judge(dead_letter, rule.decision)
        return Judgment(decision, f"{rule.location} of {self._rules.source}", passed_over, rule)


def _name(policy: Policy) -> str:
    module = getattr(policy, "__module__", "")
    name = getattr(policy, "__qualname__", type(policy).__qualname__)
    return f"{module}.{name}"


def _sources(monitor: Store) -> list[str]:
    return [
        info.name
        for info in monitor.require(Capability.INSPECT).queues()
        if info.dead_letter_queue is not None
    ]
