"""The rule that a log line gives no advice that its own process follows.

Sentences of errors tell a caller what to do: "try again". Where a process catches the error, logs
it, and tries again by itself, `runtime.outage.describe` leaves the advice out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import Module, modules

#: Errors whose sentences have advice, by the names under which they are caught.
ADVISING = {
    *("DurableQError", "Exception", "Busy", "StorageFull", "OutcomeUnknown"),
    *("DatabaseUnreachable", "PASSING", "NOT_ITS_FAULT"),
}
#: Functions that log an error which ends the process: a person reads it, and acts.
MAY_QUOTE = {("durableq/worker/__main__.py", "main")}
LEVELS = {"debug", "info", "warning", "error", "exception"}
ADVICE = re.compile(r"\b[Tt]ry (it |them )?again\b|\b[Rr]epeat the call\b")


def log_lines_give_no_advice(root: Path) -> Iterator[str]:
    for module in modules(root, "durableq"):
        for node, around in module.walk():
            if not isinstance(node, ast.Call) or not logs(node):
                continue
            for part in ast.walk(node):
                text = part.value if isinstance(part, ast.Constant) else None
                if isinstance(text, str) and ADVICE.search(text):
                    yield module.at(node, f"logs advice: {text!r}")
            names = {outer.name for outer in around}
            if not {(module.path, name) for name in names} & MAY_QUOTE:
                yield from quoted(module, node)


def logs(node: ast.Call) -> bool:
    """Whether a call logs a line, or reports an event of a fleet."""
    if not isinstance(node.func, ast.Attribute):
        return False
    of = ast.unparse(node.func.value)
    return (of == "log" and node.func.attr in LEVELS) or node.func.attr == "_emit"


def quoted(module: Module, call: ast.Call) -> Iterator[str]:
    """Yield a violation for each caught error that a log call quotes as it is."""
    for handler in handlers_around(module, call):
        caught = {ast.unparse(one).rpartition(".")[2] for one in types_of(handler)}
        if not caught & ADVISING or handler.name is None:
            continue
        if any(is_name(part, handler.name) for part in direct_parts(call)):
            yield module.at(call, f"logs {handler.name} as it is: describe() leaves advice out")


def handlers_around(module: Module, call: ast.Call) -> Iterator[ast.ExceptHandler]:
    for node, _ in module.walk():
        if isinstance(node, ast.ExceptHandler) and any(part is call for part in ast.walk(node)):
            yield node


def types_of(handler: ast.ExceptHandler) -> list[ast.expr]:
    if isinstance(handler.type, ast.Tuple):
        return handler.type.elts
    return [] if handler.type is None else [handler.type]


def direct_parts(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call, and the parts of its f-strings and starred tuples."""
    for argument in call.args:
        if isinstance(argument, ast.JoinedStr):
            yield from (part.value for part in argument.values if hasattr(part, "value"))
        elif isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Tuple):
            yield from argument.value.elts
        else:
            yield argument


def is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
