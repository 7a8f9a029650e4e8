"""Recovery rules: what each asks of a dead letter, and what it makes of one that fits. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Protocol

from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import InvalidBody
from durableq.model.message import DeadLetter, Event, HistoryEvent
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
from durableq.recovery.regex_timeout import surely

#: Of a letter's own text, in the sentence that says why a rule does not fit it.
SHOWN_CHARS: Final = 80


class Action(StrEnum):
    """What a rule can do."""

    DISCARD = "discard"
    RETRY = "retry"
    REQUEUE = "requeue"
    HOLD = "hold"

    @property
    def sends_back(self) -> bool:
        """Whether the letter returns to its queue."""
        return self in {Action.RETRY, Action.REQUEUE}


class Case:
    """A dead letter as rules look at it, at one moment."""

    def __init__(self, dead_letter: DeadLetter, now_ms: int) -> None:
        self.dead_letter = dead_letter
        self.age_ms = max(0, now_ms - dead_letter.message.sent_at_ms)
        """Since it was sent: a letter is decided about as it dies."""

    @cached_property
    def body(self) -> Any:
        """The body; MISSING if it cannot be read."""
        try:
            return self.dead_letter.body
        except InvalidBody:
            return MISSING

    @property
    def killer(self) -> HistoryEvent | None:
        """The failure that was one too many."""
        burial = self.dead_letter.burial
        return (
            burial if burial is not None and burial.error_message else self.dead_letter.last_failure
        )

    def text(self, name: str) -> str:
        """Return what a condition named so compares."""
        killer = self.killer
        match name:
            case "queue":
                return self.dead_letter.source_queue
            case "reason":
                return self.dead_letter.reason.value
            case "fingerprint":
                return self.dead_letter.fingerprint
            case "error_type":
                return killer.error_type if killer is not None else ""
        return killer.error_message if killer is not None else ""

    def number(self, name: str) -> int:
        """Return what a range named so compares."""
        return self.age_ms if name == "age" else self.dead_letter.recovery_count


class Condition(Protocol):
    """One thing a rule asks."""

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit; None if it does."""
        ...

    def covers(self, other: Condition) -> bool:
        """Return whether every letter that fits the other surely fits this one."""
        ...


@dataclass(frozen=True, slots=True)
class OneOf:
    """A text is one of some."""

    name: str
    values: tuple[str, ...]

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit."""
        text = case.text(self.name)
        if text in self.values:
            return None
        return f"its {_said(self.name)} is {_quoted(text)}, not {' or '.join(self.values)}"

    def covers(self, other: Condition) -> bool:
        """Return whether it asks no more than the other."""
        return (
            isinstance(other, OneOf)
            and other.name == self.name
            and set(other.values) <= set(self.values)
        )


@dataclass(frozen=True, slots=True)
class Says:
    """The error message holds a pattern."""

    pattern: re.Pattern[str]

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit."""
        text = case.text("message")
        if self.pattern.search(text):
            return None
        return f"its message {_quoted(text)} does not match {self.pattern.pattern}"

    def covers(self, other: Condition) -> bool:
        """Return whether it is the same pattern."""
        return self == other


@dataclass(frozen=True, slots=True)
class Within:
    """A number is in a range: from `least` on, and less than `below`."""

    name: str
    least: int = 0
    below: float = math.inf

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit."""
        number = case.number(self.name)
        if self.least <= number < self.below:
            return None
        word = "under" if number < self.least else "not under"
        bound = self.least if number < self.least else int(self.below)
        if self.name == "age":
            return f"it was sent {span(number)} ago, {word} {span(bound)}"
        return f"it was recovered {number} times, {word} {bound}"

    def covers(self, other: Condition) -> bool:
        """Return whether its range holds the other's."""
        return (
            isinstance(other, Within)
            and other.name == self.name
            and self.least <= other.least
            and other.below <= self.below
        )


@dataclass(frozen=True, slots=True)
class FieldIs:
    """A field of the body has a value."""

    path: FieldPath
    value: Any

    def fits(self, found: Any) -> bool:
        """Return whether it is this value."""
        return same(found, self.value)

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit."""
        found = field(case.body, self.path)
        return None if self.fits(found) else _unlike(self.path, found, json.dumps(self.value))

    def covers(self, other: Condition) -> bool:
        """Return whether it asks for the same."""
        return (
            isinstance(other, FieldIs) and other.path == self.path and self.fits(other.value)
        )  # the hash of 1.0 and 1 is the same, that of true too: never compare these by ==


@dataclass(frozen=True, slots=True)
class FieldSays:
    """A field of the body is text, or a number as JSON writes it, that holds a pattern."""

    path: FieldPath
    pattern: re.Pattern[str]

    def fits(self, found: Any) -> bool:
        """Return whether it is text or a number that holds the pattern."""
        if found is None or not isinstance(found, (str, int, float)):
            return False
        text = found if isinstance(found, str) else json.dumps(found)
        return self.pattern.search(text) is not None

    def miss(self, case: Case) -> str | None:
        """Return why a letter does not fit."""
        found = field(case.body, self.path)
        return None if self.fits(found) else _unlike(self.path, found, self.pattern.pattern)

    def covers(self, other: Condition) -> bool:
        """Return whether what fits the other holds this pattern."""
        if isinstance(other, FieldIs):
            same_field = other.path == self.path
            return same_field and surely(
                lambda: self.fits(other.value), self.pattern, otherwise=False
            )
        return self == other


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
    #: How often it may send one letter back.
    limit: int | None = None

    @property
    def label(self) -> str:
        """What it is called in reasons, which are kept: by its name rather than its place."""
        return f'rule "{self.name}"' if self.name else f"rule {self.number}"

    @property
    def place(self) -> str:
        """What it is called to whoever has the file before him."""
        return f"{self.label} (line {self.line})"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it names; empty if it is for all."""
        named = (c.values for c in self.conditions if isinstance(c, OneOf) and c.name == "queue")
        return next(named, ())

    def miss(self, case: Case) -> str | None:
        """Return why it does not fire for a letter; None if it does."""
        for condition in self.conditions:
            if (why := condition.miss(case)) is not None:
                return why
        if self.limit is not None and (sent := self._sent(case.dead_letter)) >= self.limit:
            return f"it sent this letter back {sent} times already, and its limit is {self.limit}"
        return None

    def decision(self, dead_letter: DeadLetter) -> Decision:
        """Return what it makes of a letter that fits."""
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
        """Return whether no letter reaches the later rule: this one takes all that fit that."""
        return self.limit is None and all(
            any(mine.covers(other) for other in later.conditions) for mine in self.conditions
        )

    def _sent(self, dead_letter: DeadLetter) -> int:
        """Return how often it sent this letter back, by what history says."""
        return sum(
            event.event in {Event.RETRIED, Event.REQUEUED}
            and event.actor.startswith(RECOVERY_ACTOR)
            and (event.reason == self.label or event.reason.startswith(f"{self.label}: "))
            for event in dead_letter.history
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """A file of rules: the first that fits decides, and without one a letter is held."""

    #: The file.
    source: str
    rules: tuple[Rule, ...]
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues they are for; empty means every one, for a rule names none."""
        if not all(rule.queues for rule in self.rules):
            return ()
        return tuple(dict.fromkeys(queue for rule in self.rules for queue in rule.queues))

    def passed_over(self, case: Case) -> Iterable[tuple[Rule, str]]:
        """Yield the rules before the one that fires, and why each does not."""
        for rule in self.rules:
            why = rule.miss(case)
            if why is None:
                return
            yield rule, why


def _said(name: str) -> str:
    return name.replace("_", " ")


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…",
                      ensure_ascii=False)  # fmt: skip


def _unlike(path: FieldPath, found: Any, wanted: str) -> str:
    if found is MISSING:
        return f"its body has no field {written(path)}"
    if isinstance(found, bytes):
        return "its body is bytes"
    shown = json.dumps(found, ensure_ascii=False)
    shown = shown if len(shown) <= SHOWN_CHARS else shown[: SHOWN_CHARS - 1] + "…"
    return f"{written(path)} in its body is {shown}, not {wanted}"
