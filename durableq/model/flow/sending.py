"""The fate of each message of a send: it is stored, shed, or another one stands for it.

`plan` goes through a batch as if each message were sent by itself, in order. The engine reads the
facts, and carries the plan out in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from durableq.model.drafts import DraftFlow
from durableq.model.errors import InvalidInput, QueueFull
from durableq.model.limits import MAX_SEND_BATCH
from durableq.model.message import FOREVER_MS
from durableq.model.settings import QueueSettings

#: The id in the answer for a message that was shed: there is no such message.
SHED: Final = ""


class OnFull(IntEnum):
    """The answer of a full queue to a send: the setting `on_full`, as it is stored."""

    RAISE = 0
    BLOCK = 1
    SHED = 2


class Backlog(NamedTuple):
    """The backlog of a queue, and its limits; 0 is no limit."""

    #: In any state: ready, delayed, in flight, blocked.
    messages: int
    body_bytes: int
    max_messages: int
    max_bytes: int
    on_full: int
    block_ms: int

    def has_room(self, messages: int, body_bytes: int) -> bool:
        """Return whether so much more fits. What adds nothing fits always."""
        return (
            not self.max_messages or messages <= 0 or self.messages + messages <= self.max_messages
        ) and (
            not self.max_bytes or body_bytes <= 0 or self.body_bytes + body_bytes <= self.max_bytes
        )

    def most_at_once(self, body_bytes: int) -> int:
        """Return how many messages with such bodies one send can have if the queue is empty.

        At least 1: the send of one that can never fit says so.
        """
        most = min(MAX_SEND_BATCH, self.max_messages or MAX_SEND_BATCH)
        if self.max_bytes and body_bytes:
            most = min(most, self.max_bytes // body_bytes)
        return max(1, most)

    def plus(self, messages: int, body_bytes: int) -> Backlog:
        """Return it with so much more."""
        return self._replace(
            messages=self.messages + messages, body_bytes=self.body_bytes + body_bytes
        )


UNLIMITED: Final = Backlog(0, 0, 0, 0, OnFull.RAISE, 0)


class Incoming(NamedTuple):
    """A message of a send, with the options that decide about it."""

    #: The id that it has if it is stored.
    id: int
    body_bytes: int
    flow: DraftFlow = DraftFlow()


class Waiting(NamedTuple):
    """A message that waits with a replace_key. Columns in the order of WAITING."""

    id: int
    body_bytes: int
    #: The end of its debounce; 0: it has none.
    debounce_until_ms: int


class Facts(NamedTuple):
    """The state of a queue that decides about a send."""

    backlog: Backlog
    now_ms: int
    #: The ids of the messages that were sent within the window, by DraftFlow.sent_as.
    sent: Mapping[tuple[str, str], int] = {}
    #: The messages that wait, by replace_key.
    waiting: Mapping[str, Sequence[Waiting]] = {}


@dataclass(slots=True)
class Plan:
    """The plan of one send."""

    #: For each message the id in the answer; None for one that is shed.
    ids: list[int | None] = field(default_factory=list)
    #: The ids of the messages to be stored, in order.
    stored: list[int] = field(default_factory=list)
    shed: int = 0
    #: The number of messages that another one stands for.
    deduplicated: int = 0
    #: The ids of messages to be remembered, by DraftFlow.sent_as.
    remembered: dict[tuple[str, str], int] = field(default_factory=dict)
    #: By the ids of messages that end, some of them of this send: the newer ones.
    replaced: dict[int, int] = field(default_factory=dict)
    #: By the ids of debounced messages: when they are ready, and the end of the debounce.
    debounced: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: What the queue has more afterwards.
    messages: int = 0
    body_bytes: int = 0

    def take(self, one: Incoming, older: Sequence[Waiting], more: tuple[int, int]) -> None:
        """Store a message in place of older ones.

        Args:
            one: the message.
            older: those that it replaces.
            more: what the queue has more then: messages, and bytes.
        """
        self.ids.append(one.id)
        self.stored.append(one.id)
        self.replaced |= dict.fromkeys((each.id for each in older), one.id)
        self.messages += more[0]
        self.body_bytes += more[1]
        if (sent_as := one.flow.sent_as) is not None:
            self.remembered[sent_as] = one.id

    @property
    def new(self) -> list[int]:
        """The ids of the stored messages that no later one of the send replaces."""
        return [one for one in self.stored if one not in self.replaced]

    @property
    def answer(self) -> list[str]:
        """The ids in order, SHED for those that are shed."""
        return [SHED if one is None else str(one) for one in self.ids]


def plan(queue: str, incoming: Sequence[Incoming], facts: Facts) -> Plan:
    """Return the fate of each message of a send.

    Args:
        queue: the name of the queue.
        incoming: the messages.
        facts: the state of the queue before it.

    Raises:
        QueueFull: they do not fit, and the queue sheds none.
        InvalidInput: they would not fit if the queue were empty.
    """
    made, backlog, waiting = Plan(), facts.backlog, dict(facts.waiting)
    for one in incoming:
        flow = one.flow
        sent_as = flow.sent_as
        first = made.remembered.get(sent_as, facts.sent.get(sent_as)) if sent_as else None
        if first is not None:
            made.ids.append(first)
            made.deduplicated += 1
            continue
        older = waiting.get(flow.replace_key, ()) if flow.replace_key is not None else ()
        more = 1 - len(older), one.body_bytes - sum(each.body_bytes for each in older)
        if not backlog.has_room(*more):
            if backlog.on_full != OnFull.SHED:
                raise _refusal(queue, incoming, facts)
            made.ids.append(None)
            made.shed += 1
            continue
        backlog = backlog.plus(*more)
        until_ms = _debounce(made, one, older, facts.now_ms)
        made.take(one, older, more)
        if flow.replace_key is not None:
            waiting[flow.replace_key] = (Waiting(one.id, one.body_bytes, until_ms),)
    return made


def _debounce(made: Plan, one: Incoming, older: Sequence[Waiting], now_ms: int) -> int:
    """Plan the delay of a debounced message, and return the end of the debounce; 0 is none."""
    flow = one.flow
    if flow.debounce_ms is None:
        return 0
    ends = [each.debounce_until_ms for each in older if each.debounce_until_ms]
    if ends:
        until_ms = min(ends)
    else:
        until_ms = FOREVER_MS if flow.max_wait_ms is None else now_ms + flow.max_wait_ms
    due_ms = max(now_ms, min(now_ms + flow.debounce_ms, until_ms))
    made.debounced[one.id] = due_ms, until_ms
    return until_ms


def _refusal(queue: str, incoming: Sequence[Incoming], facts: Facts) -> QueueFull | InvalidInput:
    """Return the error for a batch that does not fit."""
    backlog = facts.backlog
    unlimited, empty = facts._replace(backlog=UNLIMITED), backlog._replace(messages=0, body_bytes=0)
    alone = plan(queue, incoming, unlimited._replace(waiting={}))
    if not empty.has_room(alone.messages, alone.body_bytes):
        is_number = not empty._replace(max_bytes=0).has_room(alone.messages, 0)
        limit = (
            f"max_backlog is {backlog.max_messages:,} messages"
            if is_number
            else f"max_backlog_bytes is {backlog.max_bytes:,} bytes"
        )
        are = "message" if alone.messages == 1 else "messages"
        return InvalidInput(
            f"{alone.messages:,} {are} with {alone.body_bytes:,} bytes can never fit into queue "
            f"{queue!r}: its {limit}. Nothing was sent. Send smaller batches, or raise the limit "
            "(durableq queue set)."
        )
    whole = plan(queue, incoming, unlimited)
    needs = whole.messages, whole.body_bytes
    if backlog._replace(max_bytes=0).has_room(*needs):
        why = (
            f"it stores {backlog.body_bytes:,} bytes of bodies, its max_backlog_bytes is "
            f"{backlog.max_bytes:,}, and the send adds {needs[1]:,}"
        )
    else:
        why = (
            f"it stores {backlog.messages:,} messages, its max_backlog is "
            f"{backlog.max_messages:,}, and the send adds {needs[0]:,}"
        )
    block_ms = backlog.block_ms if backlog.on_full == OnFull.BLOCK else 0
    return QueueFull(queue, why, needs, block_ms=block_ms)


#: Settings that mean nothing in a dead-letter queue.
_OF_SENDS: Final = (
    "max_backlog",
    "max_backlog_bytes",
    "min_free_bytes",
    "expires_in_ms",
    "on_expiry",
    "priority_aging_ms",
)


def check_dead_letter_settings(name: str, settings: QueueSettings) -> None:
    """Refuse limits of sends for a dead-letter queue.

    Raises:
        InvalidInput: one is on.
    """
    for setting in _OF_SENDS:
        if getattr(settings, setting):
            raise InvalidInput(
                f"{setting.removesuffix('_ms')} is for sends, and nothing is sent to {name!r}: "
                "failed messages come there, which are never refused. Set it for the queue that it "
                "serves."
            )
