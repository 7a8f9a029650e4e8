"""Calls in the source of an application: those whose meaning depends on the store."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from durableq.client.handlers import Handlers

_SENDS: Final = frozenset({"send", "send_many", "producer"})
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Call(NamedTuple):
    """A call of a method, as the source has it."""

    #: The file and the line.
    place: str
    method: str
    #: The options that are given by name, with their values where these are constants, and `...`
    #: where they are not. Sums and products of numbers and of timedeltas are constants too.
    options: dict[str, Any]

    @property
    def is_send(self) -> bool:
        """Whether it may be a send."""
        return self.method in _SENDS


def calls_of(app: Handlers) -> tuple[list[Call], list[str]]:
    """Return the calls of methods in the modules of an application's handlers and policies.

    Only the text is read. A call is told by its name alone, so one of another object may be found.

    Returns:
        The calls, and the queues of whose functions there is no source.
    """
    found: dict[Path, None] = {}
    missing = []
    functions: list[tuple[str, Callable[..., Any]]] = [
        *((queue, one) for queue, handler in app.handlers.items() for one in handler.functions),
        *app.policies.items(),
    ]
    for queue, function in functions:
        try:
            path = inspect.getsourcefile(inspect.unwrap(function))
        except TypeError:
            path = None
        if path is None or not Path(path).is_file():
            missing.append(queue)
        else:
            found[Path(path)] = None
    return list(_calls(found)), missing


def _calls(paths: Iterable[Path]) -> Iterator[Call]:
    for path in paths:
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for node in sorted(calls, key=lambda call: call.lineno):
            if isinstance(node.func, ast.Attribute):
                options = {word.arg: _constant(word.value) for word in node.keywords if word.arg}
                yield Call(f"{path.name}:{node.lineno}", node.func.attr, options)


def _constant(node: ast.expr) -> Any:
    try:
        return _value(node)
    except (ValueError, TypeError, KeyError, SyntaxError, ArithmeticError):
        return ...
    except (MemoryError, RecursionError):
        return ...


def _value(node: ast.expr) -> Any:
    """Return the value of a constant, of `timedelta(minutes=5)`, or of arithmetic with those.

    Raises:
        ValueError, TypeError, KeyError, ArithmeticError: it is another expression, or has no value.
    """
    match node:
        case ast.BinOp():
            left, right = _value(node.left), _value(node.right)
            for each in (left, right):
                if not isinstance(each, int | float | timedelta):
                    raise TypeError
            return _ARITHMETIC[type(node.op)](left, right)
        case ast.Call(func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta")):
            named = {word.arg or "": _value(word.value) for word in node.keywords}
            return timedelta(*map(_value, node.args), **named)
    return ast.literal_eval(node)
