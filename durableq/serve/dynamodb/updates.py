"""Update expressions: parsed, checked, and applied to an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from durableq.serve.dynamodb.comparing import type_of
from durableq.serve.dynamodb.operands import Call, Literal, Operand, Operands
from durableq.serve.dynamodb.paths import (
    invalid_path,
    refuse_overlaps,
    value_at,
    with_value,
)
from durableq.serve.dynamodb.scanning import Path, Scanner, Substitutes
from durableq.serve.dynamodb.values import (
    SET_TYPES,
    Attribute,
    Attributes,
    ValidationError,
    add,
    checked,
)

KIND: Final = "UpdateExpression"
_SECTIONS: Final = ("SET", "REMOVE", "ADD", "DELETE")
_KEYWORDS: Final = frozenset(_SECTIONS)
_SIGNS: Final = {"+", "-"}
#: The number of operands of each function.
_FUNCTIONS: Final = {"if_not_exists": 2, "list_append": 2}
_OF_CONDITIONS: Final = frozenset({
    "attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains", "size",
})  # fmt: skip
_TYPE_NAMES: Final = {
    "S": "STRING", "N": "NUMBER", "B": "BINARY", "NULL": "NULL", "BOOL": "BOOLEAN", "L": "LIST",
    "M": "MAP",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One change of an item.

    Args:
        section: "SET", "REMOVE", "ADD" or "DELETE".
        path: of the value that changes.
        operand: None for REMOVE.
    """

    section: str
    path: Path
    operand: Operand | None = None


def parse_update(expression: Any, substitutes: Substitutes) -> list[Step]:
    """Return the changes of an update expression.

    Raises:
        ValidationError: the text is no update, or its paths overlap.
        SerializationError: it is no text.
    """
    return _Parser(Scanner(KIND, expression, substitutes)).update()


def updated(steps: list[Step], attributes: Attributes) -> dict[str, Attribute]:
    """Return an item after an update. All operands have their values from before it.

    Raises:
        ValidationError: an operand is not there or has another type, or a path leads nowhere.
    """
    changed = dict(attributes)
    # What is set beyond the end of a list is appended in the order of the numbers.
    for step in sorted(steps, key=lambda step: step.path):
        if step.section == "SET" and step.operand is not None:
            value = _resolved(step.operand, attributes)
            changed = with_value(step.path, changed, checked(value, len(step.path) - 1))
    for step in steps:
        if step.section == "ADD" and isinstance(step.operand, Literal):
            changed = _added(step.path, step.operand.value, attributes, changed)
        elif step.section == "DELETE" and isinstance(step.operand, Literal):
            changed = _without_members(step.path, step.operand.value, attributes, changed)
    # Of one list, the last members first: the others keep their numbers.
    for path in sorted((step.path for step in steps if step.section == "REMOVE"), reverse=True):
        changed = with_value(path, changed, None)
    return changed


def _resolved(operand: Operand, attributes: Attributes) -> Attribute:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Call):
        return _OPERATIONS[operand.name](attributes, *operand.operands)
    value = value_at(operand, attributes)
    if value is None:
        raise ValidationError(
            "The provided expression refers to an attribute that does not exist in the item"
        )
    return value


def _sum(attributes: Attributes, first: Operand, second: Operand, sign: int = 1) -> Attribute:
    left, right = _resolved(first, attributes), _resolved(second, attributes)
    return {"N": add(_of_type("N", left), _of_type("N", right), sign)}


def _difference(attributes: Attributes, first: Operand, second: Operand) -> Attribute:
    return _sum(attributes, first, second, -1)


def _appended(attributes: Attributes, first: Operand, second: Operand) -> Attribute:
    left, right = _resolved(first, attributes), _resolved(second, attributes)
    return {"L": [*_of_type("L", left), *_of_type("L", right)]}


def _or_default(attributes: Attributes, path: Operand, default: Operand) -> Attribute:
    value = value_at(path, attributes) if isinstance(path, tuple) else None
    return _resolved(default, attributes) if value is None else value


_OPERATIONS: Final[dict[str, Callable[..., Attribute]]] = {
    "+": _sum,
    "-": _difference,
    "list_append": _appended,
    "if_not_exists": _or_default,
}


def _of_type(kind: str, value: Attribute) -> Any:
    if kind not in value:
        raise ValidationError("An operand in the update expression has an incorrect data type")
    return value[kind]


def _added(
    path: Path, value: Attribute, attributes: Attributes, changed: dict[str, Attribute]
) -> dict[str, Attribute]:
    """Add to a number, or members to a set; what is not there is 0, or the empty set."""
    kind, old = type_of(value), value_at(path, attributes)
    if old is None:
        return with_value(path, changed, value)
    before = _of_type(kind, old)
    if kind == "N":
        return with_value(path, changed, {"N": add(before, value["N"])})
    new = [member for member in value[kind] if member not in before]
    return with_value(path, changed, {kind: [*before, *new]})


def _without_members(
    path: Path, value: Attribute, attributes: Attributes, changed: dict[str, Attribute]
) -> dict[str, Attribute]:
    """Take members out of a set, and the set with its last one."""
    kind, old = type_of(value), value_at(path, attributes)
    if old is None:
        if len(path) > 1 and value_at(path[:-1], attributes) is None:
            raise invalid_path()
        return changed
    left = [member for member in _of_type(kind, old) if member not in value[kind]]
    return with_value(path, changed, {kind: left} if left else None)


class _Parser(Operands):
    """The grammar of updates."""

    def __init__(self, scanner: Scanner) -> None:
        super().__init__(scanner, _KEYWORDS, _FUNCTIONS, _OF_CONDITIONS, "an update expression")

    def update(self) -> list[Step]:
        steps: list[Step] = []
        seen: set[str] = set()
        while self._scanner.token.kind != "end":
            section = self._scanner.keyword(*_SECTIONS)
            if section is None:
                self._scanner.refuse_token()
            if section in seen:
                self._scanner.refuse(
                    f'The "{section}" section can only be used once in an update expression;'
                )
            seen.add(section)
            steps.append(self._step(section))
            while self._scanner.take(","):
                steps.append(self._step(section))
        refuse_overlaps(self._scanner, [step.path for step in steps])
        return steps

    def _step(self, section: str) -> Step:
        path = self._scanner.path(_KEYWORDS)
        self._scanner.count_operator()
        if section == "REMOVE":
            return Step(section, path)
        if section == "SET":
            self._scanner.expect("=")
            return Step(section, path, self._value())
        value = self._scanner.value()
        kind = type_of(value)
        if kind not in SET_TYPES and not (section == "ADD" and kind == "N"):
            self._scanner.refuse(
                f"Incorrect operand type for operator or function; operator: {section}, "
                f"operand type: {_TYPE_NAMES[kind]}, typeSet: ALLOWED_FOR_{section}_OPERAND"
            )
        return Step(section, path, Literal(value))

    def _value(self) -> Operand:
        """Return an operand, or the sum or difference of two, which may be in parentheses."""
        if self._scanner.take("("):
            first = self._value()
            self._scanner.expect(")")
        else:
            first = self._operand()
        sign = self._scanner.token.text
        if sign not in _SIGNS:
            return first
        if isinstance(first, Call) and first.name in _SIGNS:
            self._scanner.refuse_token()  # a sum has two operands
        self._scanner.take(sign)
        self._scanner.count_operator()
        call = Call(sign, (first, self._operand()))
        self._check_types(call, "N")
        return call

    def _operand(self) -> Operand:
        scanner = self._scanner
        if scanner.take("("):
            operand = self._operand()
            scanner.expect(")")
            return operand
        return self._single()

    def _check_function(self, call: Call) -> None:
        if call.name == "list_append":
            self._check_types(call, "L")
        else:
            self._require_path(call)

    def _check_types(self, call: Call, kind: str) -> None:
        for operand in call.operands:
            if isinstance(operand, Literal) and (other := type_of(operand.value)) != kind:
                self._refuse_type(call.name, other)
