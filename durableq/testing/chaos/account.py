"""The report of a chaos run: its settings, its events, and the violated invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from durableq.testing.chaos.checker import FAILURES, Case, violations
from durableq.testing.chaos.ledger import UNANSWERED, Step


@dataclass(frozen=True, slots=True)
class Asked:
    """The settings of a run."""

    #: Which traffic, and which faults when.
    seed: int
    #: Faults of all kinds; about four in five are kills.
    kills: int
    messages: int
    #: How long the faults go on; the traffic is spread over it.
    seconds: float


@dataclass
class Account:
    """The end of a run."""

    asked: Asked
    #: By kind.
    faults_asked: Mapping[str, int]
    #: By kind, each with its proof.
    faults_happened: Mapping[str, int]
    #: Numbers of messages, by name.
    figures: dict[str, int]
    #: A sentence each; none means that every invariant holds.
    violations: list[str]
    #: The path of the file, if it was kept.
    database: str | None = None
    #: The folder of the ledgers, if they were kept.
    ledgers: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the account for JSON."""
        return {
            "ok": not self.violations,
            "seed": self.asked.seed,
            "asked": {
                "messages": self.asked.messages,
                "seconds": self.asked.seconds,
                "faults": dict(self.faults_asked),
            },
            "faults": {name: self.faults_happened.get(name, 0) for name in self.faults_asked},
            "accounts": dict(self.figures),
            "violations": list(self.violations),
            "database": self.database,
            "ledgers": self.ledgers,
        }


def account(case: Case, asked: Asked) -> Account:
    """Check the invariants of a case, and count its events."""
    return Account(asked, case.asked, case.happened, _figures(case), violations(case))


def _figures(case: Case) -> dict[str, int]:
    """Count the events. An order is one key, also if several messages carry it."""
    charges = Counter(charge.key for charge in case.file.charges)
    whole = [k for k, n in case.discarded_keys.items() if n == case.sends[k] and not charges[k]]
    events = Counter(event.event for event in case.file.events)
    answers = {step: len(lines) for step, lines in case.answers.items()}
    reasons = Counter(e.reason for e in case.file.events if e.event in FAILURES)
    return {
        "messages_sent": case.total("sent"),
        "orders": len(case.orders),
        "orders_charged_once": sum(1 for key in case.orders if charges[key] == 1),
        "orders_discarded": len(whole),
        "duplicates_recognised": case.total("duplicates"),
        "messages_left": len(case.file.left),
        "handlings": answers.get(Step.INVOKE, 0),
        "handlings_ok": answers.get(Step.OK, 0),
        "handlings_failed": answers.get(Step.FAILED, 0),
        "stale_receipts_refused": answers.get(Step.REFUSED, 0),
        "handlings_unanswered": answers.get(Step.INVOKE, 0)
        - sum(number for step, number in answers.items() if step not in UNANSWERED),
        "kills_inside_a_handler": case.kills_inside,
        "messages_of_the_dead": reasons["worker_lost"],
        "leases_expired": reasons["lease_expired"],
        "messages_buried": events["buried"],
        "messages_sent_back": events["retried"] + events["requeued"],
    }
