"""The values in a rule: fields of a body, regular expressions, names; and their pydantic types.

`re` cannot be interrupted, and some patterns backtrack exponentially. The `regex` package takes a
timeout, in any thread, and lets other threads run while it matches.
"""

from __future__ import annotations

import copy
import json
import re
import time
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, Final

import regex
from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from durableq.model import codec
from durableq.model.arguments import listed, near_miss
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH, MAX_DELAY_MS, MAX_ERROR_CHARS, MAX_RECEIVES
from durableq.model.message import Reason
from durableq.model.queues import check_new_queue_name
from durableq.model.text import shown

#: Names from the outermost in. The name of an array's element is its index.
FieldPath = tuple[str, ...]

MISSING: Final = object()
MAX_NAME_CHARS: Final = 60
#: The rule's name and the explanation of an error follow the reason in a message's history.
MAX_REASON_CHARS: Final = MAX_ERROR_CHARS - 200
MAX_AGE_SECONDS: Final = 100 * 366 * 86_400
TOO_DEEP: Final = f"a field has at most {MAX_BODY_DEPTH} names, for no body is nested deeper"
#: Time limit for all patterns that are tried on one dead letter, and for each pattern on the
#: values of the rules file itself.
PATTERN_SECONDS: Final = 1.0

# The parts of a pattern whose braces or brackets `regex` may read differently from `re`.
_PARTS: Final = re.compile(
    r"\\N\{[^}]*\}"  # a character by its name
    r"|\\."
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # a set
    r"|\{(?:\d+(?:,\d*)?|,\d*)\}"  # a quantifier
    r"|\{",
    re.DOTALL,
)


class CannotPatch(Exception):
    """The body does not have the shape that the patch needs. The text is a phrase."""


# ---- fields


def field(body: Any, path: FieldPath) -> Any:
    """Return a field of a body, or MISSING."""
    for name in path:
        if isinstance(body, dict):
            body = body.get(name, MISSING)
        elif isinstance(body, list) and (index := _index(body, name)) is not None:
            body = body[index]
        else:
            return MISSING
    return body


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: true is not 1, but 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def leaves(table: Mapping[str, Any], path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield the path and value of each leaf of nested tables; an empty table is a leaf."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def written(path: FieldPath) -> str:
    """Return a path as it is written in a rule."""
    return ".".join(
        name if name.replace("-", "_").isidentifier() or name.isdigit() else f'"{name}"'
        for name in path
    )


def patched(
    body: Any, fields: Iterable[tuple[FieldPath, Any]] = (), remove: Iterable[FieldPath] = ()
) -> Any:
    """Return a copy of a body without the fields to remove, and then with `fields` set.

    Objects that are missing on the path of a field are added.

    Raises:
        CannotPatch: the body is bytes, or a path leads through a value without fields.
    """
    if isinstance(body, bytes):
        raise CannotPatch("the body is bytes, which have no fields")
    changed = copy.deepcopy(body)
    for path in remove:
        parent = field(changed, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        elif isinstance(parent, list) and (index := _index(parent, path[-1])) is not None:
            del parent[index]
    for path, value in fields:
        _set(changed, path, copy.deepcopy(value))
    return changed


def _set(body: Any, path: FieldPath, value: Any) -> None:
    for depth, name in enumerate(path[:-1], 1):
        inner = field(body, (name,))
        if inner is MISSING and isinstance(body, dict):
            inner = body[name] = {}
        if not isinstance(inner, (dict, list)):
            raise CannotPatch(
                f"{written(path[:depth])} is not an object, so it has no fields to set"
            )
        body = inner
    if isinstance(body, dict):
        body[path[-1]] = value
    elif isinstance(body, list) and (index := _index(body, path[-1])) is not None:
        body[index] = value
    else:
        raise CannotPatch(f"the body has no room for {written(path)}")


def _index(array: list[Any], name: str) -> int | None:
    """Return the index of an array's element by its name; None if there is none."""
    index = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else len(array)
    return index if index < len(array) else None


# ---- patterns


class TimeLimit:
    """A number of seconds that several searches share."""

    def __init__(self, seconds: float = PATTERN_SECONDS) -> None:
        self._seconds = self._left = seconds

    def search(self, pattern: Pattern, text: str) -> bool:
        """Return whether the pattern is found in the text.

        Raises:
            TimeoutError: the searches took longer than the limit together.
        """
        began = time.monotonic()
        try:
            # Zero would mean no timeout.
            return pattern.compiled.search(text, timeout=max(self._left, 0.001)) is not None
        except TimeoutError:
            self._left = 0.0
            raise TimeoutError(f"it took longer than {self._seconds:g} s") from None
        finally:
            self._left -= time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression as the rules file has it. Equal if the text is."""

    text: str
    compiled: regex.Pattern[str] = dataclass_field(compare=False, repr=False)
    #: For all values of the rules file together, so that many of them cost one wait.
    _limit: TimeLimit = dataclass_field(default_factory=TimeLimit, compare=False, repr=False)

    @classmethod
    def compile(cls, text: str) -> Pattern:
        """Compile a pattern that both `re` and `regex` accept.

        Raises:
            ValueError: one of them does not.
        """
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                re.compile(text)
            return cls(text, regex.compile(_PARTS.sub(_literal, text), regex.V0))
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{shown(text)} is not a regular expression: {error}") from None

    def fits(self, value: Any, *, if_too_slow: bool) -> bool:
        """Return whether it is found in a value of the rules file."""
        text = text_of_value(value)
        try:
            return text is not None and self._limit.search(self, text)
        except TimeoutError:
            return if_too_slow


def text_of_value(value: Any) -> str | None:
    """Return the text that patterns are tried on: a string, or a number or boolean as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (int, float)) else None


def _literal(part: re.Match[str]) -> str:
    r"""Return a part of a pattern so that `regex` reads it as `re` does.

    `a{e}` is fuzzy matching and `[[:alpha:]]` a POSIX class to `regex`; `re` reads both literally.
    """
    found = part[0]
    if found == "{":
        return r"\{"
    if found[0] == "[":
        return "[" + re.sub(r"(\\.)|\[", lambda inner: inner[1] or r"\[", found[1:], flags=re.S)
    return found


# ---- values of a rules file


class FieldErrors(ValueError):
    """Errors at paths within the validated value."""

    def __init__(self, errors: list[tuple[FieldPath, str]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, in parentheses; empty if there is none."""
    meant = near_miss(name, known)
    return f" (did you mean {str(meant)!r}?)" if meant else ""


def keys_of(dotted: str) -> tuple[str, ...]:
    """Parse a dotted key: `customer.email`, or `"with.dot".email`.

    Raises:
        ValueError: it is not a key.
    """
    end = f"{dotted} ="  # longer than any value within the text, which may be a whole statement
    try:
        written_end = json.dumps(end, ensure_ascii=False)
        found: object = {} if "\n" in dotted else tomllib.loads(f"{dotted} = {written_end}")
    except (tomllib.TOMLDecodeError, RecursionError):
        found = {}
    keys = []
    while isinstance(found, dict) and len(found) == 1:
        ((key, found),) = found.items()
        keys.append(key)
    if found != end:
        raise ValueError(f"{dotted!r} is not a key")
    return tuple(keys)


def _strings(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise ValueError(f"it must be a string, or a list of strings, not {shown(value)}")
    return tuple(values)


def _queues(value: object) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        check_new_queue_name(name)
    return names


def _reasons(value: object) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        if name not in list(Reason):
            known = f"{suggestion(name, Reason)}; there are {listed(Reason)}"
            raise ValueError(f"unknown reason {shown(name)}{known}")
    return names


def _pattern(value: object) -> Pattern:
    if not isinstance(value, str):
        raise ValueError(f"it must be a regular expression in quotes, not {shown(value)}")
    return Pattern.compile(value)


def _removed(value: object) -> tuple[FieldPath, ...]:
    names = _strings(value)
    try:
        paths = tuple(map(keys_of, names))
    except ValueError:
        why = f"fields are named as TOML's keys are, with dots, not {shown(value)}"
        raise ValueError(why) from None
    if max(map(len, paths)) > MAX_BODY_DEPTH:
        raise ValueError(TOO_DEEP)
    return paths


def _json(value: object) -> object:
    try:
        codec.encode(value)
    except InvalidInput:
        raise ValueError(f"a body is JSON and cannot hold {shown(value)}") from None
    return value


def _compared(value: object) -> object:
    if value == {}:
        raise ValueError("a field is compared with a value, not a table")
    return _json(value)


def _fields(
    check: Callable[[object], Any],
) -> Callable[[object], tuple[tuple[FieldPath, Any], ...]]:
    """Return a validator that flattens nested tables and checks each value in them."""

    def validate(value: object) -> tuple[tuple[FieldPath, Any], ...]:
        if not isinstance(value, dict):
            raise ValueError(f"it must be a table, not {shown(value)}")
        if not value:
            raise ValueError("it names no field")
        fields, errors = [], []
        for path, each in leaves(value):
            try:
                fields.append((path, check(each)))
            except ValueError as error:
                errors.append((path, str(error)))
        if errors:
            raise FieldErrors(errors)
        return tuple(fields)

    return validate


def _name(value: str) -> str:
    if not value.isprintable() or '"' in value:
        raise ValueError(f"it must be printable characters without quotes, not {shown(value)}")
    return value


def _one_or_more(item: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]})


_TEXT: Final = {"type": "string", "minLength": 1}
_REASON: Final = {"type": "string", "enum": sorted(Reason)}
_QUEUE: Final = {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"}
_TABLE: Final = WithJsonSchema({"type": "object", "minProperties": 1})

Strings = Annotated[tuple[str, ...], PlainValidator(_strings), _one_or_more(_TEXT)]
Queues = Annotated[tuple[str, ...], PlainValidator(_queues), _one_or_more(_QUEUE)]
Reasons = Annotated[tuple[str, ...], PlainValidator(_reasons), _one_or_more(_REASON)]
Removed = Annotated[tuple[FieldPath, ...], PlainValidator(_removed), _one_or_more(_TEXT)]
Regex = Annotated[Pattern, PlainValidator(_pattern), WithJsonSchema({"type": "string"})]
Values = Annotated[tuple[tuple[FieldPath, Any], ...], PlainValidator(_fields(_json)), _TABLE]
Compared = Annotated[tuple[tuple[FieldPath, Any], ...], PlainValidator(_fields(_compared)), _TABLE]
Matched = Annotated[
    tuple[tuple[FieldPath, Pattern], ...], PlainValidator(_fields(_pattern)), _TABLE
]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_name)]
Seconds = Annotated[float, Field(ge=0, le=MAX_AGE_SECONDS)]
Recoveries = Annotated[int, Field(ge=0, le=MAX_RECEIVES)]
Delay = Annotated[float, Field(ge=0, le=MAX_DELAY_MS / 1000)]
Limit = Annotated[int, Field(ge=1, le=MAX_RECEIVES)]
ReasonText = Annotated[str, Field(max_length=MAX_REASON_CHARS)]
