"""Drafts of messages, checked and encoded, and the options of a send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypedDict, Unpack

from durableq.model import codec
from durableq.model.arguments import check_known
from durableq.model.codec import Encoded, Json
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS, MAX_GROUP_CHARS, MAX_KEY_CHARS, MAX_PRIORITY
from durableq.model.text import shown
from durableq.model.units import check_whole, to_ms


class DraftFlow(NamedTuple):
    """The options of a message that take part in flow control."""

    #: Messages of one group share a limit; see `group_concurrency`.
    group: str | None = None


class Draft(NamedTuple):
    """A checked and encoded message that has not been sent. See `draft()`."""

    body: Encoded
    key: str | None = None
    payload_hash: bytes | None = None
    attributes: str | None = None
    #: None means the delay of the queue.
    delay_ms: int | None = None
    priority: int = 0
    #: None for most messages.
    flow: DraftFlow | None = None


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
    #: The messages of a group, a customer's for example, share a limit; see `group_concurrency`.
    group: str | None


SEND_OPTIONS: Final = tuple(SendOptions.__annotations__)


def draft(
    body: Json | bytes,
    *,
    key: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    delay: float | None = None,
    priority: int = 0,
    group: str | None = None,
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
        _check_name(key, "A key", MAX_KEY_CHARS)
        hashed = codec.payload_hash(encoded)
    if type(priority) is not int or priority != 0:
        check_whole(priority, "A priority", -MAX_PRIORITY, MAX_PRIORITY)
    stored = None if attributes is None else codec.encode_attributes(attributes)
    flow = None
    if group is not None:
        _check_name(group, "A group", MAX_GROUP_CHARS)
        flow = DraftFlow(group)
    return Draft(encoded, key, hashed, stored, delay_ms, priority, flow)


def drafts(bodies: Iterable[Json | bytes], **options: Unpack[SendOptions]) -> list[Draft]:
    """Return a checked, encoded message of each body; the options are checked once.

    Raises:
        InvalidBody: one of the bodies is neither bytes nor JSON.
        InvalidInput: an option is unknown or out of bounds, or it is a key, which would make all
            but one of the messages duplicates.
    """
    _, key, _, attributes, delay_ms, priority, flow = draft(None, **options)
    if key is not None:
        raise InvalidInput(
            "One key for all would make all but one of the messages duplicates: use send, or "
            "producer(), with a key for each."
        )
    encode = codec.encode
    rest = (None, None, attributes, delay_ms, priority, flow)
    return [Draft(encode(body), *rest) for body in bodies]


def check_key(key: str) -> None:
    """Check an idempotency key.

    Raises:
        InvalidInput: not a string of 1 to 512 characters of text.
    """
    _check_name(key, "A key", MAX_KEY_CHARS)


def _check_name(name: object, what: str, most: int) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= most:
        raise InvalidInput(f"{what} is a string of 1 to {most} characters, got {shown(name)}.")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            says = f"{what}, {shown(name)}, contains a lone surrogate."
            raise InvalidInput(says) from None
