"""The invariants after any faults, one function each.

Pure functions from ledgers and file to sentences. The numbers are those of the project's list of
invariants. Number 7, the exclusion of leases, is part of 5, 6 and 8: of two owners of one message,
the older is refused, and each receive is recorded.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from durableq.demo.order import Difficulty, Order
from durableq.testing.chaos.ledger import NONE, Line, Step
from durableq.testing.chaos.reading import Event, File

#: The number of named cases of one violation; the rest is counted.
SHOWN: Final = 5
#: The maximum number of reported violations of one invariant.
MOST: Final = 20
#: Among this many kills some fall inside a handler, unless the fleet was idle.
MANY_KILLS: Final = 20
#: The history event of each decision, and the name of the decision in the ledgers.
_DECISIONS: Final = {"discarded": "discard", "retried": "retry", "requeued": "requeue"}
_SENDS_BACK: Final = {"retried", "requeued"}
#: The events of a receive that did not succeed.
FAILURES: Final = {"failed", "lease_expired"}


@dataclass(frozen=True)
class Case:
    """The evidence of a run, and facts derived from it."""

    #: The orders of the traffic, by key.
    orders: Mapping[str, Order]
    #: The lines of all ledgers, oldest first.
    lines: Sequence[Line]
    file: File
    #: Faults asked for, by kind.
    asked: Mapping[str, int] = field(default_factory=dict)
    #: Faults that did happen, by kind.
    happened: Mapping[str, int] = field(default_factory=dict)
    #: Failures during the run: a process that ended, a queue that did not drain.
    interruptions: Sequence[str] = ()

    @cached_property
    def sent(self) -> dict[str, str]:
        """The key of each message whose send was answered ok."""
        return {line.message_id: line.key for line in self._of("send") if line.step == Step.OK}

    @cached_property
    def unknown(self) -> int:
        """How many sends have no answer: each may have happened."""
        steps = Counter(line.step for line in self._of("send"))
        return steps[Step.INVOKE] - steps[Step.OK]

    @cached_property
    def tries(self) -> dict[str, list[Line]]:
        """The handlings that began, by message."""
        found = defaultdict(list)
        for line in self._of("charge"):
            if line.step == Step.INVOKE:
                found[line.message_id].append(line)
        return found

    @cached_property
    def answers(self) -> dict[Step, list[Line]]:
        """How handlings were answered."""
        found = defaultdict(list)
        for line in self._of("charge"):
            found[Step(line.step)].append(line)
        return found

    @cached_property
    def charged(self) -> dict[str, list[str]]:
        """The messages that charged each order, by key, in the file."""
        found = defaultdict(list)
        for charge in self.file.charges:
            found[charge.key].append(charge.message_id)
        return found

    @cached_property
    def story(self) -> dict[str, list[Event]]:
        """History by message, oldest first."""
        found = defaultdict(list)
        for event in self.file.events:
            found[event.message_id].append(event)
        return found

    @cached_property
    def discarded(self) -> set[str]:
        """The messages that recovery has removed."""
        return {event.message_id for event in self.file.events if event.event == "discarded"}

    @cached_property
    def discarded_keys(self) -> Counter[str]:
        """How many messages of each order were discarded."""
        return Counter(self.sent[of] for of in self.discarded if of in self.sent)

    @cached_property
    def sends(self) -> Counter[str]:
        """How many messages of each order were sent."""
        return Counter(self.sent.values())

    @cached_property
    def kills_inside(self) -> int:
        """How many workers were killed while a handler was at a message."""
        return sum(1 for line in self._of("kill") if line.message_id != NONE)

    def total(self, name: str) -> int:
        """Return a total over all queues."""
        return sum(getattr(books, name) for books in self.file.books)

    def decided(self, decision: str) -> Counter[str]:
        """Return how often the policy has given a verdict on each message."""
        return Counter(line.message_id for line in self._of(decision))

    def _of(self, operation: str) -> Iterator[Line]:
        return (line for line in self.lines if line.operation == operation)


def nothing_is_lost(case: Case) -> Iterator[str]:
    """Every send answered ok ended in a charge, a discard, or as the duplicate of a charge."""
    ended = case.discarded | {charge.message_id for charge in case.file.charges}
    ended |= {left.message_id for left in case.file.left}
    others = {of: key for of, key in case.sent.items() if of not in ended}
    yield from _naming(
        "{} was accepted, and ended neither in a charge nor in a discard, nor is it there",
        (f"{of} ({key})" for of, key in others.items() if key not in case.charged),
    )
    skipped, least = case.total("duplicates"), len(others)
    if not least <= skipped <= least + case.unknown:
        yield f"{skipped} duplicates are in the books, but {least} messages ended as such."
    yield from _naming(
        "{} was neither charged nor discarded, every message of it",
        (k for k in case.sends if k not in case.charged and case.discarded_keys[k] < case.sends[k]),
    )
    for name in ("expired", "purged"):
        if gone := case.total(name):
            yield f"{gone} messages are in the books as {name}; nothing here does that."


def nothing_is_invented(case: Case) -> Iterator[str]:
    """The file contains only sent messages, each as often as it was sent and with its content."""
    sent, least = case.total("sent"), len(case.sent)
    if not least <= sent <= least + case.unknown:
        yield f"{sent} messages are in the books as sent, but {least} sends were answered ok."
    yield from _naming("{} is in the file, but was never in the traffic", _strangers(case))
    wrong = (c for c in case.file.charges if c.key in case.orders)
    yield from _naming(
        "{}, which is not what was sent",
        (
            f"{charge.key} was charged {charge.amount_cents} cents"
            for charge in wrong
            if charge.amount_cents != case.orders[charge.key].amount_cents
        ),
    )
    if not case.unknown:
        told = {*case.story, *case.tries} | {charge.message_id for charge in case.file.charges}
        yield from _naming("message {} was never sent", told - {*case.sent})


def _strangers(case: Case) -> set[str]:
    keys = {*case.charged, *case.sent.values()} | {record.key for record in case.file.records}
    return keys - {*case.orders}


def every_end_is_final(case: Case) -> Iterator[str]:
    """A message ends once and in one way; an answer of ok is kept."""
    ends = Counter(charge.message_id for charge in case.file.charges) + Counter(case.discarded)
    ends += Counter(left.message_id for left in case.file.left)
    yield from _naming(
        "message {} has ended, and is there or has ended again", _more_than_once(ends)
    )
    there = {charge.message_id for charge in case.file.charges}
    oks = Counter(line.message_id for line in case.answers.get(Step.OK, ()))
    yield from _naming("message {} was answered ok, but charged nothing", oks.keys() - there)
    yield from _naming("message {} was answered ok more than once", _more_than_once(oks))
    completed, charges = case.total("completed"), len(case.file.charges)
    if completed != charges:
        yield f"{completed} messages were completed, but {charges} charges were made."


def effects_happen_once(case: Case) -> Iterator[str]:
    """An order is charged once, or discarded and not charged; the money agrees."""
    charges = Counter(charge.key for charge in case.file.charges)
    yield from _naming("{} was charged more than once", _more_than_once(charges))
    both = (key for key in case.charged if case.discarded_keys[key])
    yield from _naming("{} was charged, and discarded too", both)
    paid = sum(charge.amount_cents for charge in case.file.charges)
    owed = sum(case.orders[key].amount_cents for key in case.charged if key in case.orders)
    if paid != owed:
        yield f"{paid} cents were charged for orders of {owed} cents."


def old_receipts_are_refused(case: Case) -> Iterator[str]:
    """An attempt answers ok only if no later receive of its message was given out."""
    newest = {of: max(line.order for line in lines) for of, lines in case.tries.items()}
    stale = (
        ok for ok in case.answers.get(Step.OK, ()) if ok.order < newest.get(ok.message_id, ok.order)
    )
    yield from _naming(
        "a stale receipt was accepted: {}",
        (f"message {ok.message_id}, attempt {ok.attempt}, pid {ok.pid}" for ok in stale),
    )
    for record in case.file.records:
        tries = case.tries.get(record.message_id, ())
        orders = [line.order for line in tries if line.receipt == record.receipt]
        if record.completed and orders and orders[0] < newest[record.message_id]:
            yield f"The record of {record.key} was completed with a stale receipt."
        elif record.completed and not orders:
            yield f"The record of {record.key} was completed with a receipt that nobody was given."


def receives_are_counted(case: Case) -> Iterator[str]:
    """Each counted receive of a message ended in a failure or the charge; none beyond the limit."""
    released = {line.receipt for line in case.answers.get(Step.UNSETTLED, ())}
    there = {left.message_id for left in case.file.left}
    completions = {charge.message_id for charge in case.file.charges}
    limit = max((books.max_receives for books in case.file.books), default=0)
    for of, tries in case.tries.items():
        ends = _failures_by_round(case.story.get(of, ()))
        if of in completions:
            ends[max(ends)] += 1
        noted: Counter[int] = Counter()
        for recoveries, receives in (line.order for line in tries if line.receipt not in released):
            noted[recoveries] = max(noted[recoveries], receives)
        for turn, receives in noted.items():
            if of not in there and receives > ends[turn]:
                yield f"Message {of} was received {receives} times, and {ends[turn]} are told of."
            if max(receives, ends[turn]) > limit:
                yield f"Message {of} was received more than {limit} times, its limit."
    beyond = (left.message_id for left in case.file.left if left.receive_count > limit)
    yield from _naming("message {} is there with more receives than its limit", beyond)


def _failures_by_round(story: Iterable[Event]) -> Counter[int]:
    """Return how many receives failed before the first recovery, before the second, ..."""
    turn, failures = 0, Counter({0: 0})
    for event in story:
        if event.event in FAILURES:
            failures[turn] += 1
        elif event.event in _SENDS_BACK:
            turn += 1
            failures[turn] = 0
    return failures


def the_dead_are_accounted_for(case: Case) -> Iterator[str]:
    """Who dies has failed; each death has one decision, which the policy made, with its reason."""
    dead_now = {left.message_id for left in case.file.left if left.dead}
    for of in case.story.keys() | dead_now:
        dead = False
        for wrong, left_dead in _deaths(of, case.story.get(of, ())):
            dead = left_dead
            if wrong:
                yield wrong
        if dead != (of in dead_now):
            yield f"Message {of} is {'in no' if dead else 'in a'} dead-letter queue, wrongly."
    for name, decision in _DECISIONS.items():
        done = Counter(event.message_id for event in case.file.events if event.event == name)
        beyond = done - case.decided(decision)
        yield from _naming("message {} was " + name + " without a verdict of the policy", beyond)
    silent = (e.message_id for e in case.file.events if e.event == "discarded" and not e.reason)
    yield from _naming("message {} was discarded without a recorded reason", silent)


def _deaths(of: str, story: Iterable[Event]) -> Iterator[tuple[str, bool]]:
    """Yield, for each event, its error or an empty text, and whether the message is dead then."""
    failures, dead = 0, False
    for event in story:
        wrong = ""
        if event.event in FAILURES:
            failures += 1
        elif event.event == "buried":
            if dead or not failures:
                wrong = f"Message {of} was buried {'twice' if dead else 'without a failure'}."
            dead, failures = True, 0
        elif event.event in _DECISIONS:
            if not dead:
                wrong = f"Message {of} was {event.event}, but was not dead."
            dead = False
        yield wrong, dead


def keys_are_remembered(case: Case) -> Iterator[str]:
    """A charged order has one completed record: of the message that charged it, with its result."""
    records = {record.key: record for record in case.file.records}
    for key, messages in case.charged.items():
        record = records.get(key)
        if record is None or not record.completed:
            yield f"{key} was charged, but its key is not remembered as completed."
        elif record.message_id not in messages:
            yield f"{key} was charged by message {messages[0]}, its record says otherwise."
        elif key in case.orders and _result(record.result) != _payment(case.orders[key]):
            yield f"The result kept of {key} is {record.result}."
    without = (k for k, r in records.items() if r.completed and k not in case.charged)
    yield from _naming("{} is remembered as completed, but was not charged", without)


def _result(text: str | None) -> object:
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def _payment(order: Order) -> dict[str, int]:
    """Return the result of the demo's handler for an order."""
    return {"order": order.number, "paid_cents": order.amount_cents}


def it_comes_to_rest(case: Case) -> Iterator[str]:
    """When the faults stop, everything drains in time, and nothing waits for a person."""
    yield from case.interruptions
    by_place = Counter(f"in {left.queue}, state {left.state}" for left in case.file.left)
    yield from _naming("messages are left: {}", (f"{n} {place}" for place, n in by_place.items()))
    hopeless = {key for key, order in case.orders.items() if order.difficulty is Difficulty.ERROR}
    yield from _naming(
        "{} can be charged, but was discarded", sorted(case.discarded_keys.keys() - hopeless)
    )


def the_file_is_sound(case: Case) -> Iterator[str]:
    """SQLite finds no fault in the file, and every queue's books balance."""
    yield from _naming("SQLite's integrity check: {}", case.file.faults_found)
    for books in case.file.books:
        if books.owed != books.present:
            yield f"By its books {books.queue} holds {books.owed}, but {books.present} are there."
    if case.total("moved_in") != case.total("moved_out"):
        yield "What moved out of one queue is not what moved into another."


def the_run_was_not_vacuous(case: Case) -> Iterator[str]:
    """The faults asked for did happen, and had something to break."""
    for kind, wanted in case.asked.items():
        if wanted and not case.happened.get(kind, 0):
            yield f"{wanted} faults of kind {kind!r} were asked for, and none happened."
    if case.asked.get("stop") and not case.answers.get(Step.REFUSED):
        yield "Workers were to be stopped past their lease, but no stale receipt was refused."
    if case.happened.get("kill", 0) >= MANY_KILLS and not case.kills_inside:
        yield "Of so many kills not one fell inside a handler."
    if case.orders and not case.answers.get(Step.OK):
        yield "No handling was answered ok."


INVARIANTS: Final[tuple[tuple[str, Callable[[Case], Iterator[str]]], ...]] = (
    ("1 nothing lost", nothing_is_lost),
    ("2 nothing invented", nothing_is_invented),
    ("3, 5 every end final", every_end_is_final),
    ("4 effects once", effects_happen_once),
    ("6 fencing", old_receipts_are_refused),
    ("8 receive counts", receives_are_counted),
    ("9 dead-letter queue", the_dead_are_accounted_for),
    ("10 idempotency", keys_are_remembered),
    ("11 liveness", it_comes_to_rest),
    ("12 soundness", the_file_is_sound),
    ("13 not vacuous", the_run_was_not_vacuous),
)


def violations(case: Case) -> list[str]:
    """Return a sentence for each violation; none means that every invariant holds."""
    found: list[str] = []
    for name, holds in INVARIANTS:
        told = list(holds(case))
        found += [f"{name}: {sentence}" for sentence in told[:MOST]]
        if len(told) > MOST:
            found.append(f"{name}: and {len(told) - MOST} more.")
    return found


def _more_than_once(counts: Counter[str]) -> list[str]:
    return [name for name, number in counts.items() if number > 1]


def _naming(sentence: str, cases: Iterable[str]) -> Iterator[str]:
    """Yield the sentence for the first few cases, then how many more there are."""
    found = sorted(cases)
    for one in found[:SHOWN]:
        told = sentence.format(one)
        yield f"{told[0].upper()}{told[1:]}."
    if len(found) > SHOWN:
        yield f"The same of {len(found) - SHOWN} more."
