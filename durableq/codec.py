"""What a body may be, and how it is written: JSON as text, bytes as bytes, nothing else.

Never pickle: whoever can write the file could otherwise run code in every worker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from durableq.errors import InvalidBody, InvalidInput, InvalidResult
from durableq.limits import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_BODY_DEPTH,
    MAX_RESULT_BYTES,
)

Encoded = str | bytes
"""A body as it is stored: `str` is JSON text, `bytes` are the sender's own bytes."""
Json = Any
"""dict, list, str, int, float, bool or None, nested to at most MAX_BODY_DEPTH."""

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_canonical = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def encode(body: Json | bytes) -> Encoded:
    """Return the stored form of a body.

    Raises:
        InvalidBody: not JSON or bytes (NaN, a set, a lone surrogate …), or nested too deep.
    """
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    text = _json_text(body, "body", InvalidBody)
    if text.count("[") + text.count("{") > MAX_BODY_DEPTH and _depth(text) > MAX_BODY_DEPTH:
        raise InvalidBody(f"The body is nested more than {MAX_BODY_DEPTH} levels deep.")
    return text


def decode(stored: Encoded) -> Any:
    """Return the body a sender gave: JSON decoded, bytes as they are.

    Raises:
        InvalidBody: what is in the file is no bytes and no JSON (somebody else wrote it).
    """
    if isinstance(stored, bytes):
        return stored
    if not isinstance(stored, str):
        raise InvalidBody(f"The stored body is neither text nor bytes, but {stored!r}.")
    try:
        if not stored.isascii():
            stored.encode()  # what the file holds may not be UTF-8; an engine marks it so
        return json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise InvalidBody(f"The stored body is not JSON: {error}.") from error


def encode_result(result: Json) -> str | None:
    """Return a handler's result as it is kept for duplicates; None stays None.

    Raises:
        InvalidResult: JSON cannot hold it, or it is over MAX_RESULT_BYTES.
    """
    if result is None:
        return None
    text = _json_text(result, "result", InvalidResult)
    if size(text) > MAX_RESULT_BYTES:
        raise InvalidResult(
            f"The result has {size(text)} bytes; at most {MAX_RESULT_BYTES} are kept. "
            "Return a reference to it instead."
        )
    return text


def encode_attributes(attributes: Mapping[str, str | int | float] | None) -> str | None:
    """Return attributes as stored: a JSON object of strings and numbers, or None.

    Raises:
        InvalidInput: more than MAX_ATTRIBUTES, a name or value of another type, or too large.
    """
    if not attributes:
        return None
    if not isinstance(attributes, Mapping):
        raise InvalidInput(f"Attributes are a mapping, not {type(attributes).__name__}.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidInput(f"{len(attributes)} attributes given; at most {MAX_ATTRIBUTES} fit.")
    for name, value in attributes.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"An attribute's name is a non-empty string, not {name!r}.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InvalidInput(
                f"Attribute {name!r} is a {type(value).__name__}; "
                "attributes hold strings and numbers."
            )
    text = _json_text(dict(attributes), "attributes", InvalidInput)
    if size(text) > MAX_ATTRIBUTES_BYTES:
        raise InvalidInput(
            f"The attributes have {size(text)} bytes; at most {MAX_ATTRIBUTES_BYTES} fit. "
            "Put data into the body."
        )
    return text


def payload_hash(body: Json | bytes) -> bytes:
    """Return the 32 bytes that tell two payloads under one key apart.

    Order of an object's keys and the sender's JSON spelling do not matter: two producers that
    mean the same payload agree.
    """
    if isinstance(body, (bytes, bytearray, memoryview)):
        return hashlib.sha256(b"bytes:" + bytes(body)).digest()
    try:
        text = _canonical(body)
    except TypeError:  # keys of mixed types cannot be sorted; as stored they are all strings
        text = _canonical(json.loads(_dumps(body)))
    return hashlib.sha256(text.encode()).digest()


def size(stored: Encoded) -> int:
    """Return the bytes a stored body takes."""
    if isinstance(stored, str) and not stored.isascii():
        return len(stored.encode())
    return len(stored)


def _json_text(value: Json, what: str, error_class: type[InvalidInput]) -> str:
    text = ""
    try:
        text = _dumps(value)
        if not text.isascii():
            text.encode()
    except RecursionError:
        raise error_class(f"The {what} is nested too deep, or contains itself.") from None
    except UnicodeEncodeError as error:
        raise error_class(
            f"The {what} contains a lone surrogate (U+{ord(text[error.start]):04X}), "
            "which is not text. Replace it before sending."
        ) from None
    except (TypeError, ValueError) as error:
        raise error_class(
            f"JSON cannot hold this {what}: {error}. Use objects, arrays, strings, finite "
            "numbers, true, false, null (or bytes, for a body)."
        ) from None
    return text


def _depth(text: str) -> int:
    """Return how deep JSON text nests, reading it once and recursing nowhere."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
