"""The operands of expressions: values, document paths, and calls of functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from durableq.serve.dynamodb.scanning import Path, Scanner
from durableq.serve.dynamodb.values import Attribute


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of the request."""

    value: Attribute


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function with its operands; the function `size` is an operand itself."""

    name: str
    operands: tuple[Operand, ...]


Operand = Path | Literal | Call


class Operands:
    """A parser of operands by descent; the parser of a kind of expression adds its grammar.

    Args:
        scanner: the tokens.
        keywords: words of the grammar, which are no names.
        functions: the number of operands of each function.
        others: functions of the other kind of expression.
        place: what this kind is called in the refusal of those.
    """

    def __init__(
        self,
        scanner: Scanner,
        keywords: frozenset[str],
        functions: Mapping[str, int],
        others: frozenset[str],
        place: str,
    ) -> None:
        self._scanner = scanner
        self._keywords = keywords
        self._functions = functions
        self._others = others
        self._place = place

    def _operand(self) -> Operand:
        """Return an operand as the grammar has it."""
        raise NotImplementedError

    def _check_function(self, call: Call) -> None:
        """Refuse operands that a function does not take."""
        raise NotImplementedError

    def _single(self) -> Operand:
        """Return an operand that is in no parentheses."""
        scanner = self._scanner
        if scanner.token.kind == "value":
            return Literal(scanner.value())
        if scanner.token.kind == "word" and scanner.next_text == "(":
            return self._function()
        return scanner.path(self._keywords)

    def _function(self) -> Call:
        scanner = self._scanner
        name = scanner.token.text
        if name not in self._functions:
            if name.upper() in self._keywords:
                scanner.refuse_token()
            if name in self._others:
                scanner.refuse(f"The function is not allowed in {self._place}; function: {name}")
            scanner.refuse(f"Invalid function name; function: {name}")
        scanner.take(name)
        scanner.count_operator()
        call = Call(name, tuple(self._operands()))
        if len(call.operands) != self._functions[name]:
            scanner.refuse(
                "Incorrect number of operands for operator or function; "
                f"operator or function: {name}, number of operands: {len(call.operands)}"
            )
        self._check_function(call)
        return call

    def _operands(self) -> list[Operand]:
        """Return operands in parentheses, with commas."""
        self._scanner.expect("(")
        operands = [self._operand()]
        while self._scanner.take(","):
            operands.append(self._operand())
        self._scanner.expect(")")
        return operands

    def _require_path(self, call: Call) -> None:
        """Refuse a function whose first operand is no document path."""
        if not isinstance(call.operands[0], tuple):
            self._scanner.refuse(
                f"Operator or function requires a document path; operator or function: {call.name}"
            )

    def _refuse_type(self, function: str, kind: str) -> None:
        """Refuse an operand of a type that a function or operator does not take."""
        self._scanner.refuse(
            "Incorrect operand type for operator or function; "
            f"operator or function: {function}, operand type: {kind}"
        )
