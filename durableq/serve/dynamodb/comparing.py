"""The order, equality and size of attribute values that are checked."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from durableq.serve.dynamodb.values import SET_TYPES, Attribute, Attributes

#: The types that have an order.
_ORDERED: Final = {"S", "N", "B"}


def type_of(value: Attribute) -> str:
    """Return the type of a value, such as "S"."""
    return next(iter(value))


def are_equal(first: Attribute | None, second: Attribute | None) -> bool:
    """Return whether two values are of one type and equal; sets have no order."""
    if first is None or second is None:
        return False
    kind = type_of(first)
    if kind != type_of(second):
        return False
    left, right = first[kind], second[kind]
    if kind in SET_TYPES:
        return set(left) == set(right)
    if kind == "L":
        return len(left) == len(right) and all(map(are_equal, left, right))
    if kind == "M":
        return left.keys() == right.keys() and all(are_equal(left[k], right[k]) for k in left)
    return bool(left == right)


def compare(first: Attribute | None, second: Attribute | None) -> int | None:
    """Return -1, 0 or 1; None if the two are not of one type that has an order."""
    if first is None or second is None:
        return None
    kind = type_of(first)
    if kind not in _ORDERED or kind != type_of(second):
        return None
    left, right = _key(kind, first[kind]), _key(kind, second[kind])
    return int(left > right) - int(left < right)


def _key(kind: str, content: str) -> Any:
    if kind == "N":
        return Decimal(content)
    return base64.b64decode(content) if kind == "B" else content.encode()


def begins_with(value: Attribute | None, start: Attribute | None) -> bool:
    """Return whether a text or a binary value begins with another one of its type."""
    if value is None or start is None:
        return False
    kind = type_of(value)
    if kind not in {"S", "B"} or kind != type_of(start):
        return False
    return bool(_key(kind, value[kind]).startswith(_key(kind, start[kind])))


def contains(value: Attribute | None, part: Attribute | None) -> bool:
    """Return whether a text or a binary value has a part, or a set or list a member."""
    if value is None or part is None:
        return False
    kind, of_part = type_of(value), type_of(part)
    if kind == "L":
        return any(are_equal(member, part) for member in value["L"])
    if kind in SET_TYPES:
        return SET_TYPES[kind] == of_part and part[of_part] in value[kind]
    return (
        kind in {"S", "B"} and kind == of_part and _key(kind, part[kind]) in _key(kind, value[kind])
    )


def length(value: Attribute | None) -> Attribute | None:
    """Return the number that the function `size` gives; None if the type has no size."""
    if value is None:
        return None
    kind = type_of(value)
    if kind in {"N", "BOOL", "NULL"}:
        return None
    content = base64.b64decode(value["B"]) if kind == "B" else value[kind]
    return {"N": str(len(content))}


def bytes_of_attributes(attributes: Attributes) -> int:
    """Return the size that counts for the limit of 400 KB and for capacity units."""
    return sum(len(name.encode()) + bytes_of(value) for name, value in attributes.items())


def bytes_of(value: Attribute) -> int:
    """Return the size of one value, in bytes."""
    kind = type_of(value)
    content = value[kind]
    if kind in {"NULL", "BOOL"}:
        return 1
    if isinstance(content, Mapping):
        return 3 + len(content) + bytes_of_attributes(content)
    if kind == "L":
        return 3 + sum(1 + bytes_of(member) for member in content)
    if kind in SET_TYPES:
        return sum(_bytes_of_scalar(SET_TYPES[kind], member) for member in content)
    return _bytes_of_scalar(kind, content)


def _bytes_of_scalar(kind: str, content: str) -> int:
    if kind != "N":
        return len(_key(kind, content))
    digits = content.lstrip("-").replace(".", "").strip("0")
    return 1 + (len(digits) + 1) // 2 + content.startswith("-")
