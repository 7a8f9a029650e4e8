"""The tables of a rules file as pydantic models, and their JSON Schema for editors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from durableq.model import codec
from durableq.model.arguments import listed, near_miss
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH, MAX_DELAY_MS, MAX_ERROR_CHARS, MAX_RECEIVES
from durableq.model.message import Reason
from durableq.model.queues import check_new_queue_name
from durableq.model.text import shown
from durableq.recovery import toml_positions
from durableq.recovery.circuit_breaker import (
    DEFAULT_THRESHOLDS,
    LONGEST_SECONDS,
    MAX_PROBES,
    MAX_WINDOW,
    Thresholds,
)
from durableq.recovery.patch import FieldPath, Patch, leaves
from durableq.recovery.patterns import Pattern
from durableq.recovery.rules import (
    Action,
    Condition,
    FieldEquals,
    FieldMatches,
    InRange,
    MessageMatches,
    OneOf,
    Rule,
)

MAX_NAME_CHARS: Final = 60
#: The rule's name and the explanation of an error follow the reason in a message's history.
MAX_REASON_CHARS: Final = MAX_ERROR_CHARS - 200
MAX_AGE_SECONDS: Final = 100 * 366 * 86_400
TOO_DEEP: Final = f"a field has at most {MAX_BODY_DEPTH} names, for no body is nested deeper"
_NOT_RULES: Final = "rules are tables, each begun by [[rule]]"
NO_RULES: Final = "it holds no [[rule]]: every dead letter would be held"


class FieldErrors(ValueError):
    """Errors at paths within the validated value."""

    def __init__(self, errors: Sequence[tuple[FieldPath, str]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, in parentheses; empty if there is none."""
    meant = near_miss(name, known)
    return f" (did you mean {str(meant)!r}?)" if meant else ""


# ---- values


def _strings(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise ValueError(f"it must be a string, or a list of strings, not {shown(value)}")
    return tuple(values)


def _queues(value: object) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        check_new_queue_name(name)
    return names


def _reasons(value: object) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        if name not in list(Reason):
            raise ValueError(
                f"unknown reason {shown(name)}{suggestion(name, Reason)}; "
                f"there are {listed(Reason)}"
            )
    return names


def _pattern(value: object) -> Pattern:
    if not isinstance(value, str):
        raise ValueError(f"it must be a regular expression in quotes, not {shown(value)}")
    return Pattern.compile(value)


def _removed(value: object) -> tuple[FieldPath, ...]:
    names = _strings(value)
    try:
        paths = tuple(map(toml_positions.keys_of, names))
    except ValueError:
        raise ValueError(
            f"fields are named as TOML's keys are, with dots, not {shown(value)}"
        ) from None
    if max(map(len, paths)) > MAX_BODY_DEPTH:
        raise ValueError(TOO_DEEP)
    return paths


def _json(value: object) -> object:
    try:
        codec.encode(value)
    except InvalidInput:
        raise ValueError(f"a body is JSON and cannot hold {shown(value)}") from None
    return value


def _compared(value: object) -> object:
    if value == {}:
        raise ValueError("a field is compared with a value, not a table")
    return _json(value)


def _fields(
    check: Callable[[object], Any],
) -> Callable[[object], tuple[tuple[FieldPath, Any], ...]]:
    """Return a validator that flattens nested tables and checks each value in them."""

    def validate(value: object) -> tuple[tuple[FieldPath, Any], ...]:
        if not isinstance(value, dict):
            raise ValueError(f"it must be a table, not {shown(value)}")
        if not value:
            raise ValueError("it names no field")
        fields, errors = [], []
        for path, each in leaves(value):
            try:
                fields.append((path, check(each)))
            except ValueError as error:
                errors.append((path, str(error)))
        if errors:
            raise FieldErrors(errors)
        return tuple(fields)

    return validate


def _name(value: str) -> str:
    if not value.isprintable() or '"' in value:
        raise ValueError(f"it must be printable characters without quotes, not {shown(value)}")
    return value


def _rule_tables(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(_NOT_RULES)
    if not value:
        raise ValueError(NO_RULES)
    return value


def _one_or_more(item: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]})


_TEXT: Final = {"type": "string", "minLength": 1}
_TABLE: Final = WithJsonSchema({"type": "object", "minProperties": 1})
_PATTERNS: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/patterns"}]},
}
_REASONS: Final = {"type": "string", "enum": sorted(Reason)}
_QUEUE: Final = {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"}

Strings = Annotated[tuple[str, ...], PlainValidator(_strings), _one_or_more(_TEXT)]
Queues = Annotated[tuple[str, ...], PlainValidator(_queues), _one_or_more(_QUEUE)]
ReasonNames = Annotated[tuple[str, ...], PlainValidator(_reasons), _one_or_more(_REASONS)]
Removed = Annotated[tuple[FieldPath, ...], PlainValidator(_removed), _one_or_more(_TEXT)]
Regex = Annotated[Pattern, PlainValidator(_pattern), WithJsonSchema({"type": "string"})]
Values = Annotated[tuple[tuple[FieldPath, Any], ...], PlainValidator(_fields(_json)), _TABLE]
Compared = Annotated[tuple[tuple[FieldPath, Any], ...], PlainValidator(_fields(_compared)), _TABLE]
Matched = Annotated[
    tuple[tuple[FieldPath, Pattern], ...],
    PlainValidator(_fields(_pattern)),
    _TABLE,
]
Age = Annotated[float, Field(ge=0, le=MAX_AGE_SECONDS)]
Recoveries = Annotated[int, Field(ge=0, le=MAX_RECEIVES)]
CoolDown = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]


# ---- tables


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class BreakerTable(_Table):
    """`[breaker]`: the thresholds of the circuit breaker."""

    window: int = Field(
        default=DEFAULT_THRESHOLDS.window,
        ge=1,
        le=MAX_WINDOW,
        description="The newest messages that count, of those that recovery sent back.",
    )
    share: float = Field(
        default=DEFAULT_THRESHOLDS.share,
        gt=0,
        le=1,
        description="Open when at least this share of them died again.",
    )
    least: int = Field(
        default=DEFAULT_THRESHOLDS.least,
        ge=1,
        le=MAX_WINDOW,
        description="Stay closed with fewer messages than this. At most window.",
    )
    cool_down: CoolDown = Field(
        default=DEFAULT_THRESHOLDS.cool_down,
        description="Seconds to stay open the first time; twice as long each time in a row.",
    )
    longest_cool_down: CoolDown = Field(
        default=DEFAULT_THRESHOLDS.longest_cool_down,
        description="Maximum number of seconds to stay open.",
    )
    probes: int = Field(
        default=DEFAULT_THRESHOLDS.probes,
        ge=1,
        le=MAX_PROBES,
        description="Messages to send back as probes before closing.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> BreakerTable:
        try:
            self.thresholds()
        except InvalidInput as error:  # its sentence begins with the field's name
            raise FieldErrors([((str(error).split()[0],), str(error))]) from None
        return self

    def thresholds(self) -> Thresholds:
        """Return the thresholds.

        Raises:
            InvalidInput: two of them contradict each other.
        """
        return Thresholds(**self.model_dump())


class WhenTable(_Table):
    """`[rule.when]`: the conditions of a rule, all of which must hold."""

    queue: Queues | None = Field(default=None, description="The queue in which the message died.")
    reason: ReasonNames | None = Field(default=None, description="The reason for which it died.")
    error_type: Strings | None = Field(default=None, description="The type of its last error.")
    fingerprint: Strings | None = Field(
        default=None,
        description="The fingerprint of its last error, as `durableq dlq groups` shows it.",
    )
    message: Regex | None = Field(
        default=None, description="A regular expression that is found in the error's message."
    )
    body: Compared | None = Field(default=None, description="Fields of the body and their values.")
    body_matches: Matched | None = Field(
        default=None,
        description="Fields of the body and regular expressions that are found in them.",
    )
    older_than: Age | None = Field(default=None, description="Seconds since it was sent, or more.")
    younger_than: Age | None = Field(
        default=None, description="Fewer seconds than this since it was sent."
    )
    recoveries_at_least: Recoveries | None = Field(
        default=None, description="Times that it was sent back, or more."
    )
    recoveries_below: Recoveries | None = Field(
        default=None, description="Fewer times than this that it was sent back."
    )

    def conditions(self) -> Iterator[Condition]:
        """Yield the conditions, the cheap ones first."""
        for name in ("queue", "reason", "error_type", "fingerprint"):
            if values := getattr(self, name):
                yield OneOf(name, values)
        if self.message is not None:
            yield MessageMatches(self.message)
        for path, value in self.body or ():
            yield FieldEquals(path, value)
        for path, pattern in self.body_matches or ():
            yield FieldMatches(path, pattern)
        yield from _range("age", _ms(self.older_than), _ms(self.younger_than))
        yield from _range("recoveries", self.recoveries_at_least, self.recoveries_below)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _range(name: str, least: int | None, below: int | None) -> Iterator[Condition]:
    if least is not None or below is not None:
        yield InRange(name, least or 0, math.inf if below is None else below)


CHANGES: Final = ("set", "remove")
SENDING: Final = ("delay", "limit")
_RETRY: Final[dict[str, Any]] = {"properties": {"then": {"const": "retry"}}}
_SENDS_BACK: Final[dict[str, Any]] = {"properties": {"then": {"enum": ["retry", "requeue"]}}}


def _any_of(names: Sequence[str]) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


class RuleTable(_Table):
    """`[[rule]]`: the first rule that fits a dead letter decides about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"if": _RETRY, "then": _any_of(CHANGES), "else": {"not": _any_of(CHANGES)}},
                {"if": {"not": _SENDS_BACK}, "then": {"not": _any_of(SENDING)}},
            ]
        }
    )

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_name)] = (
        Field(default="", description="The rule's name in histories and output.")
    )
    when: WhenTable = Field(default=WhenTable(), description="Conditions, all of which must hold.")
    then: Annotated[Action, Field(strict=False)] = Field(description="The action.")
    set: Values | None = Field(
        default=None, description="retry: fields of the body and their new values."
    )
    remove: Removed | None = Field(
        default=None, description="retry: fields to remove from the body before others are set."
    )
    delay: Annotated[float, Field(ge=0, le=MAX_DELAY_MS / 1000)] = Field(
        default=0, description="retry, requeue: seconds before the message is ready."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_RECEIVES)] | None = Field(
        default=None, description="retry, requeue: maximum number of times for one message."
    )
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = Field(
        default="", description="A text for the message's history."
    )

    def rule(self, number: int, line: int) -> Rule:
        """Return the rule that begins in this line."""
        return Rule(
            number,
            line,
            tuple(self.when.conditions()),
            self.then,
            name=self.name,
            reason=self.reason,
            patch=Patch(self.set or (), self.remove or ()),
            delay=self.delay,
            limit=self.limit,
        )


class RulesTable(_Table):
    """Recovery rules for dead letters of durableq."""

    rule: Annotated[list[RuleTable], BeforeValidator(_rule_tables), Field(min_length=1)] = Field(
        description="The rules, in the order in which they are tried."
    )
    breaker: BreakerTable = Field(
        default=BreakerTable(), description="When to stop sending messages back."
    )


RULE_FIELDS: Final = tuple(RuleTable.model_fields)
WHEN_FIELDS: Final = tuple(WhenTable.model_fields)
BREAKER_FIELDS: Final = tuple(BreakerTable.model_fields)


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: an optional field may be left out, and that is all."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        found = super().default_schema(schema)
        if found.get("default") in (None, "", {}):
            found.pop("default", None)
        return found


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of rules files, for editors."""
    schema = RulesTable.model_json_schema(schema_generator=_TomlSchema)
    schema["$defs"]["patterns"] = _PATTERNS
    # Recursive, which pydantic can only say of a model.
    schema["$defs"]["WhenTable"]["properties"]["body_matches"]["$ref"] = "#/$defs/patterns"
    return {"$schema": _TomlSchema.schema_dialect} | schema | {"title": "durableq recovery rules"}
