"""The encoding of the parts of a message: JSON as text, bytes as bytes.

Never pickle: a process that can write the file could then run code in every worker.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from durableq.model.errors import InvalidBody, InvalidInput, InvalidResult
from durableq.model.limits import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_BODY_DEPTH,
    MAX_ONCE_BYTES,
    MAX_RESULT_BYTES,
)
from durableq.model.text import shown, visible

#: The stored form of a body: `str` is JSON text, `bytes` are the bytes of the sender.
Encoded = str | bytes
#: dict, list, str, int, float, bool or None, and objects that a converter takes, nested to at most
#: MAX_BODY_DEPTH.
Json = Any

#: Types of names and values in a flat JSON object.
_TEXT: Final = frozenset({str})
_FLAT: Final = frozenset({str, int, float, bool, type(None)})

#: Without an exponent: 15 digits, which every double keeps, and a point.
SURELY_EXACT_CHARS: Final = 16


#: Returns an object that JSON does not know as a JSON value, or raises TypeError; at most one.
_converters: Final[list[Callable[[Any], Json]]] = []


def encode_objects_by(convert: Callable[[Any], Json]) -> None:
    """Let bodies and results hold objects that this function returns as JSON values."""
    _converters[:] = [convert]


def _plain(value: Any) -> Json:
    if not _converters:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    made = _converters[0](value)
    _check_names(made, "body", InvalidBody)
    return made


_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
).encode
_canonical = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True).encode
_decoder: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once
_in_order = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _flat_encoder() -> Callable[[Json, int], Iterable[str]]:
    """Return an encoder of values without a list or object in them: it takes half the time.

    JSONEncoder makes the encoder that it has in C anew for each value, with a table of the objects
    that it is inside of. A flat value needs no such table, so one encoder does for all of them.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # no CPython
        return lambda value, _: (_dumps(value),)
    text: Any = json.encoder.encode_basestring
    encoder: Callable[[Json, int], Iterable[str]] = make(
        None, json.JSONEncoder().default, text, None, ":", ",", False, False, False
    )
    return encoder


_flat_parts: Final = _flat_encoder()


def encode(body: Json | bytes) -> Encoded:
    """Return the stored form of a body.

    Raises:
        InvalidBody: not JSON or bytes (NaN, a set, a lone surrogate …), nested too deep, or an
            object with two names that JSON writes alike ({1: …, "1": …}).
    """
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    # A flat object needs no check of its depth; names of other types might be written alike.
    is_flat = (
        _TEXT.issuperset(map(type, body)) and _FLAT.issuperset(map(type, body.values()))
        if type(body) is dict
        else type(body) in _FLAT
    )
    if is_flat:
        with suppress(ValueError):  # NaN, or an integer too long: below
            text = "".join(_flat_parts(body, 0))
            if text.isascii():
                return text
    text = _json_text(body, "body", InvalidBody)
    if text.count("[") + text.count("{") > MAX_BODY_DEPTH and _depth(text) > MAX_BODY_DEPTH:
        raise InvalidBody(f"The body is nested more than {MAX_BODY_DEPTH} levels deep.")
    return text


def decode(stored: Encoded) -> Any:
    """Return a stored body: JSON decoded, bytes unchanged.

    Raises:
        InvalidBody: the stored value is neither bytes nor JSON (another program wrote it).
    """
    if isinstance(stored, bytes):
        return stored
    if not isinstance(stored, str):
        raise InvalidBody(f"The stored body is neither text nor bytes, but {shown(stored)}.")
    try:
        if not stored.isascii():
            stored.encode()  # raises for text that was not UTF-8: engines decode it to surrogates
        return _decoded(stored)
    except (ValueError, RecursionError) as error:
        raise InvalidBody(f"The stored body is not JSON: {error}.") from error


def _decoded(text: str) -> Any:
    """Return decoded JSON, as json.loads does, in half of the time if nothing is around it."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # other text, or space before the JSON
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


class NotJson(InvalidBody):
    """Text that is not JSON at all."""


class InexactNumber(InvalidBody):
    """A JSON number that no double holds."""


class Spelled(str):
    """A JSON number with a fraction or an exponent, as its text spells it."""

    __slots__ = ()


def read_json(text: bytes, *, exact: bool = True) -> Json:
    """Read JSON that another program wrote; refuse it where reading would lose or change a value.

    Args:
        text: UTF-8.
        exact: refuse numbers that no double holds; False returns those with a fraction or an
            exponent as Spelled.

    Raises:
        NotJson: it is not UTF-8, or not JSON.
        InvalidBody: NaN or Infinity, a name given twice in one object, a number that no double
            holds (InexactNumber) or of thousands of digits, or it is nested too deep.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=exact_number if exact else Spelled,
            parse_int=_whole,
            object_pairs_hook=_named_once,
        )
    except UnicodeDecodeError as error:
        byte = f"byte 0x{text[error.start]:02x} at position {error.start + 1}"
        raise NotJson(f"it is not UTF-8 ({byte}).") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"it is not JSON: {error.msg}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidBody("it is nested too deep.") from None
    except InvalidBody:
        raise
    except ValueError:
        raise InvalidBody(
            "it holds a number of thousands of digits: write it as a string."
        ) from None


def exact_number(text: str) -> float:
    """Return a JSON number with a fraction or an exponent as a float of exactly its value.

    Raises:
        InexactNumber: no float has that value.
    """
    number = float(text)
    if len(text) <= SURELY_EXACT_CHARS and "e" not in text.lower():
        return number
    try:
        is_exact = math.isfinite(number) and Decimal(repr(number)) == Decimal(text)
    except ArithmeticError:  # not even a Decimal holds its exponent
        is_exact = not text.lower().partition("e")[0].strip("-0.")
    if not is_exact:
        raise InexactNumber(
            f"the number {visible(text, 60)} would become {number!r}: no double holds it. "
            "Write it as a string."
        )
    return number


def _whole(text: str) -> int | float:
    """Return a whole number; -0 as a float, because no int has that sign."""
    return -0.0 if text == "-0" else int(text)


def _named_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidBody(
            f"an object has the name {shown(twice)} twice, and only one would be kept."
        )
    return value


def _refuse_constant(constant: str) -> Json:
    raise InvalidBody(f"it is not JSON: {constant} is not a JSON number.")


def encode_result(result: Json) -> str | None:
    """Return the stored form of a handler's result; None stays None.

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


def encode_value(value: Json) -> str:
    """Return the stored form of a value of `once`.

    Raises:
        InvalidResult: JSON cannot hold it, or it is over MAX_ONCE_BYTES or MAX_BODY_DEPTH.
    """
    text = _json_text(value, "value", InvalidResult)
    if size(text) > MAX_ONCE_BYTES:
        raise InvalidResult(
            f"The value has {size(text)} bytes; at most {MAX_ONCE_BYTES} are kept. "
            "Compute a reference to it instead."
        )
    if text.count("[") + text.count("{") > MAX_BODY_DEPTH and _depth(text) > MAX_BODY_DEPTH:
        raise InvalidResult(f"The value is nested more than {MAX_BODY_DEPTH} levels deep.")
    return text


def encode_attributes(attributes: Mapping[str, str | int | float]) -> str | None:
    """Return the stored form of attributes: a JSON object of strings and numbers, or None.

    Raises:
        InvalidInput: more than MAX_ATTRIBUTES, a name or value of another type, or too large.
    """
    if not isinstance(attributes, Mapping):
        raise InvalidInput(f"Attributes are a mapping, got {shown(attributes)}.")
    if not attributes:
        return None
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidInput(f"{len(attributes)} attributes given; at most {MAX_ATTRIBUTES} fit.")
    for name, value in attributes.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"An attribute's name is a non-empty string, got {shown(name)}.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InvalidInput(
                f"Attribute {shown(name)} is a {type(value).__name__}; "
                "attributes hold strings and numbers."
            )
    text = _json_text(dict(attributes), "attributes", InvalidInput)
    if size(text) > MAX_ATTRIBUTES_BYTES:
        raise InvalidInput(
            f"The attributes have {size(text)} bytes; at most {MAX_ATTRIBUTES_BYTES} fit. "
            "Put data into the body."
        )
    return text


def decode_attributes(stored: str | None) -> dict[str, str | int | float]:
    """Return stored attributes as a dictionary, which is empty for None."""
    return dict(json.loads(stored)) if stored else {}


def payload_hash(stored: Encoded) -> bytes:
    """Return the 32-byte hash that identifies a payload under a key.

    JSON is hashed in a canonical form like RFC 8785's: names sorted as strings, numbers by value
    (12, 12.0 and 1.2e1 are one number; integers of any size stay exact). The order of names and
    the spelling of numbers do not matter.
    """
    if isinstance(stored, bytes):
        return hashlib.sha256(b"bytes:" + stored).digest()
    canonical = _canonical(json.loads(stored, parse_float=_by_value))
    return hashlib.sha256(canonical.encode()).digest()


def same_payload(known: bytes, mine: bytes, stored: Encoded) -> bool:
    """Return whether two payload hashes stand for the same payload.

    Release 0.1 hashed some JSON in other ways: 12.0 apart from 12, and objects with names that
    were Python numbers in the order of the numbers. Its hashes stay in the file, so hashes that
    differ are compared by all the ways to hash `stored`. Each way writes the same JSON value,
    so no payload is taken for another.

    Args:
        known: the hash in the record of a key.
        mine: the hash of the message that was received.
        stored: that message's body. Recovery may have changed it, and the hash stays that of
            the original: then only equal hashes match.
    """
    return known == mine or {known, mine} <= _hashes_of(stored)


def _hashes_of(stored: Encoded) -> set[bytes]:
    """Return the hashes that any release gives to a body; none for text that is not JSON."""
    if isinstance(stored, bytes):
        return {payload_hash(stored)}
    try:
        as_0_1 = _canonical(json.loads(stored))
        as_0_1_with_numbers = _in_order(json.loads(stored, object_pairs_hook=_in_numeric_order))
        return {payload_hash(stored), _sha256(as_0_1), _sha256(as_0_1_with_numbers)}
    except (ValueError, RecursionError):
        return set()


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _by_value(text: str) -> int | float:
    """Return a JSON number with a fraction or exponent; as an integer if it is one."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _in_numeric_order(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return an object as release 0.1 hashed it: names that were numbers in their order."""
    try:
        return dict(sorted(pairs, key=lambda pair: float(pair[0])))
    except ValueError:
        return dict(sorted(pairs, key=lambda pair: pair[0]))


def size(stored: Encoded) -> int:
    """Return the size of a stored body in bytes."""
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
    except Exception as error:  # noqa: BLE001 - a user's mapping may raise anything
        raise error_class(
            f"JSON cannot hold this {what}: {visible(str(error), 200)}. Use objects, arrays, "
            "strings, finite numbers, true, false, null (or bytes, for a body)."
        ) from None
    _check_names(value, what, error_class)
    return text


def _check_names(value: Json, what: str, error_class: type[InvalidInput]) -> None:
    """Refuse an object with two names that JSON writes alike: one value would be lost."""
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            if {*map(type, inner)} - {str}:
                _check_names_of(inner, what, error_class)
            inner = inner.values()
        elif not isinstance(inner, (list, tuple)):
            continue
        left.extend(part for part in inner if isinstance(part, (dict, list, tuple)))


def _check_names_of(value: dict[Any, Json], what: str, error_class: type[InvalidInput]) -> None:
    names: dict[str, Any] = {}
    for name in value:
        written = str.__str__(name) if isinstance(name, str) else _dumps(name)
        if written in names:
            raise error_class(
                f"The {what} has the names {shown(names[written])} and {shown(name)}, which JSON "
                f"both writes as {shown(written)}. Give each a name of its own."
            )
        names[written] = name


def _depth(text: str) -> int:
    """Return the nesting depth of JSON text, without recursion."""
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
