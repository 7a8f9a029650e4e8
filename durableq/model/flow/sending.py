"""The fate of each message of a send: it is stored, shed, or another one stands for it.

`plan` goes through a batch as if each message were sent by itself, in order. The engine reads the
facts, and carries the plan out in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from durableq.model.errors import InvalidInput, QueueFull
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


@dataclass(slots=True)
class Plan:
    """The plan of one send."""

    #: For each message the id in the answer; None for one that is shed.
    ids: list[int | None] = field(default_factory=list)
    #: The ids of the messages to be stored, in order.
    stored: list[int] = field(default_factory=list)
    shed: int = 0
    #: What the queue has more afterwards.
    messages: int = 0
    body_bytes: int = 0

    @property
    def answer(self) -> list[str]:
        """The ids in order, SHED for those that are shed."""
        return [SHED if one is None else str(one) for one in self.ids]


def plan(queue: str, incoming: Sequence[Incoming], backlog: Backlog) -> Plan:
    """Return the fate of each message of a send.

    Args:
        queue: the name of the queue.
        incoming: the messages.
        backlog: what the queue stores before it.

    Raises:
        QueueFull: they do not fit, and the queue sheds none.
        InvalidInput: they would not fit if the queue were empty.
    """
    made = Plan()
    for one in incoming:
        more = 1, one.body_bytes
        if not backlog.has_room(*more):
            if backlog.on_full != OnFull.SHED:
                raise _refusal(queue, incoming, backlog, made)
            made.ids.append(None)
            made.shed += 1
            continue
        backlog = backlog.plus(*more)
        made.messages += more[0]
        made.body_bytes += more[1]
        made.stored.append(one.id)
        made.ids.append(one.id)
    return made


def _refusal(
    queue: str, incoming: Sequence[Incoming], backlog: Backlog, made: Plan
) -> QueueFull | InvalidInput:
    """Return the error for a batch that does not fit.

    Args:
        queue: the name of the queue.
        incoming: the batch.
        backlog: what the queue would store with the first messages of the batch.
        made: the plan for these.
    """
    before = backlog.plus(-made.messages, -made.body_bytes)
    whole = plan(queue, incoming, UNLIMITED)
    needs = whole.messages, whole.body_bytes
    empty = backlog._replace(messages=0, body_bytes=0)
    are = "message" if needs[0] == 1 else "messages"
    if not empty.has_room(*needs):
        most, limit = (
            (f"{backlog.max_messages:,} messages", "max_backlog")
            if empty._replace(max_bytes=0).has_room(*needs) is False
            else (f"{backlog.max_bytes:,} bytes", "max_backlog_bytes")
        )
        return InvalidInput(
            f"{needs[0]:,} {are} with {needs[1]:,} bytes can never fit into queue {queue!r}: its "
            f"{limit} is {most}. Nothing was sent. Send smaller batches, or raise the limit "
            "(durableq queue set)."
        )
    if before._replace(max_bytes=0).has_room(*needs):
        why = (
            f"it stores {before.body_bytes:,} bytes of bodies, its max_backlog_bytes is "
            f"{before.max_bytes:,}, and the send adds {needs[1]:,}"
        )
    else:
        why = (
            f"it stores {before.messages:,} messages, its max_backlog is "
            f"{before.max_messages:,}, and the send adds {needs[0]:,}"
        )
    block_ms = backlog.block_ms if backlog.on_full == OnFull.BLOCK else 0
    return QueueFull(queue, why, needs, block_ms=block_ms)


def check_dead_letter_settings(name: str, settings: QueueSettings) -> None:
    """Refuse backlog limits of a dead-letter queue.

    Raises:
        InvalidInput: one is on.
    """
    for setting in ("max_backlog", "max_backlog_bytes", "min_free_bytes"):
        if getattr(settings, setting):
            raise InvalidInput(
                f"{setting} limits sends, and nothing is sent to {name!r}: failed messages come "
                "there, which are never refused. Set it for the queue that it serves."
            )
