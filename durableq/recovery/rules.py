"""Recovery rules: the conditions on a dead letter, and the decision if all of them hold. Pure."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Protocol

from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import InvalidBody
from durableq.model.message import DeadLetter, Event, HistoryEvent
from durableq.model.states import Reason
from durableq.model.units import span
from durableq.recovery.circuit_breaker import DEFAULT_THRESHOLDS, Thresholds
from durableq.recovery.patch import (
    MISSING,
    NO_PATCH,
    CannotPatch,
    FieldPath,
    Patch,
    field,
    same,
    written,
)
from durableq.recovery.patterns import Pattern, TimeLimit

#: Maximum length of a dead letter's own text in the sentence why a rule does not fit it.
MAX_QUOTED_CHARS: Final = 80
#: Reasons for which a message dies without an error that has a type.
_WITHOUT_ERROR_TYPE: Final = {
    Reason.TIMEOUT,
    Reason.LEASE_EXPIRED,
    Reason.IDEMPOTENCY_CONFLICT,
}


class Action(StrEnum):
    """The action of a rule."""

    DISCARD = "discard"
    RETRY = "retry"
    REQUEUE = "requeue"
    HOLD = "hold"

    @property
    def sends_back(self) -> bool:
        """Whether the message returns to its queue."""
        return self in {Action.RETRY, Action.REQUEUE}


class DeadLetterFacts:
    """The facts about a dead letter that rules compare, at one moment."""

    def __init__(self, dead_letter: DeadLetter, now_ms: int) -> None:
        self.dead_letter = dead_letter
        #: Since it was sent: recovery decides about a message as it dies.
        self.age_ms = max(0, now_ms - dead_letter.message.sent_at_ms)
        #: For all patterns of the file together.
        self.matching = TimeLimit()

    @cached_property
    def body(self) -> Any:
        """The body; MISSING if it cannot be read."""
        try:
            return self.dead_letter.body
        except InvalidBody:
            return MISSING

    @property
    def last_error(self) -> HistoryEvent | None:
        """The failure that exceeded the limit."""
        burial = self.dead_letter.burial
        return (
            burial if burial is not None and burial.error_message else self.dead_letter.last_failure
        )

    def text(self, name: str) -> str:
        """Return the text that a condition of this name compares."""
        error = self.last_error
        match name:
            case "queue":
                return self.dead_letter.source_queue
            case "reason":
                return self.dead_letter.reason.value
            case "fingerprint":
                return self.dead_letter.fingerprint
            case "error_type":
                return error.error_type if error is not None else ""
        return error.error_message if error is not None else ""

    def number(self, name: str) -> int:
        """Return the number that a range of this name compares."""
        return self.age_ms if name == "age" else self.dead_letter.recovery_count


class Condition(Protocol):
    """A condition of a rule."""

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does.

        Raises:
            PatternTimeout: the patterns took too long for this dead letter.
        """
        ...

    def covers(self, other: Condition) -> bool:
        """Return whether every dead letter that fits the other surely fits this one."""
        ...


@dataclass(frozen=True, slots=True)
class OneOf:
    """A text equals one of the values."""

    name: str
    values: tuple[str, ...]

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does."""
        text = facts.text(self.name)
        if text in self.values:
            return None
        name = self.name.replace("_", " ")
        return f"its {name} is {_quoted(text)}, not {' or '.join(self.values)}"

    def covers(self, other: Condition) -> bool:
        """Return whether the other has the same name and a subset of the values."""
        return (
            isinstance(other, OneOf)
            and other.name == self.name
            and set(other.values) <= set(self.values)
        )


@dataclass(frozen=True, slots=True)
class MessageMatches:
    """The pattern is found in the error message."""

    pattern: Pattern

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does."""
        text = facts.text("message")
        if facts.matching.search(self.pattern, text):
            return None
        return f"its message {_quoted(text)} does not match {self.pattern.text}"

    def covers(self, other: Condition) -> bool:
        """Return whether it is the same pattern."""
        return self == other


@dataclass(frozen=True, slots=True)
class InRange:
    """A number is at least `least`, and less than `below`."""

    name: str
    least: int = 0
    below: float = math.inf

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does."""
        number = facts.number(self.name)
        if self.least <= number < self.below:
            return None
        word = "under" if number < self.least else "not under"
        bound = self.least if number < self.least else int(self.below)
        if self.name == "age":
            return f"it was sent {span(number)} ago, {word} {span(bound)}"
        return f"it was recovered {number} times, {word} {bound}"

    def covers(self, other: Condition) -> bool:
        """Return whether its range contains the other's."""
        return (
            isinstance(other, InRange)
            and other.name == self.name
            and self.least <= other.least
            and other.below <= self.below
        )


@dataclass(frozen=True, slots=True)
class FieldEquals:
    """A field of the body has this value."""

    path: FieldPath
    value: Any

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does."""
        found = field(facts.body, self.path)
        if same(found, self.value):
            return None
        return _differs(self.path, found, json.dumps(self.value))

    def covers(self, other: Condition) -> bool:
        """Return whether the other compares the same field with the same value."""
        # Not by ==, to which true, 1 and 1.0 are equal.
        return (
            isinstance(other, FieldEquals)
            and other.path == self.path
            and same(other.value, self.value)
        )


@dataclass(frozen=True, slots=True)
class FieldMatches:
    """The pattern is found in a field of the body: a string, or a number as JSON writes it."""

    path: FieldPath
    pattern: Pattern

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why a dead letter does not fit; None if it does."""
        found = field(facts.body, self.path)
        text = _text(found)
        if text is not None and facts.matching.search(self.pattern, text):
            return None
        return _differs(self.path, found, self.pattern.text)

    def covers(self, other: Condition) -> bool:
        """Return whether every value that fits the other contains this pattern."""
        if isinstance(other, FieldEquals):
            return other.path == self.path and self.fits(other.value, default=False)
        return self == other

    def fits(self, value: Any, *, default: bool) -> bool:
        """Return whether a value of the rules file fits; `default` if that takes too long."""
        text = _text(value)
        return text is not None and self.pattern.found_in(text, default=default)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a file."""

    number: int
    line: int
    conditions: tuple[Condition, ...]
    action: Action
    name: str = ""
    reason: str = ""
    patch: Patch = NO_PATCH
    delay: float = 0
    #: Maximum number of times that it sends one message back.
    limit: int | None = None

    @property
    def label(self) -> str:
        """Its name in stored reasons: they outlive its number."""
        return f'rule "{self.name}"' if self.name else f"rule {self.number}"

    @property
    def location(self) -> str:
        """Its label and line, for a reader of the file."""
        return f"{self.label} (line {self.line})"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it names; empty if it is for all."""
        named = (c.values for c in self.conditions if isinstance(c, OneOf) and c.name == "queue")
        return next(named, ())

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why it does not decide about a dead letter; None if it does.

        Raises:
            PatternTimeout: the patterns took too long for this dead letter.
        """
        for condition in self.conditions:
            if (why := condition.mismatch(facts)) is not None:
                return why
        if self.limit is not None and (sent := self._times_sent(facts.dead_letter)) >= self.limit:
            return f"it sent this message back {sent} times already, and its limit is {self.limit}"
        return None

    def decision(self, dead_letter: DeadLetter) -> Decision:
        """Return the decision about a dead letter that fits."""
        reason = f"{self.label}: {self.reason}" if self.reason else self.label
        match self.action:
            case Action.DISCARD:
                return Discard(reason)
            case Action.HOLD:
                return Hold(reason)
            case Action.REQUEUE:
                return Requeue(reason, self.delay)
        try:
            return Retry(self.patch.apply(dead_letter.body), reason, self.delay)
        except (CannotPatch, InvalidBody) as error:
            return Hold(f"{self.label}: its patch cannot be applied: {error}")

    def shadows(self, later: Rule) -> bool:
        """Return whether no dead letter reaches the later rule: this one takes all that fit it."""
        return self.limit is None and all(
            any(mine.covers(other) for other in later.conditions) for mine in self.conditions
        )

    def _times_sent(self, dead_letter: DeadLetter) -> int:
        """Return how often it sent this message back, according to the history."""
        return sum(
            event.event in {Event.RETRIED, Event.REQUEUED}
            and event.actor.startswith(RECOVERY_ACTOR)
            and (event.reason == self.label or event.reason.startswith(f"{self.label}: "))
            for event in dead_letter.history
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """A file of rules: the first that fits decides, and without one a dead letter is held."""

    #: The name of the file.
    source: str
    rules: tuple[Rule, ...]
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues they are for; empty means all, because one rule names none."""
        if not all(rule.queues for rule in self.rules):
            return ()
        return tuple(dict.fromkeys(queue for rule in self.rules for queue in rule.queues))

    def passed_over(self, facts: DeadLetterFacts) -> Iterable[tuple[Rule, str]]:
        """Yield the rules before the one that decides, and why each does not fit.

        Raises:
            PatternTimeout: the patterns took too long for this dead letter.
        """
        for rule in self.rules:
            why = rule.mismatch(facts)
            if why is None:
                return
            yield rule, why


def contradiction(rule: Rule) -> str | None:
    """Return why no dead letter can fit a rule's conditions; None if one may."""
    for condition in rule.conditions:
        if isinstance(condition, InRange) and condition.least >= condition.below:
            return f"no {condition.name} is both in and under its range"
    for one, other in itertools.permutations(rule.conditions, 2):
        if isinstance(one, FieldEquals) and _excludes(one, other):
            return f"its conditions on the field {written(one.path)} cannot all be true"
    texts = {c.name: c.values for c in rule.conditions if isinstance(c, OneOf)}
    reasons = {Reason(value) for value in texts.get("reason", ())}
    if reasons == {Reason.EXPIRED}:
        return "an expired message is removed, and is no dead letter"
    if reasons and "error_type" in texts and reasons <= _WITHOUT_ERROR_TYPE:
        return f"a message that dies of {' or '.join(sorted(reasons))} has no error type"
    return None


def _excludes(one: FieldEquals, other: Condition) -> bool:
    """Return whether a field's value contradicts a condition on it, or on a field within it."""
    if not isinstance(other, (FieldEquals, FieldMatches)):
        return False
    if other.path[: len(one.path)] != one.path:
        return False
    inner = field(one.value, other.path[len(one.path) :])
    if isinstance(other, FieldEquals):
        return not same(inner, other.value)
    return not other.fits(inner, default=True)


def _text(value: Any) -> str | None:
    """Return the text that patterns are tried on: a string, or a number or boolean as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (int, float)) else None


def _quoted(value: Any) -> str:
    """Return a value as JSON, shortened."""
    if isinstance(value, str) and len(value) > MAX_QUOTED_CHARS:
        value = value[: MAX_QUOTED_CHARS - 1] + "…"
    return json.dumps(value, ensure_ascii=False)


def _differs(path: FieldPath, found: Any, wanted: str) -> str:
    if found is MISSING:
        return f"its body has no field {written(path)}"
    if isinstance(found, bytes):
        return "its body is bytes"
    shown = json.dumps(found, ensure_ascii=False)
    shown = shown if len(shown) <= MAX_QUOTED_CHARS else shown[: MAX_QUOTED_CHARS - 1] + "…"
    return f"{written(path)} in its body is {shown}, not {wanted}"
