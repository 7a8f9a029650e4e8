"""JSON Lines, read one at a time in constant memory; each bad line says why it is bad."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from gzip import BadGzipFile
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from durableq.model import codec
from durableq.model.arguments import check_known
from durableq.model.drafts import SEND_OPTIONS, SendOptions
from durableq.model.errors import DurableQError, InvalidBody, InvalidInput
from durableq.model.text import shown

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: The number of bytes that are read to find the end of a line.
MAX_LINE_BYTES: Final = 256 << 20
FIELDS: Final = ("body", *SEND_OPTIONS)
#: Makes lines of a file that is one array.
SPLIT_ARRAY: Final = "jq -c '.[]'"


class BadLine(InvalidBody):
    """A line that cannot be sent; its text is the reason."""


class Entry(NamedTuple):
    """One line: its number, and its body and options, or the reason why it is bad."""

    number: int
    #: Bytes read of the source, this line included.
    position: int
    body: Any = None
    options: SendOptions | None = None
    bad: BadLine | None = None


#: A function from a line to the body and the options that it stands for.
Shape = Callable[[bytes], tuple[Any, SendOptions]]


def read(stream: BinaryIO, name: str, longest: int, shape: Shape) -> Iterator[Entry]:
    """Yield an entry for each line that is not blank.

    Args:
        stream: UTF-8, with or without a byte order mark.
        name: of the file, for errors.
        longest: bytes of a line that are kept in memory.
        shape: as_body, as_envelope, as_bytes or named_by(fields).

    Raises:
        DurableQError: reading failed, or a line has no end within MAX_LINE_BYTES.
    """
    position, limit = 0, max(longest, MAX_LINE_BYTES)
    for number in itertools.count(1):
        try:
            line, size = _next(stream, longest, limit)
        except (BadGzipFile, EOFError, zlib.error) as error:
            raise DurableQError(f"{name} is damaged after line {number - 1}: {error}.") from error
        except OSError as error:
            raise DurableQError(f"{name} cannot be read on: {error.strerror}.") from error
        if size > limit:
            raise DurableQError(
                f"Line {number} of {name} has no end within {limit >> 20} MiB, and the rest was "
                "not read. Send a file with one JSON value a line."
            )
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
            body, options = shape(line)
        except BadLine as bad:
            if number == 1 and line.lstrip().startswith(b"["):
                bad = BadLine(f"{bad} If the file is one array, `{SPLIT_ARRAY}` makes lines of it.")
            yield Entry(number, position, bad=bad)
        else:
            yield Entry(number, position, body, options)


def _next(stream: BinaryIO, longest: int, limit: int) -> tuple[bytes, int]:
    """Return a line, cut if it is too long, and the size that was read of it; 0 at the end."""
    line = part = stream.readline(longest)
    size = len(part)
    while len(part) == longest and not part.endswith(b"\n") and size <= limit:
        part = stream.readline(longest)
        size += len(part)
    return line, size


def _value(line: bytes, *, exact: bool = True) -> Any:
    """Return the JSON value of a line.

    Args:
        line: UTF-8.
        exact: Refuse a number that a double cannot hold; if false, keep its spelling.

    Raises:
        BadLine: it is not JSON, or something in it would be lost or changed.
    """
    try:
        return codec.read_json(line, exact=exact)
    except codec.NotJson as error:
        raise BadLine(f"{error} A line is one whole JSON value (JSON Lines).") from None
    except codec.InexactNumber as error:
        raise BadLine(f"{error} Or send the lines with --raw.") from None
    except InvalidBody as error:
        raise BadLine(str(error)) from None


def as_body(line: bytes) -> tuple[Any, SendOptions]:
    """Take the line's JSON value as the body."""
    return _value(line), {}


def as_bytes(line: bytes) -> tuple[Any, SendOptions]:
    """Take the bytes of the line as they are, without the line feed at its end."""
    return line.removesuffix(b"\n"), {}


def as_envelope(line: bytes) -> tuple[Any, SendOptions]:
    """Take the line as a body with its options.

    Raises:
        BadLine: not an object, no body, or a field that an envelope does not have.
    """
    value = _value(line)
    if not isinstance(value, dict):
        raise BadLine('an envelope is an object like {"body": …}; this is none.')
    try:
        check_known(value, FIELDS, "envelope field")
    except InvalidInput as error:
        raise BadLine(str(error)) from None
    if "body" not in value:
        raise BadLine("the envelope has no body.")
    given: Any = {name: value[name] for name in FIELDS[1:] if value.get(name) is not None}
    for what in ("key", "group"):
        if what in given:
            given[what] = _name_text(given[what], what, what)
    if "at" in given:
        given["at"] = _time(given["at"])
    if type(given.get("priority", 0)) is not int:
        raise BadLine("the priority is not a whole number.")
    if not isinstance(given.get("attributes", {}), dict):
        raise BadLine("the attributes are not an object.")
    return value["body"], given


def _time(text: Any) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise BadLine(
            f"at is a time with a time zone, such as 2027-01-31T09:00:00+01:00, got {shown(text)}."
        )
    return found


def named_by(fields: Mapping[Literal["key", "group"], str], *, raw: bool = False) -> Shape:
    """Take the line's object, or with `raw` its bytes, as the body, and names from its fields.

    Args:
        fields: the field that has the key, and the one that has the group.
        raw: the body is the bytes of the line.
    """

    def shape(line: bytes) -> tuple[Any, SendOptions]:
        value = _value(line, exact=not raw)
        given: SendOptions = {}
        for what, name in fields.items():
            if not isinstance(value, dict) or name not in value:
                raise BadLine(f"it has no field {shown(name)} to take the {what} from.")
            given[what] = _name_text(value[name], what, name)
        return as_bytes(line)[0] if raw else value, given

    return shape


def expiring(shape: Shape, expires_in: float) -> Shape:
    """Give messages that name none an `expires_in`, in seconds."""

    def with_expiry(line: bytes) -> tuple[Any, SendOptions]:
        body, options = shape(line)
        given: SendOptions = {"expires_in": expires_in, **options}
        return body, given

    return with_expiry


def _name_text(value: Any, what: str, field: str) -> str:
    if isinstance(value, codec.Spelled):
        value = codec.exact_number(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadLine(f"the {what} in {shown(field)} is neither a string nor a number.")
    try:
        return value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    except ValueError:
        raise BadLine(f"the {what} in {shown(field)} is not a finite number.") from None
