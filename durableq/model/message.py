"""Messages, receipts, failures, dead letters and records, as immutable values.

Message, Receipt and HistoryEvent are named tuples, because they are created thousands of times a
second: a named tuple costs a fifth of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from durableq.model import codec
from durableq.model.arguments import check_text
from durableq.model.codec import Encoded
from durableq.model.drafts import Draft, Envelope, SendOptions, check_key, draft, drafts
from durableq.model.errors import InvalidInput
from durableq.model.fingerprint import fingerprint as fingerprint_of
from durableq.model.limits import (
    FOREVER_MS,
    MAX_ATTEMPT_CHARS,
    MAX_DELAY_MS,
    MAX_ERROR_CHARS,
    MAX_ERROR_TYPE_CHARS,
    MAX_FINGERPRINT_CHARS,
    MAX_PLACE_CHARS,
    MAX_TRACEBACK_CHARS,
)
from durableq.model.states import Event, Outcome, Reason, Refusal, State
from durableq.model.text import shown, storable

__all__ = [
    "FOREVER_MS",
    "OVER_BUDGET_MS",
    "Completion",
    "DeadLetter",
    "Draft",
    "Duplicate",
    "Envelope",
    "Event",
    "Failure",
    "HistoryEvent",
    "IdempotencyRecord",
    "Message",
    "Outcome",
    "Reason",
    "Ready",
    "Receipt",
    "Received",
    "RecordStatus",
    "Refusal",
    "SendOptions",
    "Served",
    "State",
    "check_key",
    "check_served",
    "draft",
    "drafts",
    "of_fields",
]


#: Makes a named tuple of all its fields in half the time of a call of its class, for the loops over
#: the messages of a batch: `of_fields(Receipt, (queue, message_id, token))`.
of_fields: Final = tuple.__new__


class Receipt(NamedTuple):
    """The right to settle one delivery of one message. `str()` and `parse()` are inverse."""

    queue: str
    message_id: str
    #: A random number of each receive: an older receipt of the same message does not match.
    token: str

    def __str__(self) -> str:
        return ":".join(self)

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """Parse the string form of a receipt.

        Raises:
            InvalidInput: it is not of the form queue:message:token.
        """
        check_text(text, "A receipt")
        parts = text.split(":", 2)
        if len(parts) != 3 or not all(parts):
            raise InvalidInput(f"{shown(text)} is not a receipt (queue:message:token).")
        return cls(*parts)


class Message(NamedTuple):
    """A message as a store returns it."""

    id: str
    queue: str
    body: Encoded
    key: str | None
    attributes: str | None
    priority: int
    state: State
    receive_count: int
    recovery_count: int
    sent_at_ms: int
    #: The time of arrival in its present queue: sent, buried or redriven.
    enqueued_at_ms: int
    #: Wall clock; 0 when not delayed, or due and over the retry budget; FOREVER_MS when held.
    delayed_until_ms: int
    #: 0 when not in flight.
    lease_left_ms: int
    #: The queue in which a dead letter failed; None for every other message.
    source_queue: str | None
    #: None in the answer of a read.
    receipt: Receipt | None
    #: The group whose messages share a limit, and their order; None for none.
    group: str | None = None
    #: Wall clock; None if it does not expire.
    expires_at_ms: int | None = None
    #: Only in the answer of a receive that asks for it; see Served.
    envelope: Envelope | None = None

    @property
    def generation(self) -> int:
        """1, and one more for each redrive."""
        return self.recovery_count + 1

    @property
    def held(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.state is State.DELAYED and self.delayed_until_ms == FOREVER_MS


#: The due time, in a store, of a retry that waits for the retry budget. It is due, and shown so.
OVER_BUDGET_MS = FOREVER_MS - 1


class Duplicate(NamedTuple):
    """A message whose key had already succeeded. It was skipped and removed."""

    message_id: str
    queue: str
    key: str
    #: The result of the first success, as JSON text.
    result: str | None


class Received(NamedTuple):
    """The answer of a receive."""

    messages: list[Message]
    duplicates: list[Duplicate]
    #: Messages deferred, expired or buried on the way.
    set_aside: int
    #: Whether ready messages may be left: the receive stopped at one of its limits.
    more: bool = False
    #: Where nothing was received: ms until a receive may bring a message; None: not known.
    wait_ms: int | None = None

    @property
    def idle(self) -> bool:
        """Whether the receive met no message, and the queue has none ready."""
        return not (self.messages or self.duplicates or self.set_aside or self.more)


class Ready(NamedTuple):
    """The messages that a receive may find ready."""

    number: int = 0
    #: How long the first of them has been ready; 0 without one.
    waited_ms: int = 0


class Gather(NamedTuple):
    """The condition of a receive that gathers a batch."""

    #: The number of ready messages that is enough.
    least: int
    #: How long the first of fewer messages waits for the others.
    window_ms: int

    def left_ms(self, ready: Ready, lease_ms: int) -> int:
        """Return the time until they may be leased; 0: now, or there is none.

        Args:
            ready: of the queue.
            lease_ms: the length of the lease; a window is at most a third of it.
        """
        if ready.number >= self.least or not ready.number:
            return 0
        return max(0, min(self.window_ms, lease_ms // 3) - ready.waited_ms)


class Served(NamedTuple):
    """The terms of a receive for the SQS endpoint. Its messages come with their envelopes."""

    #: After each message come the next of its group, in order, before those of another group: more
    #: than may be active, as one batch.
    fill_groups: bool = False
    #: A receive with the id of an earlier one, within 5 minutes, returns the messages of that
    #: again, under the same receipts and leased from now; but only while all of them have the lease
    #: that it gave: none has ended, was extended, or came back.
    attempt_id: str | None = None


def check_served(served: Served, *, by_group: bool) -> None:
    """Check the terms of a receive for the SQS endpoint.

    Raises:
        InvalidInput: it asks for batches of one group as well, or its id is out of bounds.
    """
    attempt_id = served.attempt_id
    if attempt_id is not None and not (
        isinstance(attempt_id, str) and 0 < len(attempt_id) <= MAX_ATTEMPT_CHARS
    ):
        raise InvalidInput(
            f"The id of a receive has 1 to {MAX_ATTEMPT_CHARS} characters, got {shown(attempt_id)}."
        )
    if served.fill_groups and by_group:
        raise InvalidInput(
            "fill_groups and by_group both say which messages of a group come together: give one."
        )


class Completion(NamedTuple):
    """The success of one delivery: receipt, result as JSON text, and the message's key.

    A repeated completion is recognised only with the key.
    """

    receipt: Receipt
    result: str | None = None
    key: str | None = None


#: The part of each text of a failure that is kept.
_KEPT: Final = (
    ("error_type", slice(MAX_ERROR_TYPE_CHARS)),
    ("error_message", slice(MAX_ERROR_CHARS)),
    ("traceback", slice(-MAX_TRACEBACK_CHARS, None)),
    ("fingerprint", slice(MAX_FINGERPRINT_CHARS)),
    ("place", slice(MAX_PLACE_CHARS)),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery failed. Long texts are cut to their limits.

    Raises:
        InvalidInput: a wait that is negative, or over MAX_DELAY_MS.
    """

    reason: Reason
    error_type: str
    error_message: str
    traceback: str = ""
    #: The wait that the handler asks for; None means the backoff of the queue.
    retry_in_ms: int | None = None
    #: The identity of failures of one kind; computed if it is empty.
    fingerprint: str = ""
    #: The top frame of the user's code, as "shop.py:charge".
    place: str = ""

    def __post_init__(self) -> None:
        if self.retry_in_ms is not None and not 0 <= self.retry_in_ms <= MAX_DELAY_MS:
            raise InvalidInput(
                f"A retry waits 0 to {MAX_DELAY_MS} ms, got {shown(self.retry_in_ms)}."
            )
        kind, message = f"{self.reason} {self.error_type}", self.error_message
        object.__setattr__(
            self, "fingerprint", self.fingerprint or fingerprint_of(kind, message, self.place)
        )
        for name, part in _KEPT:
            text: str = getattr(self, name)
            if not text.isascii():
                text = storable(text)
            object.__setattr__(self, name, text[part])

    @property
    def history_fields(self) -> dict[str, Any]:
        """The fields that the history repeats for the burial that follows."""
        return {
            "reason": self.reason,
            "error_type": self.error_type,
            "error_message": self.error_message,
            "fingerprint": self.fingerprint,
            "place": self.place,
        }


class HistoryEvent(NamedTuple):
    """An event in the history of a message."""

    message_id: str
    queue: str
    event: Event
    at_ms: int
    #: The name of the worker, recovery process or person.
    actor: str
    reason: str = ""
    error_type: str = ""
    error_message: str = ""
    traceback: str = ""
    detail: Mapping[str, Any] = MappingProxyType({})
    #: The fingerprint of the failure; a burial repeats that of the last failure.
    fingerprint: str = ""
    place: str = ""


#: A tuple, which is searched by identity: to hash a member of an enum takes a call.
_FAILURES: Final = (Event.FAILED, Event.LEASE_EXPIRED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue, with the history of its failures."""

    message: Message
    source_queue: str
    reason: Reason
    died_at_ms: int
    history: tuple[HistoryEvent, ...]
    max_recoveries: int
    #: The fingerprint of the last failure.
    fingerprint: str = ""

    @property
    def id(self) -> str:
        """The id of the message, which does not change."""
        return self.message.id

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        return self.message.key

    @property
    def body(self) -> Any:
        """The decoded JSON body, or the bytes."""
        return codec.decode(self.message.body)

    @property
    def attributes(self) -> dict[str, str | int | float]:
        """The attributes."""
        return codec.decode_attributes(self.message.attributes)

    @property
    def recovery_count(self) -> int:
        """The number of redrives so far, by recovery or by a person."""
        return self.message.recovery_count

    @property
    def generation(self) -> int:
        """1 for a message that was never redriven, and one more for each redrive."""
        return self.message.generation

    @property
    def failures(self) -> tuple[HistoryEvent, ...]:
        """The failures and expired leases, oldest first."""
        return tuple(e for e in self.history if e.event in _FAILURES)

    @property
    def last_failure(self) -> HistoryEvent | None:
        """The last failure; None if the message never reached a handler."""
        return next((e for e in reversed(self.history) if e.event in _FAILURES), None)

    @property
    def burial(self) -> HistoryEvent | None:
        """The last burial; None if later events have displaced it from the history."""
        return next((e for e in reversed(self.history) if e.event is Event.BURIED), None)


class RecordStatus(IntEnum):
    """The status of an idempotency record. The database stores the numbers."""

    IN_PROGRESS = 0
    COMPLETED = 1

    @property
    def label(self) -> str:
        """The name in text and JSON, as in AWS Powertools."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The idempotency record of a key."""

    queue: str
    key: str
    status: RecordStatus
    message_id: str
    payload_hash: bytes
    result: str | None
    created_at_ms: int
    completed_at_ms: int | None
    #: None while in progress: the record then lives as long as the lease of its message.
    expires_at_ms: int | None
