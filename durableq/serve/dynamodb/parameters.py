"""Parameters of requests: members with their types, and constraints, with DynamoDB's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeVar

from durableq.serve.dynamodb.values import SerializationError, ValidationError

T = TypeVar("T")

TABLE_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]+", re.ASCII)
TABLE_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z-]+)?:dynamodb:([a-z0-9-]+):([0-9]{12}):table/([a-zA-Z0-9_.-]+)", re.ASCII
)
_CAPACITY: Final = ("INDEXES", "TOTAL", "NONE")
_METRICS: Final = ("SIZE", "NONE")


class Parameters:
    """The members of a structure in a request. All constraints that it breaks are one error.

    A member that no action has is ignored, and null is a member that is not there, as at AWS.

    Args:
        found: the members; a JSON object.
        place: the name of the structure in errors, such as "transactItems.1.member.put".
        broken: the list of the constraints that are broken, of the structure around.
    """

    def __init__(
        self, found: Mapping[str, Any], place: str = "", broken: list[str] | None = None
    ) -> None:
        self._found = {name: value for name, value in found.items() if value is not None}
        self._place = place
        self._broken: list[str] = [] if broken is None else broken

    def __repr__(self) -> str:
        """Return the names of the members, for errors about a list of structures."""
        return f"{{{', '.join(self._found)}}}"

    def has(self, name: str) -> bool:
        """Return whether a member is there."""
        return name in self._found

    def get(self, name: str) -> Any:
        """Return a member whatever its type; None if it is not there."""
        return self._found.get(name)

    def text(self, name: str) -> str | None:
        """Return a text."""
        return self._typed(name, str, "a String")

    def flag(self, name: str) -> bool:
        """Return a truth value; False if it is not there."""
        return bool(self._typed(name, bool, "a Boolean"))

    def number(self, name: str) -> int | None:
        """Return a whole number."""
        value = self.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            _refuse(value, "a Long")
        return value

    def items(self, name: str) -> list[Parameters] | None:
        """Return the structures of a list."""
        found = self._typed(name, list, "a List")
        if found is None:
            return None
        made = []
        for position, each in enumerate(found, 1):
            if not isinstance(each, dict):
                _refuse(each, "a Structure")
            made.append(self._inside(each, f"{_lower(name)}.{position}.member"))
        return made

    def structure(self, name: str) -> Parameters | None:
        """Return a structure."""
        found = self._typed(name, dict, "a Structure")
        return None if found is None else self._inside(found, _lower(name))

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Return a map."""
        return self._typed(name, dict, "a Map")

    def _inside(self, found: Mapping[str, Any], place: str) -> Parameters:
        place = f"{self._place}.{place}" if self._place else place
        return Parameters(found, place, self._broken)

    def _typed(self, name: str, kind: type[T], article: str) -> T | None:
        value = self.get(name)
        if value is None or isinstance(value, kind):
            return value
        return _refuse(value, article)

    # ---- constraints

    def broken(self, name: str, value: Any, constraint: str) -> None:
        """Note that a member breaks a constraint."""
        place = f"{self._place}.{_lower(name)}" if self._place else _lower(name)
        shown = "null" if value is None else f"'{value}'"
        self._broken.append(
            f"Value {shown} at '{place}' failed to satisfy constraint: Member must {constraint}"
        )

    def required(self, name: str, value: T | None) -> T | None:
        """Return a member, and note that it must be there."""
        if value is None:
            self.broken(name, None, "not be null")
        return value

    def choice(self, name: str, options: Iterable[str], default: str = "") -> str:
        """Return one of some words."""
        value = self.text(name)
        if value is not None and value not in options:
            self.broken(name, value, f"satisfy enum value set: [{', '.join(options)}]")
        return default if value is None else value

    def bounded(self, name: str, value: int | None, low: int, high: int) -> None:
        """Note that a number must be within bounds."""
        if value is not None and value < low:
            self.broken(name, value, f"have value greater than or equal to {low}")
        if value is not None and value > high:
            self.broken(name, value, f"have value less than or equal to {high}")

    def length(self, name: str, value: Any, low: int, high: int) -> None:
        """Note that a text or a list must have a length within bounds."""
        if value is not None and len(value) < low:
            self.broken(name, value, f"have length greater than or equal to {low}")
        if value is not None and len(value) > high:
            self.broken(name, value, f"have length less than or equal to {high}")

    def table_name(self, name: str = "TableName", shortest: int = 1) -> str:
        """Return the name, or the ARN, of a table."""
        value = self.required(name, self.text(name)) or ""
        if self.has(name) and not TABLE_ARN.fullmatch(value):
            if value and not TABLE_NAME.fullmatch(value):
                pattern = "[a-zA-Z0-9_.-]+"
                self.broken(name, value, f"satisfy regular expression pattern: {pattern}")
            self.length(name, value, shortest, 255)
        return value

    def returned(self) -> None:
        """Check the members that say what else an answer has."""
        self.choice("ReturnConsumedCapacity", _CAPACITY)
        self.choice("ReturnItemCollectionMetrics", _METRICS)

    def check(self) -> None:
        """Raise ValidationError if a constraint is broken."""
        if self._broken:
            number = len(self._broken)
            raise ValidationError(
                f"{number} validation error{'s' if number > 1 else ''} detected: "
                + "; ".join(self._broken)
            )

    def refuse(self, names: Iterable[str], sentence: Callable[[str], str]) -> None:
        """Raise ValidationError, with a sentence about the first of these that is there."""
        for name in names:
            if self.has(name):
                raise ValidationError(sentence(name))


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _refuse(value: Any, kind: str) -> NoReturn:
    if isinstance(value, bool):
        token = f"{str(value).upper()}_VALUE"
    elif isinstance(value, Mapping | list):
        found = "structure or map" if isinstance(value, Mapping) else "list"
        raise SerializationError(f"Start of {found} found where not expected.")
    else:
        token = {str: "STRING_VALUE", int: "NUMBER_VALUE"}.get(type(value), "DECIMAL_VALUE")
    raise SerializationError(f"{token} can not be converted to {kind}")
