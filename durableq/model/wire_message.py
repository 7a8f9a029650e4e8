"""A message as clients of the SQS endpoint send and receive it: texts, and typed attributes.

A Python handler sees the same message decoded. What it does not see is in the envelope: whether the
body is a text that is no JSON, the types of attributes, binary values, and system attributes. What
can be told from the body and the attributes is not stored twice: a message whose body is JSON and
whose attributes are plain is stored as if a Python sender had sent it.
"""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Unpack

from durableq.model import codec
from durableq.model.drafts import (
    AS_SENT,
    TEXT,
    Draft,
    DraftFlow,
    Envelope,
    SendOptions,
    draft,
)
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH
from durableq.model.message import Message
from durableq.model.text import shown

STRING: Final = "String"
NUMBER: Final = "Number"
BINARY: Final = "Binary"
GROUP_ID: Final = "MessageGroupId"
DEDUPLICATION_ID: Final = "MessageDeduplicationId"
#: The attribute of a message whose body is base64, because its Python sender sent bytes.
ENCODING: Final = "durableq.encoding"

#: The parts of the column `system_attributes`.
_ATTRIBUTES, _SYSTEM = "attributes", "system"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,1000}")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
#: Bits of a message's UUID: of the database, and of the number of the redrive.
DATABASE_BITS: Final = 48
_ID_BITS, _REDRIVE_BITS = 63, 11
_VERSION, _VARIANT = 8, 0b10

_NO_FLOW: Final = DraftFlow()

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class TypedAttribute(NamedTuple):
    """An attribute of a message over SQS."""

    #: String, Number or Binary, with a label of the sender behind a dot or without: `Number.int`.
    type: str
    #: Bytes if the type is Binary.
    value: str | bytes

    @property
    def kind(self) -> str:
        """The type without its label."""
        return self.type.partition(".")[0]


# ---- from a client to the store


def to_draft(
    text: str,
    typed: Mapping[str, TypedAttribute] | None = None,
    system: Mapping[str, str] | None = None,
    *,
    deduplicates_in_group: bool = False,
    **options: Unpack[SendOptions],
) -> Draft:
    """Return a message that a client of the SQS endpoint sends.

    Args:
        text: its body. Valid JSON is stored as it is, any other text as a JSON string.
        typed: its attributes with their types, by name.
        system: the system attributes to keep, such as AWSTraceHeader and SenderId. The group and
            the deduplication id are options, and are kept too.
        deduplicates_in_group: whether the deduplication id is one of its group alone.
        options: all but `key` and `attributes`.

    Raises:
        InvalidBody: the text contains a lone surrogate.
        InvalidInput: so does an attribute, or it has a value of another type; a bad option.
    """
    if options.get("key") is not None or options.get("attributes") is not None:
        raise InvalidInput("A message over SQS has no key, and its attributes have types.")
    body, body_format = _stored_body(text)
    kept = dict(system or {})
    deduplication_id = options.get("deduplication_id")
    if deduplication_id is not None:
        kept[DEDUPLICATION_ID] = deduplication_id
    seen, types = _stored_attributes(typed or {})
    parts: dict[str, Any] = {}
    if types:
        parts[_ATTRIBUTES] = types
    if kept:
        _check_texts(kept)
        parts[_SYSTEM] = kept
    *_, delay_ms, priority, flow = draft(None, **options)
    if parts or body_format:
        envelope = Envelope(body_format, _dumps(parts) if parts else None)
        flow = (flow or _NO_FLOW)._replace(envelope=envelope)
    if flow is not None and deduplicates_in_group and deduplication_id is not None:
        flow = flow._replace(deduplicates_in_group=True)
    return Draft(body, None, None, _dumps(seen) if seen else None, delay_ms, priority, flow)


def _stored_body(text: str) -> tuple[str, int]:
    """Return the stored form of a body and its format.

    Raises:
        InvalidBody: it contains a lone surrogate.
    """
    is_sent_as_json = is_json(text)
    if is_sent_as_json and text.isascii():
        return text, AS_SENT
    as_text = str(codec.encode(text))
    return (text, AS_SENT) if is_sent_as_json else (as_text, TEXT)


def is_json(text: str) -> bool:
    """Return whether a text is JSON of which a handler gets a value that can be sent again.

    NaN and Infinity are none, nor is what is nested too deep, has a number of thousands of digits
    or beyond all floats, or spells a lone surrogate.
    """
    try:
        value = _loads(text)
        if "\\u" in text or text.count("[") + text.count("{") > MAX_BODY_DEPTH:
            codec.encode(value)
    except (InvalidBody, ValueError, RecursionError):
        return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_loads = json.JSONDecoder(parse_constant=_finite, parse_float=_finite).decode


def _stored_attributes(
    attributes: Mapping[str, TypedAttribute],
) -> tuple[dict[str, str | int | float], dict[str, list[str | None]]]:
    """Return the attributes that a Python handler sees, and what these do not tell."""
    seen: dict[str, str | int | float] = {}
    types: dict[str, list[str | None]] = {}
    for name, (type_, value) in attributes.items():
        kind = type_.partition(".")[0]
        if kind not in {STRING, NUMBER, BINARY} or isinstance(value, bytes) != (kind == BINARY):
            raise InvalidInput(
                f"Attribute {shown(name)} has the type {shown(type_)} and the value "
                f"{shown(value)}: String and Number have text, Binary has bytes."
            )
        _check_texts({name: type_})
        if isinstance(value, bytes):
            types[name] = [type_, base64.b64encode(value).decode()]
            continue
        _check_texts({name: value})
        seen[name] = number_of(value) if kind == NUMBER else value
        told = _told(seen[name])
        if told != (type_, value):
            types[name] = [type_, None if told.value == value else value]
    return seen, types


def number_of(text: str) -> str | int | float:
    """Return the number that a text spells, to the digits of a float; the text if it spells none.

    Clients of the SQS endpoint get the spelling.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text


def _told(value: str | int | float) -> TypedAttribute:
    """Return the typed attribute that an attribute of a Python sender is."""
    if isinstance(value, str):
        return TypedAttribute(STRING, value)
    return TypedAttribute(NUMBER, _dumps(value))


def _check_texts(texts: Mapping[str, str]) -> None:
    for text in (part for pair in texts.items() for part in pair):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                f"An attribute contains a lone surrogate, which is not text: {shown(text)}."
            ) from None


# ---- from the store to a client


def body_of(message: Message) -> str:
    """Return the body of a received message as clients of the SQS endpoint get it.

    Bytes of a Python sender are base64; `attributes_of` says so.
    """
    body = message.body
    if isinstance(body, bytes):
        return base64.b64encode(body).decode()
    envelope = message.envelope
    if envelope is None or envelope.body_format != TEXT:
        return body
    text = codec.decode(body)
    return text if isinstance(text, str) else body  # recovery has changed it


def attributes_of(message: Message) -> dict[str, TypedAttribute]:
    """Return the attributes of a received message with their types."""
    found = {
        name: _told(value) for name, value in codec.decode_attributes(message.attributes).items()
    }
    for name, (type_, text) in _parts(message).get(_ATTRIBUTES, {}).items():
        if type_.partition(".")[0] == BINARY:
            found[name] = TypedAttribute(type_, base64.b64decode(text))
        else:
            found[name] = TypedAttribute(type_, found[name].value if text is None else text)
    if isinstance(message.body, bytes):
        found[ENCODING] = TypedAttribute(STRING, "base64")
    return found


def system_attributes_of(message: Message) -> dict[str, str]:
    """Return the kept system attributes of a received message, and its group."""
    found: dict[str, str] = dict(_parts(message).get(_SYSTEM, {}))
    if message.group is not None:
        found[GROUP_ID] = message.group
    return found


def _parts(message: Message) -> dict[str, Any]:
    envelope = message.envelope
    if envelope is None or envelope.system_attributes is None:
        return {}
    parts: dict[str, Any] = json.loads(envelope.system_attributes)
    return parts


# ---- ids


def message_uuid(database: int, message_id: int, redrives: int = 0) -> uuid.UUID:
    """Return the id of a message over SQS: a UUID of version 8, which needs no column.

    A redrive gives a message another one, as a move task of SQS does; a burial does not. After
    2,047 redrives the ids of one message begin again.

    Args:
        database: the identity of the database, of 48 bits.
        message_id: the id of its row.
        redrives: its recovery_count.

    Raises:
        InvalidInput: a number that has more bits.
    """
    if not 0 <= database < 1 << DATABASE_BITS or not 0 <= message_id < 1 << _ID_BITS:
        raise InvalidInput(f"No message has the id {shown(message_id)} in {shown(database)}.")
    number = database << _ID_BITS | message_id
    number = number << _REDRIVE_BITS | redrives % (1 << _REDRIVE_BITS)
    high, low = number >> 62, number & (1 << 62) - 1
    high = high >> 12 << 16 | _VERSION << 12 | high & 0xFFF
    return uuid.UUID(int=high << 64 | _VARIANT << 62 | low)


def row_of_uuid(text: str) -> tuple[int, int, int] | None:
    """Return the database, the id of the row and the redrives of `message_uuid`.

    None: it is no id that it returns.
    """
    try:
        value = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
    high, low = value.int >> 64, value.int & (1 << 64) - 1
    if high >> 12 & 0xF != _VERSION or low >> 62 != _VARIANT:
        return None
    number = (high >> 16 << 12 | high & 0xFFF) << 62 | low & (1 << 62) - 1
    number, redrives = number >> _REDRIVE_BITS, number & (1 << _REDRIVE_BITS) - 1
    return number >> _ID_BITS, number & (1 << _ID_BITS) - 1, redrives
