"""Reading a rules file. All errors are reported at once, each with its line and its path.

A path is written like `rule[2].when.queue`. Rules are numbered from 1, there as everywhere.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from durableq.model.arguments import listed
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH
from durableq.model.text import shown
from durableq.recovery.circuit_breaker import (
    DEFAULT_THRESHOLDS,
    LONGEST_SECONDS,
    MAX_PROBES,
    MAX_WINDOW,
    Thresholds,
)
from durableq.recovery.rule_values import TOO_DEEP, FieldErrors, suggestion, written
from durableq.recovery.rules import CHANGES, SENDING, SENDS_BACK, Action, Rule, Rules, Table, When

#: Keys, and the indices of array elements: ("rule", 0, "when", "queue").
DocumentPath = tuple[str | int, ...]
Error = tuple[DocumentPath, str]

#: The length of the longest path that is right: no body is nested deeper.
_DEEPEST: Final = len(("rule", 0, "when", "body")) + MAX_BODY_DEPTH
_MAX_SHOWN_PATH: Final = 80
#: In the last row of each value of several rows.
_END_OF_VALUE: Final = re.compile("[]}]|\"\"\"|'''")
#: The JSON Schema of nested tables with patterns.
_PATTERNS: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/patterns"}]},
}
_NO_RULES: Final = "it holds no [[rule]]: every dead letter would be held"


def _rule_tables(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("rules are tables, each begun by [[rule]]")
    if not value:
        raise ValueError(_NO_RULES)
    return value


def _at_most_window(least: int, others: ValidationInfo) -> int:
    window = others.data.get("window", MAX_WINDOW)
    if least > window:
        raise ValueError(f"least is at most window ({window}), or it never opens; got {least}")
    return least


def _not_shorter(longest: float, others: ValidationInfo) -> float:
    cool_down = others.data.get("cool_down", 0)
    if longest < cool_down:
        raise ValueError(
            f"longest_cool_down ({longest:g}) is not shorter than cool_down ({cool_down:g})"
        )
    return longest


Window = Annotated[int, Field(ge=1, le=MAX_WINDOW)]
CoolDown = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]


class Breaker(Table):
    """`[breaker]`: the thresholds of the circuit breaker."""

    window: Window = Field(
        default=DEFAULT_THRESHOLDS.window,
        description="The newest messages that count, of those that recovery sent back.",
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=DEFAULT_THRESHOLDS.share,
        description="Open when at least this share of them died again.",
    )
    least: Annotated[Window, AfterValidator(_at_most_window)] = Field(
        default=DEFAULT_THRESHOLDS.least,
        validate_default=True,
        description="Stay closed with fewer messages than this. At most window.",
    )
    cool_down: CoolDown = Field(
        default=DEFAULT_THRESHOLDS.cool_down,
        description="Seconds to stay open the first time; twice as long each time in a row.",
    )
    longest_cool_down: Annotated[CoolDown, AfterValidator(_not_shorter)] = Field(
        default=DEFAULT_THRESHOLDS.longest_cool_down,
        validate_default=True,
        description="Maximum number of seconds to stay open.",
    )
    probes: Annotated[int, Field(ge=1, le=MAX_PROBES)] = Field(
        default=DEFAULT_THRESHOLDS.probes,
        description="Messages to send back as probes before closing.",
    )


class Document(Table):
    """Recovery rules for dead letters of durableq."""

    rule: Annotated[list[Rule], BeforeValidator(_rule_tables), Field(min_length=1)] = Field(
        description="The rules, in the order in which they are tried."
    )
    breaker: Breaker = Field(default=Breaker(), description="When to stop sending messages back.")


#: The known fields of a table, by its name; the document's is empty.
FIELDS: Final = {
    name: tuple(table.model_fields)
    for name, table in (("", Document), ("rule", Rule), ("when", When), ("breaker", Breaker))
}
_MISSING: Final = {
    "rule": _NO_RULES,
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
    except (ValueError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        why = str(error).removesuffix(found[0]).rstrip() if found else str(error)
        raise InvalidInput(f"{source}, line {line}: {why}. It is not TOML.") from None
    lines = lines_of(text)
    content: Document | None = None
    # All other code may recurse into a document that is not too deep.
    errors = [(at, TOO_DEEP) for at, _ in _walk(document) if len(at) > _DEEPEST][:1]
    if not errors:
        errors = list(_misplaced(document))
        try:
            content = Document.model_validate(document)
        except ValidationError as error:
            errors += _errors(error)
    if content is not None and not errors:
        for number, rule in enumerate(content.rule, 1):
            rule.place(number, _line(lines, ("rule", number - 1)))
        errors = list(_never_reached(content.rule))
    if content is None or errors:
        found_at = sorted((_line(lines, at), _sentence(at, why)) for at, why in errors)
        raise InvalidInput("\n".join(f"{source}, line {line}: {why}" for line, why in found_at))
    thresholds = Thresholds(**content.breaker.model_dump())
    return Rules(source, tuple(content.rule), thresholds)


def lines_of(text: str) -> dict[DocumentPath, int]:
    """Return the line of each table, key and array element of a valid text.

    `tomllib` and tomlkit report no positions. Each statement is parsed alone; the parts of its
    value have the line in which it begins.
    """
    lines: dict[DocumentPath, int] = {}
    elements: Counter[DocumentPath] = Counter()  # of each array of tables, so far
    table: DocumentPath = ()
    for line, start, statement in _statements(text.replace("\r\n", "\n")):
        paths = [path for path, _ in _walk(statement)]
        if not start.startswith("["):
            for path in paths:
                lines.setdefault((*table, *path), line)
            continue
        table = ()
        keys = [key for key in paths[-1] if isinstance(key, str)]
        for depth, key in enumerate(keys, 1):
            table = (*table, key)
            if depth == len(keys) and start.startswith("[["):
                lines.setdefault(table, line)
                elements[table] += 1
            if table in elements:
                table = (*table, elements[table] - 1)
        lines.setdefault(table, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield each statement: its line, its first row, and its keys and value."""
    rows: list[str] = []
    for number, row in enumerate(text.split("\n"), 1):
        rows.append(row)
        if len(rows) > 1 and not _END_OF_VALUE.search(row):
            continue
        try:
            statement = tomllib.loads("\n".join(rows))
        except tomllib.TOMLDecodeError:  # it goes on in the next row
            continue
        if statement:
            yield number - len(rows) + 1, rows[0].lstrip(), statement
        rows = []


def _walk(value: Any) -> Iterator[tuple[DocumentPath, Any]]:
    """Yield the path and value of everything in a document, down to the first value too deep."""
    inner: list[tuple[DocumentPath, Any]] = [((), value)]
    while inner:
        at, value = inner.pop()
        yield at, value
        if len(at) > _DEEPEST:
            continue
        if isinstance(value, dict):
            inner += (((*at, name), each) for name, each in value.items())
        elif isinstance(value, list):
            inner += (((*at, index), each) for index, each in enumerate(value))


def _misplaced(document: Mapping[str, Any]) -> Iterator[Error]:
    """Yield the fields that do not go with the action of their rule.

    Not validators of the model: pydantic runs those only once every field is right.
    """
    tables = document.get("rule")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        then = table.get("then") if isinstance(table, dict) else None
        if not isinstance(then, str) or then not in list(Action):
            continue
        changes = [name for name in CHANGES if name in table]
        if then == Action.RETRY and not changes:
            why = 'a retry changes the body: say what to set or remove, or "requeue"'
            yield ("rule", index, "then"), why
        if then != Action.RETRY:
            for name in changes:
                yield ("rule", index, name), f'{name} goes with then = "retry"'
        if then not in SENDS_BACK:
            for name in SENDING:
                if name in table:
                    why = f"{name} goes with a rule that sends messages back"
                    yield ("rule", index, name), why


def _never_reached(rules: Sequence[Rule]) -> Iterator[Error]:
    """Yield the rules that no dead letter can reach, and names given twice."""
    for index, rule in enumerate(rules):
        before = rules[:index]
        if twin := next((r for r in before if r.name and r.name == rule.name), None):
            yield ("rule", index, "name"), f"rule {twin.number} has this name already"
        if why := rule.when.contradiction():
            yield ("rule", index), f"it can never match: {why}"
        elif first := next(
            (r for r in before if r.limit is None and r.when.covers(rule.when)), None
        ):
            why = f"it can never match: {first.location} takes every dead letter before it"
            yield ("rule", index), why


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
            known = FIELDS[next((str(n) for n in reversed(at[:-1]) if isinstance(n, str)), "")]
            name = f"{shown(at[-1])}{suggestion(at[-1], known)}"
            yield at, f"unknown field {name}; there are {listed(known)}"
        elif kind == "missing":
            yield at, _MISSING[str(at[-1])]
        elif kind == "model_type":
            yield at, f"it must be a table, not {shown(error['input'])}"
        else:
            must = re.sub("Input should|String should", "it must", error["msg"])
            yield at, f"{must}, not {shown(error['input'])}"


def _sentence(at: DocumentPath, why: str) -> str:
    """Return an error with its path: `rule[2].when.queue: ...`."""
    path = "".join(f"[{n + 1}]" if isinstance(n, int) else f".{written((n,))}" for n in at)[1:]
    if len(path) > _MAX_SHOWN_PATH:
        path = path[: _MAX_SHOWN_PATH - 1] + "…"
    return f"{path}: {why.rstrip('.')}." if path else f"{why.rstrip('.')}."


def _line(lines: Mapping[DocumentPath, int], at: DocumentPath) -> int:
    """Return the line of a path, or of the nearest table around it."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: an optional field may be left out, and that is all."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        found = super().default_schema(schema)
        if found.get("default") in (None, "", {}, []):
            found.pop("default", None)
        return found


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of rules files, for editors."""
    schema = Document.model_json_schema(schema_generator=_TomlSchema)
    schema["$defs"]["patterns"] = _PATTERNS
    # Recursive, which pydantic can only say of a model.
    schema["$defs"]["When"]["properties"]["body_matches"]["$ref"] = "#/$defs/patterns"
    return {"$schema": _TomlSchema.schema_dialect} | schema | {"title": "durableq recovery rules"}
