"""The promises of a queue, checked after a run of the demo or of chaos, one function each.

Pure functions from the traffic and the final file to sentences about violations. They trust no
report of a worker. `durableq.testing.chaos.checker` adds those about the ledgers of a chaos run.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from durableq.demo.order import Difficulty, Order
from durableq.demo.reading import Event, File

#: The number of named cases of one violation; the rest is counted.
SHOWN: Final = 5
#: The history events of decisions, and of those that send a message back.
DECISIONS: Final = ("discarded", "retried", "requeued")
SENT_BACK: Final = {"retried", "requeued"}
#: The events of a receive that did not succeed.
FAILURES: Final = {"failed", "lease_expired"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """The evidence of a run, and facts derived from it."""

    #: The orders of the traffic, by key.
    orders: Mapping[str, Order]
    #: The number of messages of each order that were sent, by key.
    sends: Mapping[str, int]
    #: The key of a message, by its id, as far as it is known.
    keys: Mapping[str, str]
    file: File
    #: The number of sends without an answer: each may have happened.
    unknown: int = 0
    #: Failures during the run: a process that ended, a queue that did not drain.
    interruptions: Sequence[str] = ()

    @cached_property
    def charged(self) -> dict[str, list[str]]:
        """The messages that charged each order, by key."""
        found = defaultdict(list)
        for charge in self.file.charges:
            found[charge.key].append(charge.message_id)
        return found

    @cached_property
    def history(self) -> dict[str, list[Event]]:
        """The events of each message, oldest first."""
        found = defaultdict(list)
        for event in self.file.events:
            found[event.message_id].append(event)
        return found

    @cached_property
    def discarded(self) -> set[str]:
        """The messages that recovery has removed."""
        return self.with_event("discarded")

    @cached_property
    def discarded_keys(self) -> Counter[str]:
        """The number of discarded messages of each order."""
        return Counter(self.keys[of] for of in self.discarded if of in self.keys)

    @property
    def charged_once(self) -> list[str]:
        """The sent orders that were charged exactly once, and not discarded."""
        return [
            key
            for key in self.sends
            if len(self.charged.get(key, ())) == 1 and not self.discarded_keys[key]
        ]

    @property
    def discarded_orders(self) -> list[str]:
        """The sent orders that were discarded in all their messages, and not charged."""
        return [
            key
            for key, number in self.sends.items()
            if key not in self.charged and self.discarded_keys[key] == number
        ]

    @property
    def charged_twice(self) -> list[str]:
        """The orders that were charged more than once."""
        return [key for key, messages in self.charged.items() if len(messages) > 1]

    @property
    def charged_and_discarded(self) -> list[str]:
        """The orders that were both."""
        return [key for key in self.charged if self.discarded_keys[key]]

    @property
    def lost(self) -> list[str]:
        """The sent orders that were not charged, and not discarded in all their messages."""
        return [
            key
            for key, number in self.sends.items()
            if key not in self.charged and self.discarded_keys[key] < number
        ]

    @property
    def never_sent(self) -> set[str]:
        """The keys in the file or in the answers that are not in the traffic."""
        keys = {*self.charged, *self.discarded_keys, *self.keys.values()}
        return (keys | {record.key for record in self.file.records}) - {*self.orders}

    @property
    def duplicates(self) -> int:
        """The number of messages that must have ended as duplicates of a charge."""
        return sum(self.sends[key] - 1 for key in self.charged if key in self.sends)

    @property
    def owed_cents(self) -> int:
        """The sum of the orders that were charged."""
        return sum(self.orders[key].amount_cents for key in self.charged if key in self.orders)

    @property
    def paid_cents(self) -> int:
        """The sum of the charges."""
        return sum(charge.amount_cents for charge in self.file.charges)

    def with_event(self, name: str) -> set[str]:
        """Return the messages with an event of this name."""
        return {event.message_id for event in self.file.events if event.event == name}

    def total(self, name: str) -> int:
        """Return a total over all queues."""
        return sum(getattr(counters, name) for counters in self.file.counters)


def nothing_is_lost(case: Case) -> Iterator[str]:
    """Every order was charged or discarded, and every other message of it was a duplicate."""
    yield from naming("{} was neither charged nor discarded", case.lost)
    counted, least = case.total("duplicates"), case.duplicates
    recognised = f"{counted} duplicates were recognised, not {_span(least, case.unknown)}"
    if counted < least:
        yield f"{recognised}: {least - counted} missed."
    if counted > least + case.unknown:
        yield f"{recognised}: {counted - least - case.unknown} invented."
    for name in ("expired", "purged", "cancelled"):
        if gone := case.total(name):
            yield f"{gone} messages are counted as {name}; nothing here does that."


def nothing_is_invented(case: Case) -> Iterator[str]:
    """The file contains only sent messages, each as often as it was sent and with its content."""
    sent, least = case.total("sent"), sum(case.sends.values())
    if not least <= sent <= least + case.unknown:
        yield f"{sent} messages were sent, not {_span(least, case.unknown)}."
    yield from naming("{} is in the file, but was never in the traffic", case.never_sent)
    yield from naming(
        "{}, which is not the amount that was sent",
        (
            f"{charge.key} was charged {charge.amount_cents} cents"
            for charge in case.file.charges
            if charge.key in case.orders
            and charge.amount_cents != case.orders[charge.key].amount_cents
        ),
    )


def every_end_is_final(case: Case) -> Iterator[str]:
    """A message ends once and in one way."""
    ends = Counter(charge.message_id for charge in case.file.charges) + Counter(case.discarded)
    ends += Counter(left.message_id for left in case.file.left)
    yield from naming("message {} has ended, and is there or has ended again", more_than_once(ends))
    completed, charges = case.total("completed"), len(case.file.charges)
    if completed != charges:
        yield f"{completed} messages were completed, but the ledger has {charges} charges."


def effects_happen_once(case: Case) -> Iterator[str]:
    """An order is charged once, or discarded and not charged; the money agrees."""
    yield from naming("{} was charged more than once", case.charged_twice)
    yield from naming("{} was charged, and discarded too", case.charged_and_discarded)
    if case.paid_cents != case.owed_cents:
        yield f"The ledger holds {case.paid_cents} cents for orders of {case.owed_cents} cents."


def the_dead_are_accounted_for(case: Case) -> Iterator[str]:
    """A message dies of a failure; each death has at most one decision; a discard has a reason."""
    dead_now = {left.message_id for left in case.file.left if left.dead}
    for of in case.history.keys() | dead_now:
        dead = False
        for wrong, is_dead in _deaths(of, case.history.get(of, ())):
            dead = is_dead
            if wrong:
                yield wrong
        if dead != (of in dead_now):
            yield f"Message {of} is {'in no' if dead else 'in a'} dead-letter queue, wrongly."
    silent = (e.message_id for e in case.file.events if e.event == "discarded" and not e.reason)
    yield from naming("message {} was discarded without a recorded reason", silent)
    counted, recorded = case.total("discarded"), len(case.discarded)
    if counted != recorded:
        yield f"{counted} messages were discarded, but the history has {recorded}."


def _deaths(of: str, history: Iterable[Event]) -> Iterator[tuple[str, bool]]:
    """Yield, for each event, its error or an empty text, and whether the message is dead then."""
    failures, dead = 0, False
    for event in history:
        wrong = ""
        if event.event in FAILURES:
            failures += 1
        elif event.event == "buried":
            if dead or not failures:
                wrong = f"Message {of} was buried {'twice' if dead else 'without a failure'}."
            dead, failures = True, 0
        elif event.event in DECISIONS:
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
        elif key in case.orders and _result(record.result) != case.orders[key].payment:
            yield f"The stored result of {key} is {record.result}."
    without = (k for k, r in records.items() if r.completed and k not in case.charged)
    yield from naming("{} is remembered as completed, but was not charged", without)


def _result(text: str | None) -> object:
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def everything_ends(case: Case) -> Iterator[str]:
    """The run ends in time, with no message left, and each order that can be charged is charged."""
    yield from case.interruptions
    if case.file.left:
        where = Counter(f"in {left.queue}, state {left.state}" for left in case.file.left)
        places = "; ".join(f"{number} {place}" for place, number in sorted(where.items()))
        yield f"{len(case.file.left)} messages have not ended: {places}."
    hopeless = {key for key, order in case.orders.items() if order.difficulty is Difficulty.ERROR}
    discarded = case.discarded_keys.keys() & case.orders.keys()
    yield from naming("{} can be charged, but was discarded", discarded - hopeless)


def the_file_is_sound(case: Case) -> Iterator[str]:
    """The database finds no fault in itself, and every queue's counters reconcile."""
    yield from naming("the integrity check: {}", case.file.faults_found)
    for counters in case.file.counters:
        if counters.expected != counters.present:
            yield (
                f"By its counters {counters.queue} holds {counters.expected} messages, "
                f"but {counters.present} are there."
            )
    if case.total("moved_in") != case.total("moved_out"):
        yield "The messages moved out of queues are not as many as those moved into queues."


PROMISES: Final = (
    nothing_is_lost,
    nothing_is_invented,
    every_end_is_final,
    effects_happen_once,
    the_dead_are_accounted_for,
    keys_are_remembered,
    everything_ends,
    the_file_is_sound,
)


def problems(case: Case) -> list[str]:
    """Return a sentence for each violation; none means that every promise was kept."""
    return [sentence for promise in PROMISES for sentence in promise(case)]


def more_than_once(counts: Mapping[str, int]) -> list[str]:
    """Return the names that were counted more than once."""
    return [name for name, number in counts.items() if number > 1]


def naming(sentence: str, cases: Iterable[str]) -> Iterator[str]:
    """Yield the sentence for the first few cases, then the number of the others."""
    found = sorted(cases)
    for one in found[:SHOWN]:
        text = sentence.format(one)
        yield f"{text[0].upper()}{text[1:]}."
    if len(found) > SHOWN:
        yield f"The same of {len(found) - SHOWN} more."


def _span(least: int, unknown: int) -> str:
    return f"{least} to {least + unknown}" if unknown else str(least)
