"""Attribute values: `{"S": "text"}` and nine other types. Checked, compared, and measured.

A checked value is in one form: numbers without an exponent and without needless zeros, binary
values as base64 text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

#: A value by its type, such as `{"N": "1"}`: exactly one entry.
Attribute = Mapping[str, Any]
#: Attributes by name.
Attributes = Mapping[str, Attribute]

TYPES: Final = ("S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL")
SET_TYPES: Final = {"SS": "S", "NS": "N", "BS": "B"}
MAX_DIGITS: Final = 38
MAX_EXPONENT: Final = 125
MIN_EXPONENT: Final = -130
#: Levels of lists and maps within each other.
MAX_DEPTH: Final = 32
MAX_ATTRIBUTES_BYTES: Final = 400 * 1024

#: Exact for the sum of the largest and the smallest number.
_EXACT: Final = Context(prec=MAX_EXPONENT - MIN_EXPONENT + 2 * MAX_DIGITS)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_INVALID: Final = "One or more parameter values were invalid: "
#: With DynamoDB's own grammar and spaces.
_EMPTY_SETS: Final = {
    "SS": "An string set  may not be empty",
    "NS": "An number set  may not be empty",
    "BS": "Binary sets should not be empty",
}


class ValidationError(ValueError):
    """A request is not valid; the text is DynamoDB's."""


class SerializationError(ValueError):
    """A member of a request has another JSON type than the protocol says."""


def checked(value: object, depth: int = 0) -> dict[str, Any]:
    """Return a value in the one form.

    Args:
        value: as it is in a request.
        depth: the number of lists and maps around it.

    Raises:
        ValidationError: it is no value of DynamoDB, or out of its limits.
        SerializationError: it has other JSON types.
    """
    if not isinstance(value, Mapping):
        raise SerializationError("Unexpected value type in payload")
    types = [name for name, content in value.items() if content is not None]
    if unknown := [name for name in types if name not in TYPES]:
        raise ValidationError(
            f"{unknown[0]!r} is no type of an attribute value; the types are {', '.join(TYPES)}"
        )
    if not types:
        raise ValidationError(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
        )
    if len(types) > 1:
        raise ValidationError(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of "
            "the supported datatypes"
        )
    return {types[0]: _content(types[0], value[types[0]], depth)}


def checked_attributes(attributes: object, depth: int = 0) -> dict[str, dict[str, Any]]:
    """Return attributes by name with their values in the one form.

    Raises:
        ValidationError, SerializationError: see `checked`.
    """
    if not isinstance(attributes, Mapping):
        raise SerializationError("Unexpected field type")
    for name in attributes:
        if not isinstance(name, str):
            raise SerializationError("Unexpected field type")
        if not name:
            raise ValidationError(_INVALID + "An attribute name may not be empty")
        if len(utf8(name)) > 65_535:
            raise ValidationError(_INVALID + "An attribute name is longer than 65535 bytes")
    return {name: checked(value, depth) for name, value in attributes.items()}


def _content(kind: str, content: Any, depth: int) -> Any:
    if kind in SET_TYPES:
        return _members(kind, content)
    if kind in {"L", "M"}:
        if depth >= MAX_DEPTH:
            raise ValidationError("Nesting Levels have exceeded supported limits")
        if kind == "M":
            return checked_attributes(content, depth + 1)
        if not isinstance(content, list):
            raise SerializationError("Unexpected field type")
        return [checked(value, depth + 1) for value in content]
    return _scalar(kind, content)


def _scalar(kind: str, content: Any) -> Any:
    if kind in {"NULL", "BOOL"}:
        if not isinstance(content, bool):
            raise SerializationError("Unexpected token received from parser")
        if kind == "NULL" and not content:
            raise ValidationError(
                _INVALID + "Null attribute value types must have the value of true"
            )
        return content
    if kind == "B":
        return _base64(content)
    if not isinstance(content, str):
        raise SerializationError(f"{type(content).__name__} cannot be converted to String")
    if kind == "N":
        return number(content)
    utf8(content)
    return content


def _members(kind: str, content: Any) -> list[str]:
    """Return the members of a set, each once."""
    if not isinstance(content, list):
        raise SerializationError("Unexpected field type")
    if not content:
        raise ValidationError(_INVALID + _EMPTY_SETS[kind])
    members = [_scalar(SET_TYPES[kind], member) for member in content]
    if len(set(members)) < len(members):
        if kind == "NS":
            raise ValidationError("Input collection contains duplicates")
        of = " of type BS" if kind == "BS" else ""
        shown = ", ".join(members)
        raise ValidationError(f"{_INVALID}Input collection [{shown}]{of} contains duplicates.")
    return members


def utf8(text: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
        SerializationError: it has none.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SerializationError("Text has half of a surrogate pair, which is no UTF-8") from error


def _base64(content: Any) -> str:
    if isinstance(content, bytes | bytearray):
        return base64.b64encode(content).decode()
    if not isinstance(content, str):
        raise SerializationError("only base-64-encoded strings are convertible to bytes")
    try:
        return base64.b64encode(base64.b64decode(content, validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        raise SerializationError("only base-64-encoded strings are convertible to bytes") from error


def number(text: str) -> str:
    """Return a number in the one form: `1E2` is `100`, and `1.0` is `1`.

    Raises:
        ValidationError: the text is no number, or one of more than 38 digits or out of range.
    """
    if not text:
        raise ValidationError("The parameter cannot be converted to a numeric value")
    if not _NUMBER.fullmatch(text):
        raise ValidationError(f"The parameter cannot be converted to a numeric value: {text}")
    try:
        return plain(Decimal(text))
    except InvalidOperation as error:  # an exponent beyond all bounds
        raise ValidationError(
            f"The parameter cannot be converted to a numeric value: {text}"
        ) from error


def plain(value: Decimal) -> str:
    """Return the text of a number.

    Raises:
        ValidationError: it has more than 38 digits, or is out of range.
    """
    if not value:
        return "0"
    range_of = "Attempting to store a number with magnitude {} than supported range"
    if value.adjusted() > MAX_EXPONENT:
        raise ValidationError("Number overflow. " + range_of.format("larger"))
    if value.adjusted() < MIN_EXPONENT:
        raise ValidationError("Number underflow. " + range_of.format("smaller"))
    if len("".join(map(str, value.as_tuple().digits)).strip("0")) > MAX_DIGITS:
        raise ValidationError("Attempting to store more than 38 significant digits in a Number")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def add(first: str, second: str, sign: int = 1) -> str:
    """Return the sum of two numbers; the difference with the sign -1.

    Raises:
        ValidationError: see `plain`.
    """
    return plain(_EXACT.add(Decimal(first), _EXACT.multiply(Decimal(second), Decimal(sign))))
