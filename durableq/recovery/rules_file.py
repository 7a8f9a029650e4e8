"""Reading a file of recovery rules. All that is wrong with it is told, each with its line."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from durableq.model import codec
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH, MAX_DELAY_MS, MAX_ERROR_CHARS, MAX_RECEIVES
from durableq.model.message import Reason
from durableq.model.queues import check_new_queue_name
from durableq.model.text import shown
from durableq.model.units import to_ms
from durableq.recovery import toml_positions
from durableq.recovery.circuit_breaker import Thresholds
from durableq.recovery.patch import FieldPath, Patch, leaves
from durableq.recovery.rule_validation import contradiction
from durableq.recovery.rules import (
    Action,
    Condition,
    FieldIs,
    FieldSays,
    OneOf,
    Rule,
    Rules,
    Says,
    Within,
)

T = TypeVar("T")
Table = Mapping[str, Any]

RULE_FIELDS: Final = ("name", "when", "then", "set", "remove", "delay", "limit", "reason")
TEXT_FIELDS: Final = ("queue", "reason", "error_type", "fingerprint")
WHEN_FIELDS: Final = (
    *TEXT_FIELDS,
    *("message", "body", "body_matches"),
    *("older_than", "younger_than", "recoveries_at_least", "recoveries_below"),
)
BREAKER_FIELDS: Final = tuple(Thresholds.__dataclass_fields__)
MAX_NAME_CHARS: Final = 60
#: What durableq says itself stands in the same place of a letter's history.
MAX_REASON_CHARS: Final = MAX_ERROR_CHARS - 200
_TOO_DEEP: Final = f"a field has at most {MAX_BODY_DEPTH} names, for no body is nested deeper"
_BODY: Final = ("rule", 0, "when", "body")
_NEVER_MS: Final = 100 * 366 * 86_400_000


def read(path: str | Path) -> Rules:
    """Read and check a file of rules.

    Raises:
        InvalidInput: it cannot be read, or not be meant as it stands; each line says where.
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
    """Read and check the text of such a file.

    Raises:
        InvalidInput: as for `read`.
    """
    try:
        document = tomllib.loads(text)
        where = toml_positions.lines_of(text)
    except (ValueError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        why = str(error).removesuffix(found[0]).rstrip() if found else str(error)
        raise InvalidInput(f"{source}, line {line}: {why}. It is not TOML.") from None
    reading = _Reading(source, where)
    reading.check_depth(document)
    rules = reading.document(document) if not reading.problems else None
    if rules is None or reading.problems:
        raise InvalidInput("\n".join(text for _, text in sorted(reading.problems)))
    return rules


class _Reading:
    """One file while it is being read. What is wrong is collected, and the rest read on."""

    def __init__(self, source: str, where: Mapping[toml_positions.Path, int]) -> None:
        self._source = source
        self._where = where
        self.problems: list[tuple[int, str]] = []

    # ---- the file

    def check_depth(self, document: Table) -> None:
        """Refuse what is nested deeper than any field of a body; other code recurses into it."""
        inner: list[tuple[toml_positions.Path, Any]] = [((), document)]
        while inner:
            at, value = inner.pop()
            if len(at) > len(_BODY) + MAX_BODY_DEPTH:
                self._wrong(at, _TOO_DEEP)
                return
            if isinstance(value, dict):
                inner += (((*at, name), each) for name, each in value.items())
            elif isinstance(value, list):
                inner += (((*at, number), each) for number, each in enumerate(value))

    def document(self, document: Table) -> Rules:
        """Return the rules; what they are worth, `problems` tells."""
        self._known((), document, ("rule", "breaker"))
        tables = document.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            self._wrong(("rule",), "rules are tables, each begun by [[rule]]")
            tables = []
        elif not tables:
            self._wrong(("rule",), "it holds no [[rule]]: every letter would be held")
        rules = [self._rule(number, table) for number, table in enumerate(tables)]
        thresholds = self._breaker(document.get("breaker", {}))
        if not self.problems:
            self._check_together(rules)
        return Rules(self._source, tuple(rules), thresholds)

    def _breaker(self, table: Any) -> Thresholds:
        thresholds = Thresholds()
        if not self._is_table(("breaker",), table):
            return thresholds
        self._known(("breaker",), table, BREAKER_FIELDS)
        known = {name: table[name] for name in BREAKER_FIELDS if name in table}
        try:
            return Thresholds(**known)
        except InvalidInput as error:
            # The one that is named in the sentence is the one that is wrong.
            name = next((name for name in known if str(error).startswith(name)), "")
            self._wrong(("breaker", *filter(None, (name,))), str(error).rstrip("."))
        return thresholds

    def _check_together(self, rules: Sequence[Rule]) -> None:
        """Find the rules that no letter can reach, and names given twice."""
        for number, rule in enumerate(rules):
            before = rules[:number]
            if twin := next((r for r in before if r.name and r.name == rule.name), None):
                self._wrong(("rule", number, "name"), f"rule {twin.number} has this name already")
            if why := contradiction(rule):
                self._wrong(("rule", number), f"{rule.label} can never match: {why}")
            elif first := next((r for r in before if r.shadows(rule)), None):
                self._wrong(
                    ("rule", number),
                    f"{rule.label} can never match: {first.place} takes every letter before it",
                )

    # ---- a rule

    def _rule(self, number: int, table: Table) -> Rule:
        at: toml_positions.Path = ("rule", number)
        self._known(at, table, RULE_FIELDS)
        action = self._action(at, table)
        when = table.get("when", {})
        rule = Rule(
            number + 1,
            self._line(at),
            self._conditions((*at, "when"), when) if self._is_table((*at, "when"), when) else (),
            action,
            name=self._optional(at, table, "name", _name) or "",
            reason=self._optional(at, table, "reason", _reason) or "",
        )
        sets, remove = self._set(at, table), self._optional(at, table, "remove", _paths) or ()
        rule = replace(rule, patch=Patch(sets, remove))
        if action is Action.RETRY and not {"set", "remove"} & set(table):
            self._wrong(
                (*at, "then"), 'a retry changes the body: say what to set or remove, or "requeue"'
            )
        for name in ("set", "remove"):
            if action is not Action.RETRY and name in table:
                self._wrong((*at, name), f'{name} goes with then = "retry"')
        for name in ("delay", "limit"):
            if not action.sends_back and name in table:
                self._wrong((*at, name), f"{name} goes with a rule that sends letters back")
        delay_ms = self._optional(at, table, "delay", _seconds(MAX_DELAY_MS)) or 0
        limit = self._optional(at, table, "limit", _whole(1, MAX_RECEIVES))
        return replace(rule, delay=delay_ms / 1000, limit=limit)

    def _action(self, at: toml_positions.Path, table: Table) -> Action:
        there = ", ".join(Action)
        if "then" not in table:
            self._wrong(at, f"the rule does not say what then; there are {there}")
        elif table["then"] not in list(Action):
            self._wrong((*at, "then"), f"then is one of {there}, not {_shown(table['then'])}")
        else:
            return Action(table["then"])
        return Action.HOLD

    def _set(self, at: toml_positions.Path, table: Table) -> tuple[tuple[FieldPath, Any], ...]:
        fields = table.get("set", {})
        if not self._is_table((*at, "set"), fields):
            return ()
        if "set" in table and not fields:
            self._wrong((*at, "set"), "set names no field")
        return tuple(
            (path, value)
            for path, value in leaves(fields)
            if self._is_json((*at, "set", *path), value)
        )

    def _conditions(self, at: toml_positions.Path, when: Table) -> tuple[Condition, ...]:
        self._known(at, when, WHEN_FIELDS)
        texts = [(name, self._optional(at, when, name, _CHECKS[name])) for name in TEXT_FIELDS]
        found: list[Condition] = [OneOf(name, values) for name, values in texts if values]
        message = self._optional(at, when, "message", _pattern)
        found += [Says(message)] if message is not None else []
        for path, value in self._fields((*at, "body"), when.get("body")):
            if value == {}:
                self._wrong((*at, "body", *path), "a field is compared with a value, not a table")
            elif self._is_json((*at, "body", *path), value):
                found.append(FieldIs(path, value))
        for path, value in self._fields((*at, "body_matches"), when.get("body_matches")):
            pattern = self._checked((*at, "body_matches", *path), value, _pattern)
            found += [FieldSays(path, pattern)] if pattern is not None else []
        found += self._range(at, when, "age", ("older_than", "younger_than"), _seconds(_NEVER_MS))
        bounds = ("recoveries_at_least", "recoveries_below")
        return (*found, *self._range(at, when, "recoveries", bounds, _whole(0, MAX_RECEIVES)))

    def _fields(self, at: toml_positions.Path, table: Any) -> list[tuple[FieldPath, Any]]:
        if table is None or not self._is_table(at, table):
            return []
        if not table:
            self._wrong(at, "it names no field")
        return list(leaves(table))

    def _range(
        self,
        at: toml_positions.Path,
        when: Table,
        name: str,
        bounds: tuple[str, str],
        check: Callable[[Any], int],
    ) -> list[Condition]:
        least, below = (self._optional(at, when, bound, check) for bound in bounds)
        if least is None and below is None:
            return []
        return [Within(name, least or 0, math.inf if below is None else below)]

    # ---- a field

    def _optional(
        self, at: toml_positions.Path, table: Table, name: str, check: Callable[[Any], T]
    ) -> T | None:
        return self._checked((*at, name), table[name], check) if name in table else None

    def _checked(self, at: toml_positions.Path, value: Any, check: Callable[[Any], T]) -> T | None:
        try:
            return check(value)
        except InvalidInput as error:
            self._wrong(at, f"{at[-1]}: {str(error).rstrip('.')}")
        return None

    def _is_json(self, at: toml_positions.Path, value: Any) -> bool:
        return self._checked(at, value, _json) is not None

    def _is_table(self, at: toml_positions.Path, value: Any) -> bool:
        if not isinstance(value, dict):
            self._wrong(at, f"{at[-1]} is a table, not {_shown(value)}")
        return isinstance(value, dict)

    def _known(self, at: toml_positions.Path, table: Table, known: Sequence[str]) -> None:
        for name in table:
            if name not in known:
                self._wrong(
                    (*at, name), f"unknown field {shown(name)}; there are {', '.join(known)}"
                )

    def _wrong(self, at: toml_positions.Path, why: str) -> None:
        line = self._line(at)
        self.problems.append((line, f"{self._source}, line {line}: {why}."))

    def _line(self, at: toml_positions.Path) -> int:
        while at and at not in self._where:
            at = at[:-1]
        return self._where.get(at, 1)


# ---- what a value must be


def _name(value: Any) -> str:
    fits = isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable()
    if not fits or '"' in value:
        raise InvalidInput(f"1 to {MAX_NAME_CHARS} printable characters without quotes")
    return str(value)


def _reason(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_REASON_CHARS:
        raise InvalidInput(f"a text of at most {MAX_REASON_CHARS} characters")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str) and one for one in values):
        raise InvalidInput(f"a text, or a list of some, not {_shown(value)}")
    return tuple(values)


def _queues(value: Any) -> tuple[str, ...]:
    for name in _texts(value):
        check_new_queue_name(name)
    return _texts(value)


def _reasons(value: Any) -> tuple[str, ...]:
    for name in _texts(value):
        if name not in set(Reason):
            raise InvalidInput(f"no letter dies of {shown(name)}; there are {', '.join(Reason)}")
    return _texts(value)


_CHECKS: Final[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
    "queue": _queues,
    "reason": _reasons,
    "error_type": _texts,
    "fingerprint": _texts,
}


def _pattern(value: Any) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise InvalidInput(f"a pattern is a text, not {_shown(value)}")
    try:
        return re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(f"{shown(value)} is no pattern: {error}") from None


def _paths(value: Any) -> tuple[FieldPath, ...]:
    paths = _texts(value)
    try:
        fields = tuple(map(toml_positions.keys_of, paths))
    except ValueError:
        raise InvalidInput(f"fields are named as TOML's keys are, not {_shown(value)}") from None
    if max(map(len, fields)) > MAX_BODY_DEPTH:
        raise InvalidInput(_TOO_DEEP)
    return fields


def _json(value: Any) -> codec.Encoded:
    try:
        return codec.encode(value)
    except InvalidInput:
        raise InvalidInput(f"a body, which is JSON, cannot hold {_shown(value)}") from None


def _seconds(most_ms: int) -> Callable[[Any], int]:
    return lambda value: to_ms(value, "it", most_ms)


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise InvalidInput(f"a whole number from {least} to {most}, not {_shown(value)}")
        return value

    return check


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
