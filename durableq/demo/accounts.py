"""The accounts of the demo: the figures of a run beside their references, and the problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from durableq.demo.checker import Case, problems
from durableq.demo.order import Order
from durableq.demo.reading import File
from durableq.demo.traffic import COUNT, DUPLICATES, orders


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
    """The traffic of a run: its orders, and the number of messages of each."""

    count: int
    duplicates: float
    orders: dict[str, Order]
    sends: Counter[str]

    @classmethod
    def of(cls, count: int, duplicates: float, seed: int) -> Plan:
        """Return the plan of some traffic."""
        sent = [Order.from_body(each["body"]) for each in orders(count, duplicates, seed)]
        by_key = {order.key: order for order in sent}
        return cls(count, duplicates, by_key, Counter(order.key for order in sent))

    @property
    def has_references(self) -> bool:
        """Whether the reference figures are for this traffic: they are for the default."""
        return (self.count, self.duplicates) == (COUNT, DUPLICATES)

    def case(self, file: File) -> Case:
        """Return the evidence of a run of this traffic.

        A message's key is known from its charge, or from the reason of its discard.
        """
        keys = {charge.message_id: charge.key for charge in file.charges}
        for event in file.events:
            if event.event == "discarded" and event.reason:
                keys.setdefault(event.message_id, event.reason.partition(":")[0])
        return Case(orders=self.orders, sends=self.sends, keys=keys, file=file)


@dataclass
class Report:
    """The figures beside their references, and the problems found."""

    #: Account, reference, measured.
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    #: A sentence each; none means that every account balances.
    problems: list[str] = field(default_factory=list)
    #: The temporary file, where it stays; otherwise empty.
    kept: str = ""

    def add(self, account: str, reference: object, measured: object) -> None:
        """Add a figure."""
        self.rows.append((account, str(reference), str(measured)))

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        names = ("account", "reference", "measured")
        return {
            "ok": not self.problems,
            "accounts": [dict(zip(names, row, strict=True)) for row in self.rows],
            "problems": list(self.problems),
            "kept": self.kept or None,
        }


def judge(file: File, plan: Plan, interruptions: Sequence[str] = ()) -> Report:
    """Check the promises, and compare the figures with their references.

    Args:
        file: the facts of the two queues.
        plan: the traffic.
        interruptions: failures during the run, as sentences.
    """
    case = plan.case(file)
    report = Report(problems=[*interruptions, *problems(case)])
    _add_messages(report, case, plan)
    _add_dead_letters(report, case, plan)
    _add_orders(report, case)
    for counters in file.counters:
        off = counters.present - counters.expected
        reconciled = f"off by {off}" if off else "balance"
        report.add(f"counters of {counters.queue}", "reconcile", reconciled)
    report.add("messages left", 0, len(file.left))
    report.add("charges in the ledger", f"{case.total('completed')} completed", len(file.charges))
    return report


def _add_messages(report: Report, case: Case, plan: Plan) -> None:
    report.add("messages produced", plan.count, case.total("sent"))
    _add_figure(report, plan, "orders processed", PROCESSED, len(case.charged))
    recognised, expected = case.total("duplicates"), case.duplicates
    _add_figure(report, plan, "duplicates recognised", RECOGNISED, recognised)
    report.add("  missed", 0, max(0, expected - recognised))
    report.add("  invented", 0, max(0, recognised - expected))
    # A delivery is a message received: charged, failed, or recognised as a duplicate.
    failed = sum(event.event == "failed" for event in case.file.events)
    deliveries = failed + case.total("completed") + recognised
    percent = _percent(failed, deliveries)
    measured = f"{percent} % ({failed} of {deliveries})"
    _add_figure(report, plan, "deliveries failed", FAILED_PERCENT, percent, "about 25 %", measured)


def _add_dead_letters(report: Report, case: Case, plan: Plan) -> None:
    buried = case.with_event("buried")
    left = {left.message_id for left in case.file.left}
    recovered = buried - case.discarded - case.with_event("expired") - left
    percent = _percent(len(recovered), len(buried))
    _add_figure(report, plan, "messages to the DLQ", BURIED, len(buried))
    _add_figure(report, plan, "  recovered", RECOVERED, len(recovered))
    _add_figure(
        report, plan, "  recovered, percent", RECOVERED_PERCENT, percent, measured=f"{percent} %"
    )
    report.add("  discarded, with a reason", "the rest", len(case.discarded))


def _add_orders(report: Report, case: Case) -> None:
    report.add("orders charged exactly once", f"of {len(case.sends)}", len(case.charged_once))
    report.add("orders discarded", "the rest", len(case.discarded_orders))
    report.add("  charged twice", 0, len(case.charged_twice))
    report.add("  charged and discarded", 0, len(case.charged_and_discarded))
    report.add("  lost", 0, len(case.lost))
    report.add("  never sent", 0, len(case.never_sent))
    report.add("money in the ledger", _money(case.owed_cents), _money(case.paid_cents))


def _add_figure(
    report: Report,
    plan: Plan,
    account: str,
    reference: Range,
    figure: float,
    wording: str = "",
    measured: str = "",
) -> None:
    """Add a figure that has a reference for the default traffic, and check it."""
    if not plan.has_references:
        report.add(account, "-", measured or figure)
        return
    report.add(account, wording or reference, measured or figure)
    if figure not in reference:
        report.problems.append(f"{account.strip()}: {figure} is not {reference}.")


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"
