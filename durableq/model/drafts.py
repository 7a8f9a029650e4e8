"""Drafts of messages, checked and encoded, and the options of a send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypedDict, Unpack

from durableq.model import codec
from durableq.model.arguments import check_known
from durableq.model.codec import Encoded, Json
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS, MAX_KEY_CHARS, MAX_PRIORITY
from durableq.model.text import shown
from durableq.model.units import check_whole, to_ms


class Draft(NamedTuple):
    """A checked and encoded message that has not been sent. See `draft()`."""

    body: Encoded
    key: str | None = None
    payload_hash: bytes | None = None
    attributes: str | None = None
    #: None means the delay of the queue.
    delay_ms: int | None = None
    priority: int = 0


class SendOptions(TypedDict, total=False):
    """The options of a message."""

    #: Idempotency key: the first success under it wins, later messages are skipped.
    key: str | None
    #: At most 10 named strings and numbers, beside the body.
    attributes: Mapping[str, str | int | float] | None
    #: Seconds before the message is ready; None means the delay of the queue.
    delay: float | None
    #: -100 to 100; a higher priority is received first.
    priority: int


SEND_OPTIONS: Final = tuple(SendOptions.__annotations__)


def draft(
    body: Json | bytes,
    *,
    key: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    delay: float | None = None,
    priority: int = 0,
    **unknown: object,
) -> Draft:
    """Return a checked, encoded message. The options are those of SendOptions.

    Raises:
        InvalidBody: the body is neither bytes nor JSON.
        InvalidInput: an unknown option; a key, attribute, delay or priority out of bounds.
    """
    if unknown:
        check_known(unknown, SEND_OPTIONS, "message option")
    encoded = codec.encode(body)
    delay_ms = None if delay is None else to_ms(delay, "A delay", MAX_DELAY_MS)
    hashed = None
    if key is not None:
        check_key(key)
        hashed = codec.payload_hash(encoded)
    if type(priority) is not int or priority != 0:
        check_whole(priority, "A priority", -MAX_PRIORITY, MAX_PRIORITY)
    stored = None if attributes is None else codec.encode_attributes(attributes)
    return Draft(encoded, key, hashed, stored, delay_ms, priority)


def drafts(bodies: Iterable[Json | bytes], **options: Unpack[SendOptions]) -> list[Draft]:
    """Return a checked, encoded message of each body; the options are checked once.

    Raises:
        InvalidBody: one of the bodies is neither bytes nor JSON.
        InvalidInput: an option is unknown or out of bounds, or it is a key, which would make all
            but one of the messages duplicates.
    """
    _, key, _, attributes, delay_ms, priority = draft(None, **options)
    if key is not None:
        raise InvalidInput(
            "One key for all would make all but one of the messages duplicates: use send, or "
            "producer(), with a key for each."
        )
    encode = codec.encode
    return [Draft(encode(body), None, None, attributes, delay_ms, priority) for body in bodies]


def check_key(key: str) -> None:
    """Check an idempotency key.

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
