"""Calls in the source of an application: those whose meaning depends on the store."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from durableq.client.handlers import Handlers

_SENDS: Final = frozenset({"send", "send_many", "producer"})


class Call(NamedTuple):
    """A call of a method, as the source has it."""

    #: The file and the line.
    place: str
    method: str
    #: The options that are given by name, with their values where these are constants.
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
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...
