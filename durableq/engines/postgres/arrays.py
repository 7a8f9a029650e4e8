"""Arrays as parameters: built here, for the driver's own way takes a microsecond a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from struct import Struct
from typing import Any, Final

from psycopg import adapt, pq

_HEAD: Final = Struct("!iiIii").pack
_LENGTH: Final = Struct("!i").pack
_WHOLE: Final = Struct("!iq").pack
_NULL: Final = _LENGTH(-1)
_TEXT, _BYTEA, _INT8 = 25, 17, 20
_TEXTS, _BYTE_STRINGS, _WHOLES = 1009, 1001, 1016


class Wholes(tuple[int | None, ...]):
    """Whole numbers of 64 bits."""

    __slots__ = ()


class Texts(tuple[str | bytes | None, ...]):
    r"""Texts; bytes become `\x` and two digits for each, as a body stores them."""

    __slots__ = ()


class ByteStrings(tuple[bytes | bytearray | None, ...]):
    """Strings of bytes."""

    __slots__ = ()


class _ArrayDumper(adapt.Dumper):
    """A dumper of one-dimensional arrays in PostgreSQL's binary form."""

    format = pq.Format.BINARY


class WholesDumper(_ArrayDumper):
    """Dumps Wholes."""

    oid = _WHOLES

    def dump(self, obj: Wholes) -> bytes:
        """Return the array."""
        head = _HEAD(1, 1, _INT8, len(obj), 1)
        if None in obj:
            return head + b"".join(_NULL if one is None else _WHOLE(8, one) for one in obj)
        numbers: Iterable[Any] = obj
        return head + b"".join(map(_WHOLE, repeat(8), numbers))


class TextsDumper(_ArrayDumper):
    """Dumps Texts."""

    oid = _TEXTS

    def dump(self, obj: Texts) -> bytes:
        """Return the array."""
        return _joined(
            _TEXT, [_as_text(one) if type(one) is not str else one.encode() for one in obj]
        )


class ByteStringsDumper(_ArrayDumper):
    """Dumps ByteStrings."""

    oid = _BYTE_STRINGS

    def dump(self, obj: ByteStrings) -> bytes:
        """Return the array."""
        return _joined(_BYTEA, obj)


def _as_text(value: str | bytes | None) -> bytes | None:
    if value is None:
        return None
    return b"\\x" + value.hex().encode() if isinstance(value, bytes) else value.encode()


def _joined(kind: int, values: Sequence[bytes | bytearray | None]) -> bytes:
    parts: list[bytes | bytearray] = [_HEAD(1, 1, kind, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH(len(value)), value)
    return b"".join(parts)


DUMPERS: Final = (
    (Wholes, WholesDumper),
    (Texts, TextsDumper),
    (ByteStrings, ByteStringsDumper),
)
