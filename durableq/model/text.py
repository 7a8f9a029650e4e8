"""Text from messages, made safe to print: control characters are shown as escapes."""

from __future__ import annotations

import re
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
#: The length of a quoted text with its escapes, each of which has up to ten characters.
_QUOTED_CHARS: Final = 80
#: Schemes whose URLs name no user.
_WITHOUT_USER: Final = frozenset({"sqlite", "memory"})
#: Options of a URL that are secret.
_SECRET_OPTIONS: Final = frozenset({"password", "sslpassword"})
#: From the first colon to the last @: a password may have any character by mistake.
_PASSWORD: Final = re.compile(r"(?<=:).*(?=@)", re.DOTALL)
_HIDDEN: Final = "***"

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
    if isinstance(value, (str, bytes)):
        quoted = visible(repr(value[:SHOWN_CHARS]))
        if len(value) <= SHOWN_CHARS and len(quoted) <= _QUOTED_CHARS:
            return quoted
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{quoted[:_QUOTED_CHARS]}{ELLIPSIS} ({len(value):,} {unit})"
    try:
        text = _brief.repr(value)
    except Exception:  # noqa: BLE001 - code of the value's type, and integers of many digits
        text = f"<{type(value).__name__}>"
    return visible(text, 2 * SHOWN_CHARS)


def address(url: str) -> str:
    """Return a URL without its passwords, to be shown."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() in _WITHOUT_USER:
        return url
    before, question, query = _PASSWORD.sub(_HIDDEN, rest, count=1).partition("?")
    options = "&".join(map(_without_secret, query.split("&")))
    return f"{scheme}://{before}{question}{options}"


def storable(text: str) -> str:
    """Return text with lone surrogates, which UTF-8 cannot encode, as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_storable(text: str) -> bool:
    """Return whether a text contains no lone surrogate."""
    return storable(text) == text


def _without_secret(option: str) -> str:
    name, equals, _ = option.partition("=")
    is_secret = name.lower() in _SECRET_OPTIONS or "%" in name  # an escape may stand for a letter
    return f"{name}{equals}{_HIDDEN}" if is_secret else option


def _escape(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _UNSAFE:
        return character
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}")
