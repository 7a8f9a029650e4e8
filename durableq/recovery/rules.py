"""Recovery rules: the tables of a rules file as pydantic models, and their meaning.

The first rule whose conditions all hold decides about a dead letter.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import InvalidBody
from durableq.model.message import DeadLetter, Event, Reason
from durableq.model.units import span
from durableq.recovery import rule_values as values
from durableq.recovery.circuit_breaker import DEFAULT_THRESHOLDS, Thresholds
from durableq.recovery.rule_values import MISSING, FieldPath, Pattern, field, same, written

#: Maximum length of a dead letter's own text in the sentence why a rule does not fit it.
MAX_QUOTED_CHARS: Final = 80
#: Reasons for which a message dies without an error that has a type.
_WITHOUT_ERROR_TYPE: Final = {
    Reason.TIMEOUT,
    Reason.LEASE_EXPIRED,
    Reason.MESSAGE_EXPIRED,
    Reason.IDEMPOTENCY_CONFLICT,
}
#: The conditions that compare a text with some values.
_TEXTS: Final = ("queue", "reason", "error_type", "fingerprint")


class Action(StrEnum):
    """The action of a rule."""

    DISCARD = "discard"
    RETRY = "retry"
    REQUEUE = "requeue"
    HOLD = "hold"


class DeadLetterFacts:
    """The facts about a dead letter that rules compare, at one moment."""

    def __init__(self, dead_letter: DeadLetter, now_ms: int) -> None:
        self.dead_letter = dead_letter
        burial = dead_letter.burial
        exceeded = burial is not None and burial.error_message
        error = burial if exceeded else dead_letter.last_failure
        #: By the name of the condition. The error is the failure that exceeded the limit.
        self.texts = {
            "queue": dead_letter.source_queue,
            "reason": dead_letter.reason.value,
            "error_type": error.error_type if error is not None else "",
            "fingerprint": dead_letter.fingerprint,
        }
        self.message = error.error_message if error is not None else ""
        #: By the name of the range. The age counts from the send: a message that has just died is
        #: not new.
        self.numbers = {
            "age": max(0, now_ms - dead_letter.message.sent_at_ms),
            "recoveries": dead_letter.recovery_count,
        }
        #: For all patterns of the file together.
        self.matching = values.TimeLimit()

    @cached_property
    def body(self) -> Any:
        """The body; MISSING if it cannot be read."""
        try:
            return self.dead_letter.body
        except InvalidBody:
            return MISSING


class Table(BaseModel):
    """A table of a rules file: no other fields, and no conversions of their values."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class When(Table):
    """`[rule.when]`: the conditions of a rule, all of which must hold."""

    queue: values.Queues = Field(default=(), description="The queue in which the message died.")
    reason: values.Reasons = Field(default=(), description="The reason for which it died.")
    error_type: values.Strings = Field(default=(), description="The type of its last error.")
    fingerprint: values.Strings = Field(
        default=(),
        description="The fingerprint of its last error, as `durableq dlq groups` shows it.",
    )
    message: values.Regex | None = Field(
        default=None, description="A regular expression that is found in the error's message."
    )
    body: values.Compared = Field(default=(), description="Fields of the body and their values.")
    body_matches: values.Matched = Field(
        default=(), description="Fields of the body and regular expressions that are found in them."
    )
    older_than: values.Seconds | None = Field(
        default=None, description="Seconds since it was sent, or more."
    )
    younger_than: values.Seconds | None = Field(
        default=None, description="Fewer seconds than this since it was sent."
    )
    recoveries_at_least: values.Recoveries | None = Field(
        default=None, description="Times that it was sent back, or more."
    )
    recoveries_below: values.Recoveries | None = Field(
        default=None, description="Fewer times than this that it was sent back."
    )

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The bounds of each number, in ms or times: at least the first, below the second."""
        return {
            "age": _bounds(self.older_than, self.younger_than, 1000),
            "recoveries": _bounds(self.recoveries_at_least, self.recoveries_below, 1),
        }

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return the first condition that does not hold, as a phrase; None if all hold.

        Raises:
            TimeoutError: the patterns took too long for this dead letter.
        """
        for name in _TEXTS:
            wanted, has = getattr(self, name), facts.texts[name]
            if wanted and has not in wanted:
                return f"its {name.replace('_', ' ')} is {_quoted(has)}, not {' or '.join(wanted)}"
        pattern = self.message
        if pattern is not None and not facts.matching.search(pattern, facts.message):
            return f"its message {_quoted(facts.message)} does not match {pattern.text}"
        for path, value in self.body:
            if not same(found := field(facts.body, path), value):
                return _differs(path, found, json.dumps(value))
        for path, pattern in self.body_matches:
            text = values.text_of_value(found := field(facts.body, path))
            if text is None or not facts.matching.search(pattern, text):
                return _differs(path, found, pattern.text)
        for name, (least, below) in self.ranges.items():
            if not least <= (number := facts.numbers[name]) < below:
                return _outside(name, number, least, below)
        return None

    def covers(self, other: When) -> bool:
        """Return whether every dead letter that fits the other conditions surely fits these."""
        texts = ((getattr(self, name), getattr(other, name)) for name in _TEXTS)
        ranges = ((bounds, other.ranges[name]) for name, bounds in self.ranges.items())
        return (
            all(not mine or (theirs and {*theirs} <= {*mine}) for mine, theirs in texts)
            and (self.message is None or self.message == other.message)
            and all(
                any(path == at and same(value, given) for at, given in other.body)
                for path, value in self.body
            )
            and all(
                (path, pattern) in other.body_matches
                or any(path == at and pattern.fits(v, if_too_slow=False) for at, v in other.body)
                for path, pattern in self.body_matches
            )
            and all(mine[0] <= theirs[0] and theirs[1] <= mine[1] for mine, theirs in ranges)
        )

    def contradiction(self) -> str | None:
        """Return why no dead letter can fit these conditions; None if one may."""
        for name, (least, below) in self.ranges.items():
            if max(least, 0) >= below:
                return f"no {name} is both in and under its range"
        for path, value in self.body:
            for at, given in itertools.chain(self.body, self.body_matches):
                if at[: len(path)] == path and not _may_be(field(value, at[len(path) :]), given):
                    return f"its conditions on the field {written(path)} cannot all be true"
        reasons = set(map(Reason, self.reason))
        if reasons == {Reason.EXPIRED}:
            return "an expired message is removed, and is no dead letter (message_expired is one)"
        if reasons and self.error_type and reasons <= _WITHOUT_ERROR_TYPE:
            return f"a message that dies of {' or '.join(sorted(reasons))} has no error type"
        return None


CHANGES: Final = ("set", "remove")
SENDING: Final = ("delay", "limit")
SENDS_BACK: Final = (Action.RETRY, Action.REQUEUE)


def _any_of(names: Iterable[str]) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


def _then(*actions: Action) -> dict[str, Any]:
    return {"properties": {"then": {"enum": [action.value for action in actions]}}}


class Rule(Table):
    """`[[rule]]`: the first rule that fits a dead letter decides about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": _then(Action.RETRY),
                    "then": _any_of(CHANGES),
                    "else": {"not": _any_of(CHANGES)},
                },
                {"if": {"not": _then(*SENDS_BACK)}, "then": {"not": _any_of(SENDING)}},
            ]
        }
    )

    name: values.Name = Field(default="", description="The rule's name in histories and output.")
    when: When = Field(default_factory=When, description="Conditions, all of which must hold.")
    then: Annotated[Action, Field(strict=False)] = Field(description="The action.")
    set: values.Values = Field(
        default=(), description="retry: fields of the body and their new values."
    )
    remove: values.Removed = Field(
        default=(), description="retry: fields to remove from the body before others are set."
    )
    delay: values.Delay = Field(
        default=0, description="retry, requeue: seconds before the message is ready."
    )
    limit: values.Limit | None = Field(
        default=None, description="retry, requeue: maximum number of times for one message."
    )
    reason: values.ReasonText = Field(default="", description="A text for the message's history.")
    _number: int = PrivateAttr(1)
    _line: int = PrivateAttr(1)

    def place(self, number: int, line: int) -> None:
        """Set the rule's number and line in its file."""
        self._number, self._line = number, line

    @property
    def number(self) -> int:
        """Its number in the file, from 1."""
        return self._number

    @property
    def line(self) -> int:
        """The line in which it begins."""
        return self._line

    @property
    def label(self) -> str:
        """Its name in stored reasons: they outlive its number."""
        return f'rule "{self.name}"' if self.name else f"rule {self.number}"

    @property
    def location(self) -> str:
        """Its label and line, for a reader of the file."""
        return f"{self.label} (line {self.line})"

    def mismatch(self, facts: DeadLetterFacts) -> str | None:
        """Return why it does not decide about a dead letter, as a phrase; None if it does.

        Raises:
            TimeoutError: the patterns took too long for this dead letter.
        """
        if (why := self.when.mismatch(facts)) is not None or self.limit is None:
            return why
        sent = self._times_sent(facts.dead_letter)
        if sent < self.limit:
            return None
        return f"it sent this message back {sent} times already, and its limit is {self.limit}"

    def decision(self, dead_letter: DeadLetter) -> Decision:
        """Return the decision about a dead letter that fits."""
        reason = f"{self.label}: {self.reason}" if self.reason else self.label
        match self.then:
            case Action.DISCARD:
                return Discard(reason)
            case Action.HOLD:
                return Hold(reason)
            case Action.REQUEUE:
                return Requeue(reason, self.delay)
        try:
            return Retry(
                values.patched(dead_letter.body, self.set, self.remove), reason, self.delay
            )
        except (values.CannotPatch, InvalidBody) as error:
            return Hold(f"{self.label}: its patch cannot be applied: {error}")

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
        if not all(rule.when.queue for rule in self.rules):
            return ()
        return tuple(dict.fromkeys(queue for rule in self.rules for queue in rule.when.queue))

    def passed_over(self, dead_letter: DeadLetter, now_ms: int) -> Iterator[tuple[Rule, str]]:
        """Yield the rules before the one that decides, and why each does not fit.

        Raises:
            TimeoutError: the patterns took too long for this dead letter.
        """
        facts = DeadLetterFacts(dead_letter, now_ms)
        for rule in self.rules:
            why = rule.mismatch(facts)
            if why is None:
                return
            yield rule, why


# ---- phrases


def _bounds(least: float | None, below: float | None, factor: int) -> tuple[float, float]:
    return (
        -math.inf if least is None else round(least * factor),
        math.inf if below is None else round(below * factor),
    )


def _may_be(inner: Any, given: Any) -> bool:
    """Return whether a field with this value may also be as another condition has it."""
    return given.fits(inner, if_too_slow=True) if isinstance(given, Pattern) else same(inner, given)


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
    text = json.dumps(found, ensure_ascii=False)
    text = text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 1] + "…"
    return f"{written(path)} in its body is {text}, not {wanted}"


def _outside(name: str, number: int, least: float, below: float) -> str:
    word, bound = ("under", least) if number < least else ("not under", below)
    if name == "age":
        return f"it was sent {span(number)} ago, {word} {span(int(bound))}"
    return f"it was recovered {number} times, {word} {int(bound)}"
