"""Values as PostgreSQL's binary form has them: the driver's own way takes a microsecond for each.

https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from struct import Struct
from typing import Any, Final

_HEAD: Final = Struct("!iiIii").pack
_LENGTH: Final = Struct("!i").pack
_WHOLE: Final = Struct("!q").pack
_ELEMENT: Final = Struct("!iq").pack
_NULL: Final = _LENGTH(-1)
#: The types of elements, by their numbers in pg_type.
_TEXT, _BYTEA, _INT8 = 25, 17, 20


def whole(number: int | None) -> bytes | None:
    """Return a bigint."""
    return None if number is None else _WHOLE(number)


def text(value: str) -> bytes:
    """Return a text; the server refuses one that is not Unicode."""
    return value.encode("utf-8", "surrogatepass")


def wholes(numbers: Sequence[int | None]) -> bytes:
    """Return a bigint[]."""
    head = _HEAD(1, 1, _INT8, len(numbers), 1)
    if None in numbers:
        return head + b"".join(_NULL if one is None else _ELEMENT(8, one) for one in numbers)
    present: Iterable[Any] = numbers
    return head + b"".join(map(_ELEMENT, repeat(8), present))


def texts(values: Sequence[str | bytes | None]) -> bytes:
    r"""Return a text[]; bytes become `\x` and two digits for each, as a body stores them."""
    return _array(_TEXT, [one.encode() if type(one) is str else _as_text(one) for one in values])


def byte_strings(values: Sequence[bytes | bytearray | None]) -> bytes:
    """Return a bytea[]."""
    return _array(_BYTEA, values)


def _as_text(value: Any) -> bytes | None:
    return None if value is None else b"\\x" + value.hex().encode()


def _array(kind: int, values: Sequence[bytes | bytearray | None]) -> bytes:
    parts: list[bytes | bytearray] = [_HEAD(1, 1, kind, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH(len(value)), value)
    return b"".join(parts)
