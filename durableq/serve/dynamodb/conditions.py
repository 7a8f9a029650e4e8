"""Condition expressions: parsed, checked, and decided for an item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durableq.serve.dynamodb.comparing import (
    are_equal,
    begins_with,
    compare,
    contains,
    length,
    type_of,
)
from durableq.serve.dynamodb.operands import Call, Literal, Operand, Operands
from durableq.serve.dynamodb.paths import value_at
from durableq.serve.dynamodb.scanning import Path, Scanner, Substitutes, shown
from durableq.serve.dynamodb.values import TYPES, Attribute, Attributes

KIND: Final = "ConditionExpression"
MAX_IN_OPERANDS: Final = 100
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN"})
_COMPARATORS: Final = ("=", "<>", "<", "<=", ">", ">=")
#: The number of operands of each function.
_FUNCTIONS: Final = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "attribute_type": 2,
    "begins_with": 2,
    "contains": 2,
    "size": 1,
}
_OF_UPDATES: Final = frozenset({"if_not_exists", "list_append"})


def parse_condition(expression: Any, substitutes: Substitutes, kind: str = KIND) -> Call:
    """Return a condition that is checked.

    Raises:
        ValidationError: the text is no condition.
        SerializationError: it is no text.
    """
    return _Parser(Scanner(kind, expression, substitutes)).condition()


def holds(condition: Operand, attributes: Attributes) -> bool:
    """Return whether a condition is true of an item; `{}` is one that is not there."""
    if not isinstance(condition, Call):
        raise TypeError("an operand is no condition")
    if condition.name == "and":
        return all(holds(part, attributes) for part in condition.operands)
    if condition.name == "or":
        return any(holds(part, attributes) for part in condition.operands)
    if condition.name == "not":
        return not holds(condition.operands[0], attributes)
    return _TESTS[condition.name](*(_resolved(part, attributes) for part in condition.operands))


def paths_of(condition: Operand) -> list[Path]:
    """Return the document paths in a condition."""
    if isinstance(condition, Call):
        return [path for operand in condition.operands for path in paths_of(operand)]
    return [condition] if isinstance(condition, tuple) else []


def _resolved(operand: Operand, attributes: Attributes) -> Attribute | None:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Call):
        return length(_resolved(operand.operands[0], attributes))
    return value_at(operand, attributes)


def _ordered(test: Callable[[int], bool]) -> Callable[..., bool]:
    def compared(first: Attribute | None, second: Attribute | None) -> bool:
        order = compare(first, second)
        return order is not None and test(order)

    return compared


_at_least: Final = _ordered(lambda order: order >= 0)
_at_most: Final = _ordered(lambda order: order <= 0)
_TESTS: Final[dict[str, Callable[..., bool]]] = {
    "=": are_equal,
    "<>": lambda first, second: not are_equal(first, second),
    "<": _ordered(lambda order: order < 0),
    "<=": _at_most,
    ">": _ordered(lambda order: order > 0),
    ">=": _at_least,
    "between": lambda value, low, high: _at_least(value, low) and _at_most(value, high),
    "in": lambda value, *among: any(are_equal(value, one) for one in among),
    "attribute_exists": lambda value: value is not None,
    "attribute_not_exists": lambda value: value is None,
    "attribute_type": lambda value, kind: value is not None and type_of(value) == kind["S"],
    "begins_with": begins_with,
    "contains": contains,
}


class _Parser(Operands):
    """The grammar of conditions.

    Operands and conditions may both be in parentheses, so they are one grammar, and each place
    checks which of the two it has.
    """

    def __init__(self, scanner: Scanner) -> None:
        super().__init__(scanner, _KEYWORDS, _FUNCTIONS, _OF_UPDATES, "a condition expression")
        #: The first and the last token within the parentheses that were closed last.
        self._closed = (-1, -1)

    def condition(self) -> Call:
        condition = self._any_of()
        self._scanner.end()
        return self._as_condition(condition)

    def _any_of(self) -> Operand:
        return self._chain("or", self._all_of)

    def _all_of(self) -> Operand:
        return self._chain("and", self._negated)

    def _chain(self, name: str, part: Callable[[], Operand]) -> Operand:
        parts = [part()]
        while self._scanner.keyword(name.upper()):
            self._scanner.count_operator()
            parts[-1] = self._as_condition(parts[-1])
            parts.append(self._as_condition(part()))
        return parts[0] if len(parts) == 1 else Call(name, tuple(parts))

    def _negated(self) -> Operand:
        times = 0
        while self._scanner.keyword("NOT"):
            self._scanner.count_operator()
            times += 1
        part = self._comparison()
        for _ in range(times):
            part = Call("not", (self._as_condition(part),))
        return part

    def _comparison(self) -> Operand:
        first = self._primary()
        scanner = self._scanner
        if sign := scanner.take(*_COMPARATORS):
            call = Call(sign, (self._as_operand(first), self._operand()))
            self._refuse_same(call)
            if sign not in {"=", "<>"}:
                self._check_order(sign, call)
        elif scanner.keyword("BETWEEN"):
            low = self._operand()
            if scanner.keyword("AND") is None:
                scanner.refuse_token()
            call = Call("between", (self._as_operand(first), low, self._operand()))
            self._check_order("BETWEEN", call)
            self._check_bounds(*call.operands[1:])
        elif scanner.keyword("IN"):
            call = Call("in", (self._as_operand(first), *self._operands()))
            if (number := len(call.operands) - 1) > MAX_IN_OPERANDS:
                scanner.refuse(
                    "The IN operator is provided with too many operands; "
                    f"number of operands: {number}"
                )
        else:
            return first
        scanner.count_operator()
        return call

    def _primary(self) -> Operand:
        scanner = self._scanner
        opened = scanner.position
        if scanner.take("("):
            inner = self._any_of()
            closed = scanner.position
            scanner.expect(")")
            if self._closed == (opened + 1, closed - 1):
                scanner.refuse("The expression has redundant parentheses;")
            self._closed = (opened, closed)
            return inner
        return self._single()

    def _operand(self) -> Operand:
        return self._as_operand(self._primary())

    def _as_operand(self, operand: Operand) -> Operand:
        if isinstance(operand, Call) and operand.name != "size":
            if operand.name not in _FUNCTIONS:
                self._scanner.refuse_token()
            self._refuse_use(operand.name)
        return operand

    def _as_condition(self, condition: Operand) -> Call:
        if not isinstance(condition, Call):
            self._scanner.refuse_token()
        if condition.name == "size":
            self._refuse_use(condition.name)
        return condition

    def _refuse_use(self, function: str) -> None:
        self._scanner.refuse(
            "The function is not allowed to be used this way in an expression; "
            f"function: {function}"
        )

    def _refuse_same(self, call: Call) -> None:
        first, *others = call.operands
        if isinstance(first, tuple) and first in others:
            self._scanner.refuse(
                "The first operand must be distinct from the remaining operands for this operator "
                f"or function; operator: {call.name}, first operand: {shown(first)}"
            )

    def _check_function(self, call: Call) -> None:
        first, last = call.operands[0], call.operands[-1]
        self._refuse_same(call)
        if call.name.endswith("_exists"):
            self._require_path(call)
        elif call.name == "attribute_type":
            self._check_operand_type(call.name, last, {"S"}, must_be_known=True)
            if isinstance(last, Literal) and last.value["S"] not in TYPES:
                self._scanner.refuse(
                    f"Invalid attribute type name found; type: {last.value['S']}, "
                    "valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"
                )
        elif call.name == "begins_with":
            for operand in call.operands:
                self._check_operand_type(call.name, operand, {"S", "B"})
        elif call.name == "size":
            self._check_operand_type(call.name, first, {*TYPES} - {"N", "BOOL", "NULL"})

    def _check_order(self, sign: str, call: Call) -> None:
        """Refuse values of the request that have no order; those of an item are just not true."""
        for operand in call.operands:
            self._check_operand_type(sign, operand, {"S", "N", "B"})

    def _check_operand_type(
        self, function: str, operand: Operand, types: set[str], *, must_be_known: bool = False
    ) -> None:
        """Refuse an operand whose type is known, or has to be, and is another."""
        kind = type_of(operand.value) if isinstance(operand, Literal) else ""
        if isinstance(operand, Call):
            kind = "N"
        if not kind and must_be_known:
            kind = "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"
        if kind and kind not in types:
            self._refuse_type(function, kind)

    def _check_bounds(self, low: Operand, high: Operand) -> None:
        if not (isinstance(low, Literal) and isinstance(high, Literal)):
            return
        bounds = (
            f"lower bound operand: AttributeValue: {_shown(low)}, "
            f"upper bound operand: AttributeValue: {_shown(high)}"
        )
        if type_of(low.value) != type_of(high.value):
            self._scanner.refuse(
                "The BETWEEN operator requires same data type for lower and upper bounds; " + bounds
            )
        if compare(low.value, high.value) == 1:
            self._scanner.refuse(
                "The BETWEEN operator requires upper bound to be greater than or equal to lower "
                "bound; " + bounds
            )


def _shown(literal: Literal) -> str:
    kind = type_of(literal.value)
    return f"{{{kind}:{literal.value[kind]}}}"
