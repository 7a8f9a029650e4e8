"""JSON Lines, read one at a time in constant memory; each bad line says why it is bad."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from durableq.errors import DurableQError, InvalidBody
from durableq.message import SendOptions

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
FIELDS: Final = ("body", "key", "delay", "priority", "attributes")


class BadLine(InvalidBody):
    """A line that cannot be sent; its text is the reason."""


class Entry(NamedTuple):
    """One line: its number, what it says, or why it says nothing that can be sent."""

    number: int
    position: int
    """How much of the source is read, this included."""
    body: Any = None
    options: SendOptions | None = None
    bad: BadLine | None = None


Shape = Callable[[Any], tuple[Any, SendOptions]]
"""What makes a body and its options of a line's JSON value."""


def read(stream: BinaryIO, name: str, longest: int, shape: Shape) -> Iterator[Entry]:
    """Yield what the lines of a file say; blank lines say nothing.

    Args:
        stream: UTF-8, with or without a byte order mark.
        name: of the file, for errors.
        longest: bytes of a line that are kept in memory.
        shape: as_body, as_envelope or keyed_by(name).

    Raises:
        DurableQError: reading failed.
    """
    position = 0
    for number in itertools.count(1):
        try:
            line, size = _next(stream, longest)
        except OSError as error:
            raise DurableQError(f"{name} cannot be read on: {error.strerror}.") from error
        if not size:
            return
        position += size
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        try:
            if size > longest:
                raise BadLine(f"it has {size} bytes; at most {longest} are read of a line.")
            body, options = shape(_value(line))
        except BadLine as bad:
            yield Entry(number, position, bad=bad)
        else:
            yield Entry(number, position, body, options)


def _next(stream: BinaryIO, longest: int) -> tuple[bytes, int]:
    """Return a line, cut if it is too long, and its whole size; 0 at the end."""
    line = part = stream.readline(longest)
    size = len(part)
    while len(part) == longest and not part.endswith(b"\n"):
        part = stream.readline(longest)
        size += len(part)
    return line, size


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise BadLine(f"it is not UTF-8 ({byte}).") from None
    except json.JSONDecodeError as error:
        raise BadLine(
            f"it is not JSON: {error.msg}, column {error.colno}. "
            "A line is one whole JSON value (JSON Lines)."
        ) from None
    except RecursionError:
        raise BadLine("it is nested too deep.") from None
    except BadLine:
        raise
    except ValueError:
        raise BadLine("it holds a number of thousands of digits: write it as a string.") from None


def _not_json(constant: str) -> Any:
    raise BadLine(f"it is not JSON: {constant} is not a JSON number.")


def as_body(value: Any) -> tuple[Any, SendOptions]:
    """Take the whole line as the body."""
    return value, {}


def as_envelope(value: Any) -> tuple[Any, SendOptions]:
    """Take the line as a body with its options.

    Raises:
        BadLine: not an object, no body, or a field that an envelope does not have.
    """
    if not isinstance(value, dict):
        raise BadLine('an envelope is an object like {"body": …}; this is none.')
    for name in value:
        if name not in FIELDS:
            raise BadLine(f"the envelope has an unknown field {name!r}; there are {_and(FIELDS)}.")
    if "body" not in value:
        raise BadLine("the envelope has no body.")
    given: Any = {name: value[name] for name in FIELDS[1:] if value.get(name) is not None}
    if "key" in given:
        given["key"] = _key_text(given["key"], "key")
    if type(given.get("priority", 0)) is not int:
        raise BadLine("the priority is not a whole number.")
    if not isinstance(given.get("attributes", {}), dict):
        raise BadLine("the attributes are not an object.")
    return value["body"], given


def keyed_by(name: str) -> Shape:
    """Take the line as the body, and its key from a field of that."""

    def shape(value: Any) -> tuple[Any, SendOptions]:
        if not isinstance(value, dict) or name not in value:
            raise BadLine(f"it has no field {name!r} to take the key from.")
        return value, {"key": _key_text(value[name], name)}

    return shape


def _key_text(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadLine(f"the key in {name!r} is neither a string nor a number.")
    try:
        return value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    except ValueError:
        raise BadLine(f"the key in {name!r} is not a finite number.") from None


def _and(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
