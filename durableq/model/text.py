"""Text from messages, made safe to print: control characters are shown as escapes."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Final

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}
#: Controls, formats (bidi overrides, zero widths), surrogates, private, unassigned, separators:
#: all that is not printable, apart from the space.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
#: Stands for what was cut from a text.
ELLIPSIS: Final = "…"
#: The length of a value in an error message.
SHOWN_CHARS: Final = 60

_brief: Final = reprlib.Repr()
_brief.maxlevel = 3
_brief.maxstring = _brief.maxlong = _brief.maxother = SHOWN_CHARS


def visible(text: str, limit: int | None = None) -> str:
    r"""Return text on one line, with each unprintable character as an escape.

    Control characters, ANSI sequences, bidirectional overrides and lone surrogates become
    `\n`, `\e`, `\u202e` and the like, so that text cannot move a cursor or reorder a line.

    Args:
        text: from a message, a handler or an error.
        limit: the longest result, an ellipsis included; None means all of it.
    """
    shown = text if limit is None else text[: limit + 1]
    if not shown.isprintable():  # otherwise none is in _UNSAFE
        shown = "".join(_escape(character) for character in shown)
    if limit is not None and len(shown) > limit:
        return shown[: max(limit - 1, 0)] + ELLIPSIS[:limit]
    return shown


def shown(value: object) -> str:
    """Return a short form of a value for an error message, on one line.

    Text is quoted, and followed by its length if it was cut. The value may be of any type, also
    one whose `repr` fails.
    """
    if isinstance(value, (str, bytes)) and len(value) > SHOWN_CHARS:
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{visible(repr(value[:SHOWN_CHARS]))}{ELLIPSIS} ({len(value):,} {unit})"
    try:
        text = repr(value) if isinstance(value, str) else _brief.repr(value)
    except Exception:  # noqa: BLE001 - code of the value's type, and integers of many digits
        text = f"<{type(value).__name__}>"
    return visible(text, None if isinstance(value, str) else 2 * SHOWN_CHARS)


def storable(text: str) -> str:
    """Return text with lone surrogates, which UTF-8 cannot encode, as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_storable(text: str) -> bool:
    """Return whether a text contains no lone surrogate."""
    return storable(text) == text


def _escape(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _UNSAFE:
        return character
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}")
