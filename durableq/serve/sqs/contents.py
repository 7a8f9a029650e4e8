"""The content of a message that is sent: body, attributes, identifiers, sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from durableq.serve.errors import INVALID_MESSAGE_CONTENTS, SERIALIZATION, ServiceError
from durableq.serve.sqs.reading import (
    Parameters,
    bounded,
    checked_text,
    invalid,
    invalid_value,
    mapped,
    missing,
    text,
)

#: The most bytes of a message, with its attributes, and of a batch.
MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_DELAY_SECONDS: Final = 900
MAX_MESSAGE_ATTRIBUTES: Final = 10
MAX_NAME_CHARS: Final = 256
#: The system attribute that a sender may set.
TRACE_HEADER: Final = "AWSTraceHeader"

_BODY: Final = re.compile("[\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_NAME: Final = re.compile("[\u00c0-\u017fA-Za-z0-9_.-]+")
_RESERVED: Final = ("aws.", "amazon.", ".")
_TYPE: Final = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_IDENTIFIER: Final = re.compile("[!-~]{1,128}")
_CHARACTERS: Final = (
    "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
    "#xE000 to #xFFFD | #x10000 to #x10FFFF"
)

#: Attributes by name: a DataType, and a StringValue or a BinaryValue, as bytes.
Attributes = dict[str, dict[str, Any]]


def body_of(parameters: Parameters) -> str:
    """Return the body of a message.

    Raises:
        ServiceError: there is none, or it has characters that XML does not have.
    """
    body = parameters.get("MessageBody")
    if body is None or body == "":
        raise missing("MessageBody")
    if not isinstance(body, str):
        checked_text(body, "MessageBody")
    if not _BODY.fullmatch(body):
        raise ServiceError(INVALID_MESSAGE_CONTENTS, _CHARACTERS)
    return str(body)


def attributes_of(parameters: Parameters) -> Attributes:
    """Return the attributes of a message.

    Raises:
        ServiceError: too many, or one is not valid.
    """
    given = mapped(parameters, "MessageAttributes")
    if len(given) > MAX_MESSAGE_ATTRIBUTES:
        raise invalid(
            f"Number of message attributes [{len(given)}] exceeds the allowed maximum "
            f"[{MAX_MESSAGE_ATTRIBUTES}]."
        )
    return {name: _attribute(name, value) for name, value in given.items()}


def system_attributes_of(parameters: Parameters) -> Attributes:
    """Return the system attributes of a message, of which a sender has one.

    Raises:
        ServiceError: another one, or no text.
    """
    given = mapped(parameters, "MessageSystemAttributes")
    for name in given:
        if name != TRACE_HEADER:
            raise invalid(
                f"Message system attribute name '{name}' is invalid: the only one that a sender "
                f"can set is {TRACE_HEADER}."
            )
    attributes = {name: _attribute(name, value) for name, value in given.items()}
    if any(value["DataType"] != "String" for value in attributes.values()):
        raise invalid(f"Message system attribute '{TRACE_HEADER}' must be of the type 'String'.")
    return attributes


def _attribute(name: str, value: object) -> dict[str, Any]:
    """Return a checked attribute, without members that its type does not have."""
    _check_name(name)
    if not isinstance(value, dict):
        raise ServiceError(SERIALIZATION, "A message attribute is a structure.")
    data_type = text(value, "DataType")
    if not data_type:
        raise invalid(
            f"The message attribute '{name}' must contain non-empty message attribute type."
        )
    if not (found := _TYPE.fullmatch(data_type)):
        raise invalid(
            f"The message attribute '{name}' has an invalid message attribute type, the set of "
            "supported type prefixes is Binary, Number, and String."
        )
    if len(data_type) > MAX_NAME_CHARS:
        raise invalid("Message (user) attribute types must be shorter than 256 Bytes")
    kind = found[1]
    if kind == "Binary":
        content = _binary(name, value.get("BinaryValue"))
        return {"DataType": data_type, "BinaryValue": content}
    return {"DataType": data_type, "StringValue": _string(name, kind, value)}


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME_CHARS:
        raise invalid("Message (user) attribute names must be shorter than 256 Bytes")
    if not _NAME.fullmatch(name):
        raise invalid(
            f"The message attribute name '{name}' is invalid. Attribute name can contain A-Z, a-z, "
            "0-9, underscore (_), hyphen (-), and period (.) characters."
        )
    if name.lower().startswith(_RESERVED) or name.endswith(".") or ".." in name:
        raise invalid(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These "
            "strings are reserved for internal use. Additionally, they cannot start or end with "
            "'.'."
        )


def _string(name: str, kind: str, value: Mapping[str, Any]) -> str:
    content = value.get("StringValue")
    if content is None or content == "":
        raise invalid(
            f"Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
        )
    if not isinstance(content, str):
        checked_text(content, name)
    if not _BODY.fullmatch(content):
        raise invalid(_CHARACTERS)
    if kind == "Number" and not _NUMBER.fullmatch(content):
        raise invalid(f"Can't cast the value of message (user) attribute '{name}' to a number.")
    return str(content)


def _binary(name: str, content: object) -> bytes:
    if content is not None and not isinstance(content, bytes):
        raise ServiceError(SERIALIZATION, f"The value of message attribute '{name}' is not binary.")
    if not content:
        raise invalid(
            f"Message (user) attribute '{name}' must contain a non-empty value of type 'Binary'."
        )
    return content


def size_of(body: object, attributes: object) -> int:
    """Return the bytes of a message: its body, and names, types and values of its attributes.

    Args:
        body: the text; something else has no size, and is refused elsewhere.
        attributes: as they were sent.
    """
    size = _bytes_of(body)
    if not isinstance(attributes, dict):
        return size
    for name, value in attributes.items():
        size += _bytes_of(name)
        if isinstance(value, dict):
            size += sum(map(_bytes_of, map(value.get, ("DataType", "StringValue", "BinaryValue"))))
    return size


def _bytes_of(part: object) -> int:
    if isinstance(part, bytes):
        return len(part)
    return len(part.encode(errors="surrogatepass")) if isinstance(part, str) else 0


def check_size(size: int, most: int) -> None:
    """Check the size of a message.

    Raises:
        ServiceError: it is larger than the queue takes.
    """
    if size > most:
        reason = f"Message must be shorter than {most} bytes."
        raise invalid(f"One or more parameters are invalid. Reason: {reason}")


def identifier(parameters: Parameters, name: str) -> str | None:
    """Return the id of a group or of a deduplication; None if it is not given.

    Raises:
        ServiceError: it is not valid.
    """
    value = text(parameters, name)
    if value is not None and not _IDENTIFIER.fullmatch(value):
        raise invalid_value(
            value,
            name,
            f"{name} can only include alphanumeric and punctuation characters. 1 to 128 in length.",
        )
    return value


def delay_of(parameters: Parameters) -> int | None:
    """Return the delay in seconds; None if it is not given.

    Raises:
        ServiceError: it is out of bounds.
    """
    reason = f"DelaySeconds must be >= 0 and <= {MAX_DELAY_SECONDS}."
    return bounded(parameters, "DelaySeconds", 0, MAX_DELAY_SECONDS, reason)
