"""Drafts of messages, checked and encoded, and the options of a send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypedDict, Unpack

from durableq.model import codec
from durableq.model.arguments import check_known
from durableq.model.codec import Encoded, Json
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.limits import (
    FOREVER_MS,
    MAX_DELAY_MS,
    MAX_EXPIRES_IN_MS,
    MAX_GROUP_CHARS,
    MAX_KEY_CHARS,
    MAX_PRIORITY,
)
from durableq.model.text import shown
from durableq.model.units import Seconds, check_whole, due_ms, to_ms, wall_ms

#: Forms of a body, as the column `body_format` has them: JSON text or bytes, told by their type, or
#: a text that is no JSON, stored as a JSON string. If recovery changes that to a body that is no
#: string, it is as any other.
AS_SENT: Final = 0
TEXT: Final = 1


class Envelope(NamedTuple):
    """The parts of a message that a client of the SQS endpoint sees, and a Python handler does not.

    `wire_message` makes and reads it. A message of a Python sender has none.
    """

    body_format: int = AS_SENT
    #: Types and binary values of attributes, and system attributes, as JSON; None: there are none.
    system_attributes: str | None = None
    #: Wall clock; 0 in a draft, FOREVER_MS before the first receive.
    first_received_at_ms: int = 0
    #: Its place among all messages: its id, or a later number since it came to the end of a group
    #: from another queue. Groups are delivered in this order. 0 in a draft.
    sequence: int = 0


class DraftFlow(NamedTuple):
    """The options of a message that take part in flow control."""

    #: Messages of one group share a limit; see `group_concurrency`.
    group: str | None = None
    #: Another message with this id was sent within the window: this one is not stored.
    deduplication_id: str | None = None
    #: This message replaces those that wait with the same one.
    replace_key: str | None = None
    #: The delay of a message with a replace_key, which each newer one begins again.
    debounce_ms: int | None = None
    #: The end of the debounce, counted from the first of the messages that were replaced.
    max_wait_ms: int | None = None
    #: The time for its success, from the send; None: that of the queue.
    expires_in_ms: int | None = None
    #: The time at which it is ready, on the wall clock; None: after its delay.
    at_ms: int | None = None
    #: Whether its deduplication_id is one of its group alone, as an SQS queue may have it.
    deduplicates_in_group: bool = False
    #: Of a message over SQS; None if it is as a Python sender would send it. It is here, so that
    #: a send without any of these looks for nothing else.
    envelope: Envelope | None = None

    @property
    def is_planned(self) -> bool:
        """Whether earlier messages decide about this one, or this one about them."""
        return self.deduplication_id is not None or self.replace_key is not None

    @property
    def sent_as(self) -> tuple[str, str] | None:
        """The scope and the id under which a duplicate is known; None: it has no id.

        The scope is a group, or empty for the whole queue.
        """
        if self.deduplication_id is None:
            return None
        return (self.group or "") if self.deduplicates_in_group else "", self.deduplication_id


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
    #: Seconds or a timedelta before the message is ready; None means the delay of the queue.
    delay: Seconds | None
    #: The time at which it is ready instead, a datetime with a time zone; one in the past is now.
    at: datetime | None
    #: -100 to 100; a higher priority is received first.
    priority: int
    #: The messages of a group, a customer's for example, share a limit; see `group_concurrency`.
    group: str | None
    #: At most one message with this id is stored within the queue's `deduplication_window`: a
    #: later send stores nothing, and returns the id of the first, also if that has ended.
    deduplication_id: str | None
    #: The newest message with this key replaces the older ones that wait in the queue. One that is
    #: in flight is left alone, and the new one waits.
    replace_key: str | None
    #: With a replace_key: seconds before the message is ready, counted again from each newer one.
    debounce: Seconds | None
    #: With debounce: seconds after which it is ready anyway, from the first that was replaced.
    max_wait: Seconds | None
    #: Seconds from the send; a message that has not succeeded by then expires. None means the
    #: queue's `expires_in`, and `on_expiry` says what becomes of it.
    expires_in: Seconds | None


_NOTHING: Final = DraftFlow()
#: Options that no two messages of a batch share.
_OF_ONE_MESSAGE: Final = ("key", "deduplication_id", "replace_key")
SEND_OPTIONS: Final = tuple(SendOptions.__annotations__)


def draft(
    body: Json | bytes,
    *,
    key: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    delay: Seconds | None = None,
    at: datetime | None = None,
    priority: int = 0,
    group: str | None = None,
    deduplication_id: str | None = None,
    replace_key: str | None = None,
    debounce: Seconds | None = None,
    max_wait: Seconds | None = None,
    expires_in: Seconds | None = None,
    **unknown: object,
) -> Draft:
    """Return a checked, encoded message. The options are those of SendOptions.

    Raises:
        InvalidBody: the body is neither bytes nor JSON.
        InvalidInput: an unknown option; one that is out of bounds, or contradicts another.
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
    given = (group, deduplication_id, replace_key, debounce, max_wait)
    for one in given:
        if one is not None:
            flow = _flow(*given, delay)
            break
    if at is not None:
        flow = _timed(flow or DraftFlow(), delay, at)
    if expires_in is not None:
        flow = _expiring(flow or DraftFlow(), delay_ms, expires_in)
    return Draft(encoded, key, hashed, stored, delay_ms, priority, flow)


def _flow(
    group: str | None,
    deduplication_id: str | None,
    replace_key: str | None,
    debounce: Seconds | None,
    max_wait: Seconds | None,
    delay: Seconds | None,
) -> DraftFlow:
    """Return the checked options of flow control.

    Raises:
        InvalidInput: one is out of bounds, or contradicts another.
    """
    for name, what, most in (
        (group, "A group", MAX_GROUP_CHARS),
        (deduplication_id, "A deduplication_id", MAX_KEY_CHARS),
        (replace_key, "A replace_key", MAX_KEY_CHARS),
    ):
        if name is not None:
            _check_name(name, what, most)
    if debounce is None:
        if max_wait is not None:
            raise InvalidInput("max_wait is the end of a debounce: give debounce too.")
        return DraftFlow(group, deduplication_id, replace_key)
    if replace_key is None:
        raise InvalidInput(
            "debounce delays a message until no newer one with its replace_key has come for so "
            "long: give replace_key too."
        )
    if delay is not None:
        raise InvalidInput("delay and debounce are both the wait of a message: give one of them.")
    debounce_ms = to_ms(debounce, "debounce", MAX_DELAY_MS)
    max_wait_ms = None if max_wait is None else to_ms(max_wait, "max_wait", MAX_DELAY_MS)
    if max_wait_ms is not None and max_wait_ms < debounce_ms:
        raise InvalidInput(
            f"max_wait ({max_wait_ms / 1000:.15g} s) is shorter than debounce "
            f"({debounce_ms / 1000:.15g} s): change one of them."
        )
    return DraftFlow(group, deduplication_id, replace_key, debounce_ms, max_wait_ms)


def _timed(flow: DraftFlow, delay: Seconds | None, at: datetime) -> DraftFlow:
    """Return options with the checked time at which the message is ready.

    Raises:
        InvalidInput: no datetime with a time zone; there is a delay or a debounce as well.
    """
    if delay is not None or flow.debounce_ms is not None:
        other = "debounce" if delay is None else "delay"
        raise InvalidInput(f"{other} and at both say when a message is ready: give one of them.")
    return flow._replace(at_ms=wall_ms(at))


def with_delays(drafts: Sequence[Draft], now_ms: int) -> Sequence[Draft]:
    """Return drafts with delays in place of the times at which they are ready.

    Args:
        drafts: some with flow options.
        now_ms: the wall clock.

    Raises:
        InvalidInput: a time is more than MAX_DELAY_MS ahead.
    """
    return [_delayed(one, now_ms) for one in drafts]


def _delayed(one: Draft, now_ms: int) -> Draft:
    flow = one.flow
    if flow is None or flow.at_ms is None:
        return one
    left_ms = max(0, due_ms(0, flow.at_ms, now_ms) - now_ms)
    rest = flow._replace(at_ms=None)
    return one._replace(delay_ms=left_ms, flow=None if rest == _NOTHING else rest)


def _expiring(flow: DraftFlow, delay_ms: int | None, expires_in: Seconds) -> DraftFlow:
    """Return options with a checked expiry."""
    expires_in_ms = to_ms(expires_in, "expires_in", MAX_EXPIRES_IN_MS)
    check_whole(expires_in_ms, "expires_in in ms", 1, MAX_EXPIRES_IN_MS)
    flow = flow._replace(expires_in_ms=expires_in_ms)
    expires_at_ms(flow, 0, delay_ms or 0, 0)
    return flow


def expires_at_ms(flow: DraftFlow | None, now_ms: int, delay_ms: int, queue_ms: int) -> int:
    """Return when a message that is sent now expires; FOREVER_MS: it does not.

    Args:
        flow: its options.
        now_ms: the time.
        delay_ms: its delay; a debounce takes its place.
        queue_ms: the time that the queue gives its messages; 0 is none.

    Raises:
        InvalidInput: it would expire before it is due.
    """
    flow = flow or DraftFlow()
    expires_in_ms = flow.expires_in_ms or queue_ms
    if not expires_in_ms:
        return FOREVER_MS
    check_expiry(delay_ms if flow.debounce_ms is None else flow.debounce_ms, expires_in_ms)
    return now_ms + expires_in_ms


def check_expiry(delay_ms: int, expires_in_ms: int) -> None:
    """Check that a message is due before it expires.

    Raises:
        InvalidInput: it is not.
    """
    if delay_ms >= expires_in_ms:
        raise InvalidInput(
            f"A message with a delay of {delay_ms / 1000:.15g} s and an expires_in of "
            f"{expires_in_ms / 1000:.15g} s expires before it is due. Change one of them, also "
            "where they are settings of the queue."
        )


def drafts(bodies: Iterable[Json | bytes], **options: Unpack[SendOptions]) -> list[Draft]:
    """Return a checked, encoded message of each body; the options are checked once.

    Raises:
        InvalidBody: one of the bodies is neither bytes nor JSON.
        InvalidInput: an option is unknown or out of bounds, or it is a key, which would make all
            but one of the messages duplicates.
    """
    _, key, _, attributes, delay_ms, priority, flow = draft(None, **options)
    if key is not None or (flow is not None and flow.is_planned):
        name = next(name for name in _OF_ONE_MESSAGE if options.get(name) is not None)
        raise InvalidInput(
            f"One {name} for all would leave one of the messages: use send, or producer(), with a "
            f"{name} for each."
        )
    encode = codec.encode
    rest = (None, None, attributes, delay_ms, priority, flow)
    return [Draft(encode(body), *rest) for body in bodies]


def size_as_sent(one: Draft) -> int:
    """Return the size of a body in bytes as its sender counts it; a text may be stored longer."""
    envelope = one.flow.envelope if one.flow else None
    if envelope is None or envelope.body_format != TEXT:
        return codec.size(one.body)
    return codec.size(codec.decode(one.body))


def too_large(drafts: Sequence[Draft], number: int, queue: str, most: int) -> InvalidBody:
    """Return the refusal of a send by the queue's `max_body_bytes`.

    Args:
        drafts: the messages of the send.
        number: the one that is too large, from 1.
        queue: the name of the queue.
        most: its limit.
    """
    size = size_as_sent(drafts[number - 1])
    what, nothing = "The body has", "Nothing was sent."
    if len(drafts) > 1:
        what = f"Message {number} of this batch has a body of"
        nothing = "Nothing of the batch was sent."
    return InvalidBody(
        f"{what} {size} bytes; queue {queue!r} takes at most {most}. {nothing} Store the data "
        "elsewhere and send a reference, or raise the queue's max_body_bytes."
    )


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
