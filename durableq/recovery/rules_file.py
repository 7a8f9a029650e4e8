"""Reading a rules file. All errors are reported at once, each with its line and its path.

A path is written like `rule[2].when.queue`. Rules are numbered from 1, there as everywhere.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from durableq.model.arguments import listed
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH
from durableq.model.text import shown
from durableq.recovery import toml_positions
from durableq.recovery.patch import written
from durableq.recovery.rules import Action, Rule, Rules, contradiction
from durableq.recovery.rules_schema import (
    BREAKER_FIELDS,
    CHANGES,
    NO_RULES,
    RULE_FIELDS,
    SENDING,
    TOO_DEEP,
    WHEN_FIELDS,
    FieldErrors,
    RulesTable,
    suggestion,
)

Error = tuple[toml_positions.Path, str]

_MAX_SHOWN_PATH: Final = 80
#: The known fields of a table, by its name; the document's is empty.
_KNOWN: Final = {
    "": tuple(RulesTable.model_fields),
    "rule": RULE_FIELDS,
    "when": WHEN_FIELDS,
    "breaker": BREAKER_FIELDS,
}
_MISSING: Final = {
    "rule": NO_RULES,
    "then": f"the rule does not say what then; there are {listed(Action)}",
}


def read(path: str | Path) -> Rules:
    """Read and check a rules file.

    Raises:
        InvalidInput: it cannot be read, or is wrong; the text has a line for each error.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}, line {line}: it is not UTF-8 text.") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Rules:
    """Read and check the text of a rules file.

    Raises:
        InvalidInput: as for `read`.
    """
    try:
        document = tomllib.loads(text)
        lines = toml_positions.lines_of(text)
    except (ValueError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        why = str(error).removesuffix(found[0]).rstrip() if found else str(error)
        raise InvalidInput(f"{source}, line {line}: {why}. It is not TOML.") from None
    errors = list(_too_deep(document))
    rules: Sequence[Rule] = ()
    table: RulesTable | None = None
    if not errors:
        errors = list(_misplaced(document))
        try:
            table = RulesTable.model_validate(document)
        except ValidationError as error:
            errors += _errors(error)
    if table is not None and not errors:
        rules = [
            each.rule(number, _line(lines, ("rule", number - 1)))
            for number, each in enumerate(table.rule, 1)
        ]
        errors = list(_never_reached(rules))
    if table is None or errors:
        found_at = sorted((_line(lines, at), _sentence(at, why)) for at, why in errors)
        raise InvalidInput("\n".join(f"{source}, line {line}: {why}" for line, why in found_at))
    return Rules(source, tuple(rules), table.breaker.thresholds())


def _too_deep(document: Mapping[str, Any]) -> Iterator[Error]:
    """Yield an error if a value is nested deeper than any field of a body.

    All other code may then recurse into the document.
    """
    deepest = len(("rule", 0, "when", "body")) + MAX_BODY_DEPTH
    inner: list[tuple[toml_positions.Path, Any]] = [((), document)]
    while inner:
        at, value = inner.pop()
        if len(at) > deepest:
            yield at, TOO_DEEP
            return
        if isinstance(value, dict):
            inner += (((*at, name), each) for name, each in value.items())
        elif isinstance(value, list):
            inner += (((*at, number), each) for number, each in enumerate(value))


def _misplaced(document: Mapping[str, Any]) -> Iterator[Error]:
    """Yield the fields that do not go with the action of their rule.

    Not validators of the model: pydantic runs those only once every field is right.
    """
    tables = document.get("rule")
    for number, table in enumerate(tables if isinstance(tables, list) else ()):
        then = table.get("then") if isinstance(table, dict) else None
        if not isinstance(then, str) or then not in list(Action):
            continue
        at = ("rule", number)
        if then == Action.RETRY and not table.keys() & set(CHANGES):
            why = 'a retry changes the body: say what to set or remove, or "requeue"'
            yield (*at, "then"), why
        for name in CHANGES:
            if then != Action.RETRY and name in table:
                yield (*at, name), f'{name} goes with then = "retry"'
        for name in SENDING:
            if not Action(then).sends_back and name in table:
                yield (*at, name), f"{name} goes with a rule that sends messages back"


def _never_reached(rules: Sequence[Rule]) -> Iterator[Error]:
    """Yield the rules that no dead letter can reach, and names given twice."""
    for number, rule in enumerate(rules):
        before = rules[:number]
        if twin := next((r for r in before if r.name and r.name == rule.name), None):
            yield ("rule", number, "name"), f"rule {twin.number} has this name already"
        if why := contradiction(rule):
            yield ("rule", number), f"it can never match: {why}"
        elif first := next((r for r in before if r.shadows(rule)), None):
            why = f"it can never match: {first.location} takes every dead letter before it"
            yield ("rule", number), why


def _errors(invalid: ValidationError) -> Iterator[Error]:
    """Yield pydantic's errors in the words of a rules file."""
    for error in invalid.errors(include_url=False):
        at, kind = error["loc"], error["type"]
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, FieldErrors):
            yield from (((*at, *path), why) for path, why in cause.errors)
        elif isinstance(cause, ValueError):
            yield at, str(cause)
        elif kind == "extra_forbidden":
            known = _KNOWN[next((str(n) for n in reversed(at[:-1]) if isinstance(n, str)), "")]
            name = f"{shown(at[-1])}{suggestion(at[-1], known)}"
            yield at, f"unknown field {name}; there are {listed(known)}"
        elif kind == "missing":
            yield at, _MISSING[str(at[-1])]
        elif kind == "model_type":
            yield at, f"it must be a table, not {shown(error['input'])}"
        else:
            must = (
                error["msg"].replace("Input should", "it must").replace("String should", "it must")
            )
            yield at, f"{must}, not {shown(error['input'])}"


def _sentence(at: toml_positions.Path, why: str) -> str:
    """Return an error with its path: `rule[2].when.queue: ...`."""
    path = ""
    for name in at:
        if isinstance(name, int):
            path += f"[{name + 1}]"
        else:
            path += ("." if path else "") + written((name,))
    if len(path) > _MAX_SHOWN_PATH:
        path = path[: _MAX_SHOWN_PATH - 1] + "…"
    return f"{path}: {why.rstrip('.')}." if path else f"{why.rstrip('.')}."


def _line(lines: Mapping[toml_positions.Path, int], at: toml_positions.Path) -> int:
    """Return the line of a path, or of the nearest table around it."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)
