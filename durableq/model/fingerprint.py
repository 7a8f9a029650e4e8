"""Fingerprints: the identity of failures with the same type, place and kind of message."""

from __future__ import annotations

import hashlib
import re
from typing import Final

FINGERPRINT_CHARS: Final = 12
#: The characters of a message that count.
READ_CHARS: Final = 1_000

_DATE: Final = r"\b\d{4}-\d\d-\d\d"
_CLOCK: Final = r"\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?"
#: The order matters: quoted text is replaced first, with everything in it.
_PARTICULARS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), sign)
    for pattern, sign in (
        (r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`", "<text>"),
        (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
        (rf"{_DATE}(?:[t ]{_CLOCK}(?:z|[-+]\d\d:?\d\d)?)?|\b{_CLOCK}\b", "<time>"),
        (r"(?<![\w<])(?:[a-z]:\\|~?\.{0,2}/)[^\s'\":;,()<>]+", "<path>"),
        (r"\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b", "<hex>"),
        (r"(?:(?<!\w)[-+])?\d+(?:[.,]\d+)*", "<number>"),
        (r"\s+", " "),
    )
)


def normalised(message: str) -> str:
    """Return the beginning of a message with a sign for each number, quoted text, path, time or id.

    "no order 17" and "no order 18" become equal.
    """
    for pattern, sign in _PARTICULARS:
        message = pattern.sub(sign, message[:READ_CHARS])
    return message.strip()


def fingerprint(error_type: str, message: str, place: str = "") -> str:
    """Return the fingerprint of a failure: 12 hexadecimal digits.

    Args:
        error_type: the name of the exception, or another name for the kind of failure.
        message: the message of the exception.
        place: the top frame of the user's code, "shop.py:charge", without line numbers, which move.
    """
    text = "\0".join((error_type, normalised(message), place))
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:FINGERPRINT_CHARS]
