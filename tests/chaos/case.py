"""A small honest case, made by hand, and ways to falsify it.

Message 1 charges order-1 after a failure, message 2 is its duplicate, message 3 dies of its
workers' deaths, is requeued and charges order-2, message 4 is hopeless and discarded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from durableq.demo.order import Difficulty, Order
from durableq.demo.reading import Charge, Event, File, Left, QueueCounters, Record
from durableq.testing.chaos.checker import ChaosCase
from durableq.testing.chaos.ledger import Line, Step
from durableq.testing.chaos.limits_checker import LimitsCase
from durableq.testing.chaos.recording import Recording

QUEUE, DEAD = "orders", "orders-dlq"
ORDERS = {
    "order-1": Order(1, 100, Difficulty.EASY, 1),
    "order-2": Order(2, 250, Difficulty.MEDIUM, 1),
    "order-3": Order(3, 999, Difficulty.ERROR, 1),
}
KEYS = {"1": "order-1", "2": "order-1", "3": "order-2", "4": "order-3"}
#: Evidence of queues with limits that had no messages.
NO_LIMITS = LimitsCase(Recording(File([], [], [], [], [], []), [], [], [], [], []), ())


@dataclass
class Evidence:
    """The parts of a case; a test changes some of them."""

    lines: list[Line] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    faults_found: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=lambda: {"kill": 3, "stop": 1})
    happened: dict[str, int] = field(default_factory=lambda: {"kill": 3, "stop": 1})
    interruptions: list[str] = field(default_factory=list)
    limits: LimitsCase = NO_LIMITS
    _clock: Any = field(default_factory=lambda: itertools.count(1))

    def note(self, operation: str, step: str, of: str, receipt: str = "-", at: str = "-") -> None:
        self.lines.append(Line(next(self._clock), 7, operation, step, KEYS[of], of, receipt, at))

    def send(self, of: str) -> None:
        self.note("send", Step.INVOKE, of)
        self.note("send", Step.OK, of)

    def handle(self, of: str, attempt: str, *steps: Step) -> None:
        for step in (Step.INVOKE, *steps):
            self.note("charge", step, of, f"receipt-{of}-{attempt}", attempt)

    def charge(self, of: str, attempt: str) -> None:
        order = ORDERS[KEYS[of]]
        self.charges.append(Charge(order.key, order.amount_cents, of))
        result = f'{{"order": {order.number}, "paid_cents": {order.amount_cents}}}'
        self.records[order.key] = Record(order.key, True, of, f"receipt-{of}-{attempt}", result)

    def record(self, of: str, *events: str) -> None:
        self.events += [Event(of, event, "because") for event in events]

    def forget(self, event: str, of: str) -> None:
        self.events = [e for e in self.events if (e.event, e.message_id) != (event, of)]

    def case(self) -> ChaosCase:
        counters = [QueueCounters(queue, 3, **totals) for queue, totals in self.counters.items()]
        records = list(self.records.values())
        file = File(self.faults_found, counters, self.left, self.charges, records, self.events)
        return ChaosCase.of(
            ORDERS,
            self.lines,
            file,
            asked=self.asked,
            happened=self.happened,
            interruptions=self.interruptions,
            limits=self.limits,
        )


def honest() -> Evidence:
    """Evidence of a run in which all was well."""
    evidence = Evidence()
    for of in KEYS:
        evidence.send(of)
    evidence.handle("1", "0.1", Step.FAILED)
    evidence.record("1", "failed")
    evidence.handle("1", "0.2", Step.OK)
    evidence.charge("1", "0.2")
    evidence.handle("3", "0.1")  # killed
    evidence.handle("3", "0.2", Step.REFUSED)  # stopped, and continued after the next attempt began
    evidence.handle("3", "0.3")  # killed after its commit would have been too late
    evidence.record("3", *["lease_expired"] * 3, "buried")
    evidence.note("requeue", Step.INVOKE, "3")
    evidence.record("3", "requeued")
    evidence.handle("3", "1.1")  # killed between its commit and its answer
    evidence.charge("3", "1.1")
    evidence.handle("4", "0.1", Step.FAILED)
    evidence.record("4", "failed", "buried")
    evidence.note("discard", Step.INVOKE, "4")
    evidence.record("4", "discarded")
    none = dict.fromkeys(QueueCounters._fields[2:], 0)
    moved = {"sent": 4, "moved_out": 2, "moved_in": 1, "completed": 2, "duplicates": 1}
    evidence.counters = {
        QUEUE: none | moved,
        DEAD: none | {"moved_in": 2, "moved_out": 1, "discarded": 1},
    }
    return evidence
