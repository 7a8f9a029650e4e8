"""Decisions that recovery would make: by a file of rules, or the application's policies.

Nothing is leased or written.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple

from durableq.client.handlers import Policy
from durableq.dashboard.redaction import Redaction
from durableq.model.dead_letters import RECOVERY_ACTOR, DeadLetterFilter
from durableq.model.decisions import Decision, Requeue, Retry
from durableq.model.message import DeadLetter
from durableq.recovery import circuit_breaker
from durableq.recovery.policies import AppPolicies, Policies, PolicyDecision, RulePolicies
from durableq.runtime.clock import SystemClock
from durableq.store.core import Capability, Store

#: Dead letters that are read at once.
PAGE: Final = 200
#: A dry run shows its result after this time, and goes on in the next page.
DRY_RUN_SECONDS: Final = 3.0
EXAMPLES: Final = 3
#: A file of rules, or the policies of an application.
Given = str | PathLike[str] | Mapping[str, Policy]
#: Two policies that run at the same time would print into each other's output.
_deciding: Final = threading.Lock()


class Answer(NamedTuple):
    """The decision that recovery would make about a dead letter."""

    #: discard, retry, requeue or hold.
    word: str
    #: The rule with its line, or the policy.
    by: str
    reason: str
    delay_ms: int
    #: The changed body of a retry, as JSON; empty while fields are hidden.
    body: str
    #: Sentences about the queue: that no rule is for it, or its breaker.
    notes: list[str]
    #: The rules before that one, and why each does not fit; empty while fields are hidden.
    passed_over: list[tuple[str, str]]


@dataclass
class Count:
    """The dead letters about which one rule makes one decision."""

    by: str
    word: str
    number: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class DryRun:
    """The decisions about the dead letters that match a filter."""

    #: Where to go on; None: it has looked to the end.
    after: str | None
    looked_at: int = 0
    #: Held for a person, whom recovery leaves them to.
    held: int = 0
    #: Of queues that no rule or policy is for.
    unmet: int = 0
    _counts: dict[tuple[str, str], Count] = field(default_factory=dict)

    @property
    def counts(self) -> list[Count]:
        """The decisions, the most frequent first."""
        return sorted(self._counts.values(), key=lambda count: -count.number)

    def add(self, message_id: str, by: str, word: str, reason: str) -> None:
        """Count a decision about a dead letter."""
        count = self._counts.setdefault((by, word), Count(by, word))
        count.number += 1
        if len(count.examples) < EXAMPLES:
            count.examples.append((message_id, reason))


class Rules:
    """The rules that the dashboard knows.

    Args:
        given: a file of rules, which is read anew when it has changed, or policies by queue.
        redaction: the fields that are hidden.
    """

    def __init__(self, given: Given, redaction: Redaction) -> None:
        self._policies = given if isinstance(given, Mapping) else {}
        self._path = None if isinstance(given, Mapping) else Path(given)
        self._redaction = redaction
        self._read: tuple[object, Policies] | None = None

    @property
    def is_file(self) -> bool:
        """Whether they are in a file."""
        return self._path is not None

    @property
    def source(self) -> str:
        """The file, or the application's policies, in words; empty if there is neither."""
        if self._path is not None:
            return str(self._path)
        return "the application's policies" if self._policies else ""

    def policies(self) -> Policies:
        """Return the rules as policies.

        Raises:
            InvalidInput: the file cannot be read, or is wrong.
        """
        if self._path is None:
            return AppPolicies(self._policies)
        from durableq.recovery.rules_file import read

        stamp = _stamp(self._path)
        if self._read is None or self._read[0] != stamp or stamp is None:
            self._read = stamp, RulePolicies(read(self._path), SystemClock())
        return self._read[1]

    def decide(self, store: Store, letter: DeadLetter) -> Answer:
        """Return the decision that recovery would make about a dead letter.

        Args:
            store: of the dead letter.
            letter: with all its fields.

        Raises:
            InvalidInput: as for `policies`.
        """
        policies = self.policies()
        decided = _decided(policies, letter)
        decision, notes = decided.decision, []
        if letter.source_queue not in policies.queues(store):
            notes.append("Recovery would not meet it: no rule or policy is for its queue.")
        elif isinstance(decision, (Retry, Requeue)):
            notes += filter(None, [circuit_breaker.words(store, letter.source_queue)])
        passed_over = [] if self._redaction.is_on else decided.passed_over
        return Answer(
            _word(decided),
            decided.by,
            self._reason(decided),
            decision.delay_ms if isinstance(decision, (Retry, Requeue)) else 0,
            self._body(decision),
            notes,
            [(rule.location, why) for rule, why in passed_over],
        )

    def dry_run(self, store: Store, wanted: DeadLetterFilter, after: str | None) -> DryRun:
        """Return the decisions that recovery would make about the dead letters that match.

        Args:
            store: with all fields of the dead letters.
            wanted: the filter.
            after: the dead letter after which to begin.

        Raises:
            InvalidInput: as for `policies`, or a rule names a queue that does not exist.
        """
        policies = self.policies()
        policies.check(store)
        run = DryRun(after=after)
        met, ends_at = set(policies.queues(store)), time.monotonic() + DRY_RUN_SECONDS
        for letter in _letters(store, wanted, after):
            if run.looked_at and time.monotonic() >= ends_at:
                return run
            run.looked_at += 1
            run.after = letter.id
            if letter.message.held:
                run.held += 1
            elif letter.source_queue not in met:
                run.unmet += 1
            else:
                decided = _decided(policies, letter)
                run.add(letter.id, decided.by, _word(decided), self._reason(decided))
        run.after = None
        return run

    def _body(self, decision: Decision) -> str:
        if not isinstance(decision, Retry) or self._redaction.is_on:
            return ""
        body = decision.body
        return f"{len(body)} bytes" if isinstance(body, bytes) else json.dumps(body)

    def _reason(self, decided: PolicyDecision) -> str:
        reason = decided.decision.reason
        return self._redaction.reason(reason, RECOVERY_ACTOR) if self._redaction.is_on else reason


def _letters(store: Store, wanted: DeadLetterFilter, after: str | None) -> Iterator[DeadLetter]:
    """Yield the dead letters that match, in order of id, read a page at a time."""
    dead_letters = store.require(Capability.DEAD_LETTERS)
    while page := dead_letters.dead_letters(wanted, PAGE, after):
        yield from page
        after = page[-1].id


def _decided(policies: Policies, letter: DeadLetter) -> PolicyDecision:
    with _deciding:
        return policies.decide(letter)


def _word(decided: PolicyDecision) -> str:
    return type(decided.decision).__name__.lower()


def _stamp(path: Path) -> object:
    """Return a value that changes when a file does; None if it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
