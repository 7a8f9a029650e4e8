"""The requests of a run against an SQS endpoint, their answers, and what they must agree with.

Each event has a number; a later event has a higher one. A body is sent once, or in a FIFO queue
again and again under one deduplication id, so it names a message.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Seen(NamedTuple):
    """A message in an answer of a receive.

    Args:
        asked: the event of the request.
        message_id: of the message.
    """

    asked: int
    message_id: str


@dataclass
class Message:
    """The events of one message.

    Args:
        sent: its id, if a send of it was answered.
        seen: the receives that had it.
        deleting: whether a delete of it was asked for.
        deleted: the event of the answer of a delete, if it came in time.
    """

    sent: str | None = None
    seen: list[Seen] = field(default_factory=list)
    deleting: bool = False
    deleted: int | None = None


class Ledger:
    """The events of one queue, written by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events = itertools.count(1)
        self.messages: dict[str, Message] = {}
        self.order: list[str] = []  # bodies, as they were received

    def event(self) -> int:
        with self._lock:
            return next(self._events)

    def sending(self, body: str) -> None:
        with self._lock:
            self.messages[body] = Message()

    def sent(self, body: str, message_id: str) -> None:
        with self._lock:
            self.messages[body].sent = message_id

    def received(self, asked: int, message_id: str, body: str) -> None:
        with self._lock:
            self.messages.setdefault(body, Message()).seen.append(Seen(asked, message_id))
            self.order.append(body)

    def deleting(self, body: str) -> None:
        with self._lock:
            self.messages[body].deleting = True

    def deleted(self, body: str) -> None:
        with self._lock:
            self.messages[body].deleted = next(self._events)

    def waiting(self) -> int:
        """Return the number of messages that were sent, and not deleted."""
        with self._lock:
            return sum(one.sent is not None and not one.deleting for one in self.messages.values())

    def counts(self) -> Counter[str]:
        """Return the number of messages by how far they came."""
        with self._lock:
            return Counter(
                "deleted" if one.deleted else "sent" if one.sent else "unanswered"
                for one in self.messages.values()
            )


@dataclass
class Held:
    """A message that a consumer has received. Times are seconds of the monotonic clock.

    Args:
        group: of the message.
        number: its place in its group.
        asked: before the request of its receive.
        answered: after the answer.
        until: the earliest end of its lease, or the request by which the consumer let it go.
    """

    group: str
    number: int
    asked: float
    answered: float
    until: float


class Holds:
    """Messages that the consumers of a FIFO queue hold, written by many threads."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        #: Leases that ended too early, in words.
        self.lost: list[str] = []
        #: Receives that were repeated, because their answer was lost.
        self.repeated = 0

    def hold(self, body: str, asked: float, answered: float, until: float) -> Held:
        group, number = body.split()
        self.held.append(Held(group, int(number), asked, answered, until))
        return self.held[-1]


@dataclass
class Trial:
    """How far a message came that may die and come back; deleted: a delete was answered."""

    is_sent: bool = False
    is_deleting: bool = False
    is_deleted: bool = False


class Tried(NamedTuple):
    """A message in an answer of a receive."""

    group: str
    sequence: int
    message_id: str
    body: str


@dataclass
class Trials:
    """Messages by their bodies, and each as it was received."""

    messages: dict[str, Trial] = field(default_factory=dict)
    received: list[Tried] = field(default_factory=list)


def problems(
    ledger: Ledger, left: Sequence[tuple[str, str]], *, workers: bool = False
) -> list[str]:
    """Return in words what a queue did that it must not do.

    Args:
        ledger: the requests.
        left: id and body of each message that is there in the end.
        workers: whether others take messages too, so that one that is gone need not be lost.
    """
    there: dict[str, list[str]] = defaultdict(list)
    for message_id, body in left:
        there[body].append(message_id)
    found = [f"{body} was never sent" for body in there.keys() - ledger.messages.keys()]
    for body, message in ledger.messages.items():
        found += [f"{body} {text}" for text in _of_message(message, there[body], workers=workers)]
    return found


def _of_message(message: Message, there: Sequence[str], *, workers: bool) -> Iterator[str]:
    ids = {one.message_id for one in message.seen} | {*there}
    if message.sent is not None:
        ids.add(message.sent)
    if len(ids) > 1:
        yield f"has several ids: {sorted(ids)}"
    if len(there) > 1:
        yield f"is there {len(there)} times"
    if message.sent and not (there or message.deleting or workers):
        yield "was sent, and is lost"
    if message.deleted is not None:
        if there:
            yield "was deleted, and is there"
        if any(one.asked > message.deleted for one in message.seen):
            yield "was deleted, and was received again"


def order_problems(received: Iterable[str]) -> list[str]:
    """Return in words where groups are out of order.

    Args:
        received: `GROUP NUMBER` of each message and more words, as it was received; numbers of a
            group begin at 1. A message may come again, but none before the ones in front of it.
    """
    reached: dict[str, int] = defaultdict(int)
    found = []
    for text in received:
        group, number, *_ = text.split()
        if int(number) > reached[group] + 1:
            found.append(f"{text} came when {reached[group]} was the highest of {group}")
        reached[group] = max(reached[group], int(number))
    return found


def hold_problems(held: Iterable[Held]) -> list[str]:
    """Return in words which messages were received while a consumer held an earlier one.

    Messages behind those that a consumer holds wait in their group. One that comes back does not
    wait for those behind it.
    """
    by_group: dict[str, list[Held]] = defaultdict(list)
    for one in held:
        by_group[one.group].append(one)
    return [text for ones in by_group.values() for text in _overtaken(ones)]


def _overtaken(ones: Sequence[Held]) -> Iterator[str]:
    starting, holding = deque(sorted(ones, key=lambda one: one.answered)), list[Held]()
    for one in sorted(ones, key=lambda one: one.asked):
        while starting and starting[0].answered < one.asked:
            holding.append(starting.popleft())
        holding = [other for other in holding if other.until > one.asked]
        for other in holding:
            if other.number <= one.number and other.until > one.answered:
                left = f"{other.until - one.answered:.3f} s"
                text = f"{one.group} {one.number} was received {left} before another let"
                yield f"{text} {other.number} go"


def move_problems(sent: Mapping[str, bool], left: Iterable[str]) -> list[str]:
    """Return in words which messages a move task lost or doubled.

    Args:
        sent: bodies, and whether the send was answered.
        left: the bodies in the queue, its dead-letter queue and the destination.
    """
    there = Counter(left)
    found = [f"{body} was never sent" for body in there.keys() - sent.keys()]
    found += [f"{body} is there {count} times" for body, count in there.items() if count > 1]
    return found + [f"{body} is lost" for body, known in sent.items() if known and not there[body]]


def trial_problems(trials: Trials, left: Iterable[str]) -> list[str]:
    """Return in words which messages came before their turn, are lost, doubled, or back.

    Args:
        trials: the messages.
        left: the bodies in the queue and in its dead-letter queue.
    """
    highest: dict[str, int] = defaultdict(int)
    seen: dict[int, str] = {}
    found = []
    for group, number, message_id, body in trials.received:
        if number < highest[group] and number not in seen:
            found.append(f"{body} has {number}, and came first after {highest[group]}")
        if seen.setdefault(number, message_id) != message_id:  # a move gives both anew
            found.append(f"{body} has {number} as {seen[number]} and as {message_id}")
        highest[group] = max(highest[group], number)
    there = Counter(left)
    for body, one in trials.messages.items():
        if there[body] > (not one.is_deleted):
            found.append(f"{body} is there {there[body]} times; deleted: {one.is_deleted}")
        if one.is_sent and not (one.is_deleting or there[body]):
            found.append(f"{body} is lost")
    return found
