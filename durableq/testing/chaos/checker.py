"""The invariants after any faults: the demo's promises, and those about the ledgers of the run.

The numbers are those of the project's list of invariants. Number 7, the exclusion of leases, is
part of 5, 6 and 8: of two owners of one message, the older is refused, and each receive is
recorded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from durableq.demo import checker as promises
from durableq.demo.checker import FAILURES, SENT_BACK, Case, more_than_once, naming
from durableq.demo.order import Order
from durableq.demo.reading import Event, File
from durableq.testing.chaos import limits_checker
from durableq.testing.chaos.ledger import NONE, UNANSWERED, Line, Step
from durableq.testing.chaos.limits_checker import Invariants, LimitsCase

C = TypeVar("C")

#: The maximum number of reported violations of one invariant.
MAX_REPORTED: Final = 20
#: Among this many kills some fall inside a handler, unless the fleet was idle.
MANY_KILLS: Final = 20
#: The name of each decision in the ledgers, by its event in the history.
_DECISIONS: Final = {"discarded": "discard", "retried": "retry", "requeued": "requeue"}


@dataclass(frozen=True, kw_only=True)
class ChaosCase(Case):
    """The evidence of a run with ledgers and faults."""

    #: The lines of all ledgers, oldest first.
    lines: Sequence[Line]
    #: The number of planned faults, by kind.
    asked: Mapping[str, int] = field(default_factory=dict)
    #: The number of injected faults, by kind.
    happened: Mapping[str, int] = field(default_factory=dict)
    #: The evidence about the queues with limits.
    limits: LimitsCase

    @classmethod
    def of(
        cls, orders: Mapping[str, Order], lines: Sequence[Line], file: File, **more: Any
    ) -> ChaosCase:
        """Return the evidence of a run; the ledgers tell which sends were answered."""
        sends = [line for line in lines if line.operation == "send"]
        keys = {line.message_id: line.key for line in sends if line.step == Step.OK}
        steps = Counter(line.step for line in sends)
        return cls(
            orders=orders,
            sends=Counter(keys.values()),
            keys=keys,
            file=file,
            unknown=steps[Step.INVOKE] - steps[Step.OK],
            lines=lines,
            **more,
        )

    @cached_property
    def ended_as_duplicates(self) -> dict[str, str]:
        """The sent messages, with their keys, that were neither charged nor discarded nor left."""
        ended = self.discarded | {charge.message_id for charge in self.file.charges}
        ended |= {left.message_id for left in self.file.left}
        return {of: key for of, key in self.keys.items() if of not in ended}

    @property
    def duplicates(self) -> int:
        """The number of messages that must have ended as duplicates of a charge."""
        return len(self.ended_as_duplicates)

    @cached_property
    def attempts(self) -> dict[str, list[Line]]:
        """The attempts that began, by message."""
        found = defaultdict(list)
        for line in self._of("charge"):
            if line.step == Step.INVOKE:
                found[line.message_id].append(line)
        return found

    @cached_property
    def answers(self) -> dict[Step, list[Line]]:
        """The lines of attempts, by step."""
        found = defaultdict(list)
        for line in self._of("charge"):
            found[Step(line.step)].append(line)
        return found

    @cached_property
    def kills_inside(self) -> int:
        """The number of workers that were killed inside a handler."""
        return sum(line.message_id != NONE for line in self._of("kill"))

    @property
    def refused(self) -> int:
        """The number of stale receipts that were refused, in all queues."""
        return sum(line.step == Step.REFUSED for line in self.lines)

    def decided(self, decision: str) -> Counter[str]:
        """Return the number of times that the policy decided so about each message."""
        return Counter(line.message_id for line in self._of(decision))

    def _of(self, operation: str) -> Iterator[Line]:
        return (line for line in self.lines if line.operation == operation)


def accepted_messages_end(case: ChaosCase) -> Iterator[str]:
    """Every send answered ok ended in a charge, a discard, or as the duplicate of a charge."""
    others = case.ended_as_duplicates.items()
    yield from naming(
        "{} was accepted, and ended neither in a charge nor in a discard, nor is it there",
        (f"{of} ({key})" for of, key in others if key not in case.charged),
    )


def messages_in_the_file_were_sent(case: ChaosCase) -> Iterator[str]:
    """Each message of the history, the charges and the ledgers has an answered send."""
    if not case.unknown:
        known = {*case.history, *case.attempts, *(c.message_id for c in case.file.charges)}
        yield from naming("message {} was never sent", known - {*case.keys})


def answers_are_kept(case: ChaosCase) -> Iterator[str]:
    """An answer of ok is given once, and its charge is there."""
    there = {charge.message_id for charge in case.file.charges}
    oks = Counter(line.message_id for line in case.answers.get(Step.OK, ()))
    yield from naming("message {} was answered ok, but charged nothing", oks.keys() - there)
    yield from naming("message {} was answered ok more than once", more_than_once(oks))


def old_receipts_are_refused(case: ChaosCase) -> Iterator[str]:
    """An attempt answers ok only if no later receive of its message was given out."""
    newest = {of: max(line.order for line in lines) for of, lines in case.attempts.items()}
    stale = (
        ok for ok in case.answers.get(Step.OK, ()) if ok.order < newest.get(ok.message_id, ok.order)
    )
    yield from naming(
        "a stale receipt was accepted: {}",
        (f"message {ok.message_id}, attempt {ok.attempt}, pid {ok.pid}" for ok in stale),
    )
    for record in case.file.records:
        attempts = case.attempts.get(record.message_id, ())
        orders = [line.order for line in attempts if line.receipt == record.receipt]
        if record.completed and orders and orders[0] < newest[record.message_id]:
            yield f"The record of {record.key} was completed with a stale receipt."
        elif record.completed and not orders:
            yield f"The record of {record.key} was completed with an unknown receipt."


def receives_are_counted(case: ChaosCase) -> Iterator[str]:
    """Each counted receive of a message ended in a failure or the charge; none beyond the limit."""
    released = {line.receipt for line in case.answers.get(Step.UNSETTLED, ())}
    there = {left.message_id for left in case.file.left}
    completions = {charge.message_id for charge in case.file.charges}
    limit = max((counters.max_receives for counters in case.file.counters), default=0)
    for of, attempts in case.attempts.items():
        ends = _failures_by_round(case.history.get(of, ()))
        if of in completions:
            ends[max(ends)] += 1
        noted: Counter[int] = Counter()
        for recoveries, receives in (a.order for a in attempts if a.receipt not in released):
            noted[recoveries] = max(noted[recoveries], receives)
        for turn, receives in noted.items():
            if of not in there and receives > ends[turn]:
                yield f"Message {of} was received {receives} times, and {ends[turn]} are recorded."
            if max(receives, ends[turn]) > limit:
                yield f"Message {of} was received more than {limit} times, its limit."
    beyond = (left.message_id for left in case.file.left if left.receive_count > limit)
    yield from naming("message {} is there with more receives than its limit", beyond)


def _failures_by_round(history: Iterable[Event]) -> Counter[int]:
    """Return the number of failed receives before the first recovery, before the second, ..."""
    turn, failures = 0, Counter({0: 0})
    for event in history:
        if event.event in FAILURES:
            failures[turn] += 1
        elif event.event in SENT_BACK:
            turn += 1
            failures[turn] = 0
    return failures


def decisions_are_the_policys(case: ChaosCase) -> Iterator[str]:
    """The policy made each decision in the history."""
    for name, decision in _DECISIONS.items():
        done = Counter(event.message_id for event in case.file.events if event.event == name)
        beyond = done - case.decided(decision)
        yield from naming(f"message {{}} was {name} without a decision of the policy", beyond)


def the_run_was_not_vacuous(case: ChaosCase) -> Iterator[str]:
    """The planned faults did happen, and had something to break."""
    for kind, wanted in case.asked.items():
        if wanted and not case.happened.get(kind, 0):
            yield f"{wanted} faults of kind {kind!r} were asked for, and none happened."
    if case.asked.get("stop") and not case.refused:
        yield "Workers were to be stopped past their lease, but no stale receipt was refused."
    if case.happened.get("kill", 0) >= MANY_KILLS and not case.kills_inside:
        yield "None of that many kills fell inside a handler."
    if case.orders and not case.answers.get(Step.OK):
        yield "No attempt was answered ok."


INVARIANTS: Final[Invariants[ChaosCase]] = (
    ("1 nothing lost", (accepted_messages_end, promises.nothing_is_lost)),
    ("2 nothing invented", (promises.nothing_is_invented, messages_in_the_file_were_sent)),
    ("3, 5 every end final", (promises.every_end_is_final, answers_are_kept)),
    ("4 effects once", (promises.effects_happen_once,)),
    ("6 fencing", (old_receipts_are_refused,)),
    ("8 receive counts", (receives_are_counted,)),
    (
        "9 dead-letter queue",
        (promises.the_dead_are_accounted_for, decisions_are_the_policys),
    ),
    ("10 idempotency", (promises.keys_are_remembered,)),
    ("11 liveness", (promises.everything_ends,)),
    ("12 soundness", (promises.the_file_is_sound,)),
    ("13 not vacuous", (the_run_was_not_vacuous,)),
)


def violations(case: ChaosCase) -> list[str]:
    """Return a sentence for each violation; none means that every invariant holds."""
    return [
        *_violations(INVARIANTS, case),
        *_violations(limits_checker.INVARIANTS, case.limits),
    ]


def _violations(invariants: Invariants[C], case: C) -> Iterator[str]:
    for name, checks in invariants:
        sentences = [sentence for check in checks for sentence in check(case)]
        yield from (f"{name}: {sentence}" for sentence in sentences[:MAX_REPORTED])
        if len(sentences) > MAX_REPORTED:
            yield f"{name}: and {len(sentences) - MAX_REPORTED} more."


def figures(case: ChaosCase) -> dict[str, int]:
    """Count the events. An order is one key, also if several messages carry it."""
    events = Counter(event.event for event in case.file.events)
    answers = {step: len(lines) for step, lines in case.answers.items()}
    reasons = Counter(e.reason for e in case.file.events if e.event in FAILURES)
    unanswered = sum(number for step, number in answers.items() if step not in UNANSWERED)
    return {
        "messages_sent": case.total("sent"),
        "orders": len(case.orders),
        "orders_charged_once": sum(len(case.charged.get(key, ())) == 1 for key in case.orders),
        "orders_discarded": len(case.discarded_orders),
        "duplicates_recognised": case.total("duplicates"),
        "messages_left": len(case.file.left),
        "handlings": answers.get(Step.INVOKE, 0),
        "handlings_ok": answers.get(Step.OK, 0),
        "handlings_failed": answers.get(Step.FAILED, 0),
        "stale_receipts_refused": case.refused,
        "handlings_unanswered": answers.get(Step.INVOKE, 0) - unanswered,
        "kills_inside_a_handler": case.kills_inside,
        "messages_of_the_dead": reasons["worker_lost"],
        "leases_expired": reasons["lease_expired"],
        "messages_buried": events["buried"],
        "messages_sent_back": events["retried"] + events["requeued"],
        **limits_checker.figures(case.limits),
    }
