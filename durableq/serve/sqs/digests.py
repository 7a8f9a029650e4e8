"""The MD5 digests by which SDKs check that a message arrived as it was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

#: Marks of the kinds of values in the digest of attributes.
_STRING: Final = b"\x01"
_BINARY: Final = b"\x02"


def of_body(body: str) -> str:
    """Return the digest of a body, in hexadecimal."""
    return _md5(body.encode())


def of_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the digest of message attributes, in hexadecimal; None if there are none.

    Args:
        attributes: by name; each has a DataType and a StringValue, or a BinaryValue as bytes.
    """
    if not attributes:
        return None
    parts: list[bytes] = []
    for name in sorted(attributes):
        value = attributes[name]
        parts += (_sized(name.encode()), _sized(value["DataType"].encode()))
        if "BinaryValue" in value:
            parts += (_BINARY, _sized(value["BinaryValue"]))
        else:
            parts += (_STRING, _sized(value["StringValue"].encode()))
    return _md5(b"".join(parts))


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
