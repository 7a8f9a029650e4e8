"""The values of a message's life. Each is frozen; none knows an engine.

The two that are made by the thousand a second, Message and Receipt, are named tuples: building
one costs a fifth of a frozen dataclass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from durableq.model import codec
from durableq.model.arguments import check_known, check_text
from durableq.model.codec import Encoded, Json
from durableq.model.errors import InvalidInput
from durableq.model.fingerprint import fingerprint as fingerprint_of
from durableq.model.limits import (
    MAX_DELAY_MS,
    MAX_ERROR_CHARS,
    MAX_ERROR_TYPE_CHARS,
    MAX_FINGERPRINT_CHARS,
    MAX_KEY_CHARS,
    MAX_PLACE_CHARS,
    MAX_PRIORITY,
    MAX_TRACEBACK_CHARS,
)
from durableq.model.states import Event, Outcome, Reason, State
from durableq.model.text import shown, storable
from durableq.model.units import check_whole, to_ms

__all__ = [
    "FOREVER_MS",
    "Completion",
    "DeadLetter",
    "Draft",
    "Duplicate",
    "Event",
    "Failure",
    "HistoryEvent",
    "IdempotencyRecord",
    "Message",
    "Outcome",
    "Reason",
    "Receipt",
    "Received",
    "RecordStatus",
    "SendOptions",
    "State",
    "check_key",
    "draft",
]


class Receipt(NamedTuple):
    """The right to settle one delivery of one message; prints to one string and back."""

    queue: str
    message_id: str
    #: Drawn at random by each receive: an older receipt of the same message does not match.
    token: str

    def __str__(self) -> str:
        return ":".join(self)

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """Read a receipt back from its string.

        Raises:
            InvalidInput: it is not of the form queue:message:token.
        """
        check_text(text, "A receipt")
        parts = text.split(":", 2)
        if len(parts) != 3 or not all(parts):
            raise InvalidInput(f"{shown(text)} is not a receipt (queue:message:token).")
        return cls(*parts)


class Draft(NamedTuple):
    """A message that has not been sent: checked, encoded, ready to store. Made by `draft()`."""

    body: Encoded
    key: str | None = None
    payload_hash: bytes | None = None
    attributes: str | None = None
    #: None means the queue's own delay.
    delay_ms: int | None = None
    priority: int = 0


class SendOptions(TypedDict, total=False):
    """What may be said of a message besides its body."""

    #: Idempotency key: the first success under it wins; later ones are skipped.
    key: str | None
    #: At most 10 named strings and numbers, beside the body.
    attributes: Mapping[str, str | int | float] | None
    #: Seconds before it is ready; None means the queue's own delay.
    delay: float | None
    #: -100 to 100; the higher is received first.
    priority: int


SEND_OPTIONS: Final = tuple(SendOptions.__annotations__)


def draft(body: Json | bytes, **options: Unpack[SendOptions]) -> Draft:
    """Return a checked, encoded message.

    Raises:
        InvalidBody: the body is neither bytes nor JSON.
        InvalidInput: an unknown option; a key, attribute, delay or priority out of bounds.
    """
    check_known(options, SEND_OPTIONS, "message option")
    encoded = codec.encode(body)
    key, priority = options.get("key"), options.get("priority", 0)
    delay = options.get("delay")
    delay_ms = None if delay is None else to_ms(delay, "A delay", MAX_DELAY_MS)
    if key is not None:
        check_key(key)
    check_whole(priority, "A priority", -MAX_PRIORITY, MAX_PRIORITY)
    return Draft(
        encoded,
        key,
        None if key is None else codec.payload_hash(encoded),
        codec.encode_attributes(options.get("attributes")),
        delay_ms,
        priority,
    )


def check_key(key: str) -> None:
    """Refuse what cannot be an idempotency key.

    Raises:
        InvalidInput: not a string of 1 to 512 characters of text.
    """
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS:
        says = f"A key is a string of 1 to {MAX_KEY_CHARS} characters, got {shown(key)}."
        raise InvalidInput(says)
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"The key {shown(key)} contains a lone surrogate.") from None


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
    #: When it came to the queue it stands in: sent, buried or redriven.
    enqueued_at_ms: int
    #: Wall clock; 0 when not delayed, FOREVER_MS when held.
    delayed_until_ms: int
    #: 0 when not in flight.
    lease_left_ms: int
    #: Where a dead letter came from; None for every other message.
    source_queue: str | None
    #: None when somebody only looked.
    receipt: Receipt | None

    @property
    def generation(self) -> int:
        """Which of its lives this is: 1 at first, one more each time it is sent back."""
        return self.recovery_count + 1

    @property
    def held(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.state is State.DELAYED and self.delayed_until_ms == FOREVER_MS


#: A due time that never comes (the year 6429): a held letter's.
FOREVER_MS = (1 << 47) - 1


class Duplicate(NamedTuple):
    """A message whose key had already succeeded: recognised, skipped, and removed."""

    message_id: str
    queue: str
    key: str
    #: The first success's result, as JSON text.
    result: str | None


class Received(NamedTuple):
    """What one receive brought."""

    messages: list[Message]
    duplicates: list[Duplicate]
    #: Messages deferred, expired or buried on the way.
    set_aside: int
    #: Whether ready messages may be left: the receive stopped at one of its limits.
    more: bool = False

    @property
    def idle(self) -> bool:
        """Whether the queue had nothing to offer, and has nothing ready."""
        return not (self.messages or self.duplicates or self.set_aside or self.more)


class Completion(NamedTuple):
    """One success: the receipt, the result kept for duplicates (JSON text), the message's key.

    With its key given, repeating a completion is recognised.
    """

    receipt: Receipt
    result: str | None = None
    key: str | None = None


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
    #: The handler's own choice of wait; None leaves it to the queue's backoff.
    retry_in_ms: int | None = None
    #: What failures of one kind share; computed where none is given.
    fingerprint: str = ""
    #: The top frame of the user's code: "shop.py:charge".
    place: str = ""

    def __post_init__(self) -> None:
        if self.retry_in_ms is not None and not 0 <= self.retry_in_ms <= MAX_DELAY_MS:
            raise InvalidInput(
                f"A retry waits 0 to {MAX_DELAY_MS} ms, got {shown(self.retry_in_ms)}."
            )
        kept = {
            "error_type": storable(self.error_type)[:MAX_ERROR_TYPE_CHARS],
            "error_message": storable(self.error_message)[:MAX_ERROR_CHARS],
            "traceback": storable(self.traceback)[-MAX_TRACEBACK_CHARS:],
            "fingerprint": storable(self.fingerprint)[:MAX_FINGERPRINT_CHARS]
            or fingerprint_of(f"{self.reason} {self.error_type}", self.error_message, self.place),
            "place": storable(self.place)[:MAX_PLACE_CHARS],
        }
        for name, text in kept.items():
            object.__setattr__(self, name, text)

    @property
    def told(self) -> dict[str, Any]:
        """What history tells of it, and tells again of the burial that follows."""
        names = ("reason", "error_type", "error_message", "fingerprint", "place")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One exceptional event in a message's life."""

    message_id: str
    queue: str
    event: Event
    at_ms: int
    #: The worker, recovery process or person.
    actor: str
    reason: str = ""
    error_type: str = ""
    error_message: str = ""
    traceback: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    #: Of a failure; a burial has those of the failure that was one too many.
    fingerprint: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue, with the whole story of its failures."""

    message: Message
    source_queue: str
    reason: Reason
    died_at_ms: int
    history: tuple[HistoryEvent, ...]
    max_recoveries: int
    #: Of what killed it.
    fingerprint: str = ""

    @property
    def id(self) -> str:
        """The message's id; the same as before it died."""
        return self.message.id

    @property
    def key(self) -> str | None:
        """The idempotency key it was sent with."""
        return self.message.key

    @property
    def body(self) -> Any:
        """The body as it was sent: JSON decoded, or bytes."""
        return codec.decode(self.message.body)

    @property
    def attributes(self) -> dict[str, str | int | float]:
        """The sender's attributes."""
        return dict(json.loads(self.message.attributes)) if self.message.attributes else {}

    @property
    def recovery_count(self) -> int:
        """How often it has been sent back already, by recovery or by a person."""
        return self.message.recovery_count

    @property
    def generation(self) -> int:
        """Which of its lives has ended: 1 for one that was never sent back."""
        return self.message.generation

    @property
    def failures(self) -> tuple[HistoryEvent, ...]:
        """Every failure and expired lease, oldest first."""
        return tuple(e for e in self.history if e.event in {Event.FAILED, Event.LEASE_EXPIRED})

    @property
    def last_failure(self) -> HistoryEvent | None:
        """The failure that killed it; None for one that never reached a handler."""
        return self.failures[-1] if self.failures else None

    @property
    def burial(self) -> HistoryEvent | None:
        """When and why it died last; None if many failures since crowded it out."""
        return next((e for e in reversed(self.history) if e.event is Event.BURIED), None)


class RecordStatus(IntEnum):
    """Where an idempotency record is. The numbers are what the file holds."""

    IN_PROGRESS = 0
    COMPLETED = 1

    @property
    def label(self) -> str:
        """The word a person reads, as in AWS Powertools."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What is remembered of a key."""

    queue: str
    key: str
    status: RecordStatus
    message_id: str
    payload_hash: bytes
    result: str | None
    created_at_ms: int
    completed_at_ms: int | None
    #: None while in progress: the record then lives as long as its message's lease.
    expires_at_ms: int | None
