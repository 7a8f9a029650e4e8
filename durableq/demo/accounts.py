"""The accounts of the demo: the facts in the file, compared with the traffic.

`read` takes the facts from the file after the run; `judge` is pure. It trusts no report of a
worker: it counts charges in the ledger, and deaths and decisions in the history, and computes the
expected numbers from the traffic again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.demo.app import QUEUE
from durableq.demo.traffic import COUNT, DUPLICATES, orders
from durableq.model.message import Event
from durableq.model.queues import dead_letter_name
from durableq.store.core import Capability, QueueInfo, Store

PAGE: Final = 500
#: How many orders a problem names before it says how many more there are.
SHOWN: Final = 5

_LEDGER: Final = "SELECT order_key, amount_cents FROM demo_ledger ORDER BY id"
_HISTORY: Final = """
SELECT h.message_id, h.event, h.reason
FROM durableq_history AS h JOIN durableq_queue AS q ON q.id = h.queue_id
WHERE q.name IN (?, ?) ORDER BY h.id
"""


@dataclass(frozen=True, slots=True)
class Range:
    """A reference figure."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"

    def __contains__(self, figure: float) -> bool:
        return self.least <= figure <= self.most


PROCESSED: Final = Range(120, 140)
RECOGNISED: Final = Range(50, 60)
BURIED: Final = Range(40, 60)
RECOVERED: Final = Range(30, 50)
RECOVERED_PERCENT: Final = Range(70, 80)
#: About a quarter.
FAILED_PERCENT: Final = Range(20, 30)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sent orders: for each the number of its messages, and its amount."""

    count: int
    duplicates: float
    sends: Counter[str]
    amounts: dict[str, int]

    @classmethod
    def of(cls, count: int, duplicates: float, seed: int) -> Plan:
        """Return the plan of some traffic."""
        sends: Counter[str] = Counter()
        amounts: dict[str, int] = {}
        for envelope in orders(count, duplicates, seed):
            sends[envelope["key"]] += 1
            amounts[envelope["key"]] = envelope["body"]["amount_cents"]
        return cls(count, duplicates, sends, amounts)

    @property
    def has_references(self) -> bool:
        """Whether the reference figures, which are for the default traffic, say anything here."""
        return (self.count, self.duplicates) == (COUNT, DUPLICATES)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts read from the file."""

    orders: QueueInfo
    dead: QueueInfo
    #: Order key and amount of each charge.
    ledger: list[tuple[str, int]]
    #: Message, event and reason, oldest first.
    events: list[tuple[str, str, str]]
    #: Messages still there.
    present: set[str]

    def ids(self, event: Event) -> set[str]:
        """Return the messages to which this has happened."""
        return {message_id for message_id, what, _ in self.events if what == event}

    @property
    def discards(self) -> list[str]:
        """The recorded reasons of all discards; the policy starts each with the order's key."""
        return [reason for _, what, reason in self.events if what == Event.DISCARDED]


@dataclass
class Report:
    """The accounts beside their references, and the problems found."""

    #: Account, reference, measured.
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    #: A sentence each; none means that every account balances.
    problems: list[str] = field(default_factory=list)

    def add(self, account: str, reference: object, measured: object, problem: str = "") -> None:
        """Add an account, and its problem unless that is empty."""
        self.rows.append((account, str(reference), str(measured)))
        if problem:
            self.problems.append(problem)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        names = ("account", "reference", "measured")
        return {
            "ok": not self.problems,
            "accounts": [dict(zip(names, row, strict=True)) for row in self.rows],
            "problems": list(self.problems),
        }


def read(shop: DurableQ) -> Facts:
    """Read the facts from a file that no process works on any more."""
    dead = dead_letter_name(QUEUE)
    with shop.engine.begin() as connection:
        ledger = connection.exec_driver_sql(_LEDGER).all()
        history = connection.exec_driver_sql(_HISTORY, (QUEUE, dead)).all()
    return Facts(
        shop.store.require(Capability.INSPECT).queue(QUEUE),
        shop.store.require(Capability.INSPECT).queue(dead),
        [(key, amount) for key, amount in ledger],
        [(str(message_id), event, reason) for message_id, event, reason in history],
        {*_present(shop.store, QUEUE), *_present(shop.store, dead)},
    )


def _present(monitor: Store, queue: str) -> Iterator[str]:
    after: str | None = None
    while page := monitor.require(Capability.INSPECT).peek(queue, PAGE, after):
        after = page[-1].id
        yield from (message.id for message in page)


def judge(facts: Facts, plan: Plan) -> Report:
    """Hold the facts against the plan."""
    report = Report()
    _judge_messages(report, facts, plan)
    _judge_the_dead(report, facts, plan)
    _judge_orders(report, facts, plan)
    _judge_counters(report, facts)
    return report


def _judge_messages(report: Report, facts: Facts, plan: Plan) -> None:
    """Check the sent, processed and recognised messages."""
    counters = facts.orders.counters
    sent = counters.sent
    problem = "" if sent == plan.count else f"{sent} messages were sent, not {plan.count}."
    report.add("messages produced", plan.count, sent, problem)
    charged = {key for key, _ in facts.ledger}
    _add_figure(report, plan, "orders processed", PROCESSED, len(charged))

    expected = sum(plan.sends[key] - 1 for key in charged if key in plan.sends)
    _add_figure(report, plan, "duplicates recognised", RECOGNISED, counters.duplicates)
    for account, number in (
        ("missed", expected - counters.duplicates),
        ("invented", counters.duplicates - expected),
    ):
        problem = (
            f"{counters.duplicates} duplicates were recognised, and {expected} were sent of the "
            f"orders that were charged: {number} {account}."
        )
        report.add(f"  {account}", 0, max(0, number), problem if number > 0 else "")

    # A delivery is a message received: charged, failed, or recognised as a duplicate.
    failed = sum(1 for _, event, _ in facts.events if event == Event.FAILED)
    deliveries = failed + counters.completed + counters.duplicates
    percent = round(100 * failed / deliveries, 1) if deliveries else 0
    said = f"{percent} % ({failed} of {deliveries})"
    _add_figure(report, plan, "deliveries failed", FAILED_PERCENT, percent, "about 25 %", said)


def _judge_the_dead(report: Report, facts: Facts, plan: Plan) -> None:
    """Check the dead letters and the decisions about them."""
    buried = facts.ids(Event.BURIED)
    discarded = facts.ids(Event.DISCARDED)
    recovered = buried - discarded - facts.ids(Event.EXPIRED) - facts.present
    percent = round(100 * len(recovered) / len(buried), 1) if buried else 0
    _add_figure(report, plan, "messages to the DLQ", BURIED, len(buried))
    _add_figure(report, plan, "  recovered", RECOVERED, len(recovered))
    _add_figure(
        report, plan, "  recovered, percent", RECOVERED_PERCENT, percent, measured=f"{percent} %"
    )
    unexplained = sum(1 for reason in facts.discards if not reason)
    others = len(buried) - len(recovered) - len(discarded)
    problem = ""
    if others:
        problem = f"{others} dead messages were neither recovered nor discarded."
    elif unexplained:
        problem = f"{unexplained} messages were discarded without a recorded reason."
    elif facts.dead.counters.discarded != len(discarded):
        problem = (
            f"{facts.dead.counters.discarded} messages were discarded, but the history tells of "
            f"{len(discarded)}."
        )
    report.add("  discarded, with a reason", "the rest", len(discarded), problem)


def _judge_orders(report: Report, facts: Facts, plan: Plan) -> None:
    """Judge each order: charged exactly once or discarded, and nothing else."""
    charges = Counter(key for key, _ in facts.ledger)
    discards = Counter(reason.partition(":")[0] for reason in facts.discards)
    once = [key for key in plan.sends if charges[key] == 1 and not discards[key]]
    gone = [key for key in plan.sends if not charges[key] and discards[key] == plan.sends[key]]
    report.add("orders charged exactly once", f"of {len(plan.sends)}", len(once))
    report.add("orders discarded", "the rest", len(gone))

    twice = [key for key, number in charges.items() if number > 1]
    report.add("  charged twice", 0, len(twice), _naming("charged more than once", twice))
    both = [key for key in charges if discards[key]]
    report.add("  charged and discarded", 0, len(both), _naming("charged and discarded", both))
    neither = [key for key in plan.sends if not charges[key] and key not in gone]
    report.add("  lost", 0, len(neither), _naming("neither charged nor discarded", neither))
    strange = [key for key in charges | discards if key not in plan.sends]
    report.add("  never sent", 0, len(strange), _naming("charged or discarded, not sent", strange))

    owed = sum(plan.amounts.get(key, 0) for key in charges)
    paid = sum(amount for _, amount in facts.ledger)
    wrong = f"The ledger holds {_money(paid)} for orders of {_money(owed)}." if paid != owed else ""
    report.add("money in the ledger", _money(owed), _money(paid), wrong)


def _judge_counters(report: Report, facts: Facts) -> None:
    """Check each queue's counters, and that every success is in the ledger."""
    for info in (facts.orders, facts.dead):
        owed, there = info.counters.expected, info.counts.present
        problem = f"By its counters {info.name} holds {owed} messages, but {there} are there."
        measured = "balance" if owed == there else f"off by {there - owed}"
        report.add(
            f"counters of {info.name}", "reconcile", measured, problem if owed != there else ""
        )
    left = len(facts.present)
    report.add("messages left", 0, left, f"{left} messages have not ended." if left else "")
    completed, charged = facts.orders.counters.completed, len(facts.ledger)
    problem = f"{completed} messages were completed, but the ledger has {charged} charges."
    report.add(
        "charges in the ledger", f"{completed} completed", charged, problem * (completed != charged)
    )


def _add_figure(
    report: Report,
    plan: Plan,
    account: str,
    reference: Range,
    figure: float,
    wording: str = "",
    measured: str = "",
) -> None:
    """Enter a figure that has a reference range, where that says anything."""
    if not plan.has_references:
        report.add(account, "-", measured or figure)
        return
    outside = "" if figure in reference else f"{account.strip()}: {figure} is not {reference}."
    report.add(account, wording or reference, measured or figure, outside)


def _naming(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{', '.join(sorted(keys)[:SHOWN])}{more}: {what}."


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"
