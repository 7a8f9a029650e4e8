"""Writes of single items: prepared from a request, and decided about for an item as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from durableq.model.items import ItemKey, ItemTable, ItemWrite
from durableq.serve.dynamodb.comparing import bytes_of_attributes
from durableq.serve.dynamodb.conditions import holds, parse_condition, paths_of
from durableq.serve.dynamodb.operands import Call
from durableq.serve.dynamodb.parameters import Parameters
from durableq.serve.dynamodb.scanning import Path, Substitutes
from durableq.serve.dynamodb.schemas import Schema, expiry_in
from durableq.serve.dynamodb.updates import parse_update, updated
from durableq.serve.dynamodb.values import (
    MAX_ATTRIBUTES_BYTES,
    Attributes,
    ValidationError,
    checked_attributes,
)

CONDITION: Final = "ConditionExpression"
UPDATE: Final = "UpdateExpression"
_ON_FAILURE: Final = "ReturnValuesOnConditionCheckFailure"
#: The parameters from before expressions, and the expression to use instead.
LEGACY: Final = {
    "Expected": CONDITION,
    "ConditionalOperator": CONDITION,
    "AttributeUpdates": UPDATE,
    "AttributesToGet": "ProjectionExpression",
}


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is prepared: its parameters are valid, whatever the table and the item are.

    Args:
        table: the name of the table in the request.
        key: returns the key of the item in a table; raises ValidationError.
        new: returns the item after the write, given the one before, or None for none; raises
            ValidationError.
        condition: must hold for the item before.
        shows_failed: whether the error about a condition has the item.
        updated: the paths that an update changes.
    """

    table: str
    key: Callable[[Schema], ItemKey]
    new: Callable[[Attributes | None], Attributes | None]
    condition: Call | None = None
    shows_failed: bool = False
    updated: list[Path] = field(default_factory=list)

    def key_in(self, schema: Schema) -> ItemKey:
        """Return the key of the item in a table.

        Raises:
            ValidationError: it has another form, or an expression does not fit the key.
        """
        key = self.key(schema)
        if self.condition is not None:
            schema.refuse_key_paths(paths_of(self.condition))
        schema.refuse_key_paths(self.updated, change=True)
        return key


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision about a write.

    Args:
        before: the item before; None: there was none.
        after: the item after, if the write is made.
        failed: whether the condition does not hold.
        error: the reason why the item cannot be written.
    """

    before: Attributes | None
    after: Attributes | None = None
    failed: bool = False
    error: ValidationError | None = None

    @property
    def is_refused(self) -> bool:
        """Whether nothing is written."""
        return self.failed or self.error is not None


def decide(write: Write, stored: str | None) -> Outcome:
    """Decide about a write.

    Args:
        write: the write.
        stored: the item as it is; None: there is none.
    """
    before: Attributes | None = None if stored is None else json.loads(stored)
    if write.condition is not None and not holds(write.condition, before or {}):
        return Outcome(before, failed=True)
    try:
        return Outcome(before, write.new(before))
    except ValidationError as error:
        return Outcome(before, error=error)


def written(outcome: Outcome, table: ItemTable) -> ItemWrite | None:
    """Return the new state of an item for the store; None: it stays as it is."""
    if outcome.after == outcome.before:
        return None
    if outcome.after is None:
        return ItemWrite(None)
    text = json.dumps(outcome.after, separators=(",", ":"))
    return ItemWrite(text, expiry_in(outcome.after, table.ttl_attribute))


# ---- prepared from requests


def put(request: Parameters) -> Write:
    """Return the write of a whole item.

    Raises:
        ValidationError, SerializationError: a parameter is not valid.
    """
    table, given, shows = _target(request, "Item")
    refuse_legacy(request, "Expected", "ConditionalOperator")
    attributes = checked_attributes(given)
    if bytes_of_attributes(attributes) > MAX_ATTRIBUTES_BYTES:
        raise ValidationError("Item size has exceeded the maximum allowed size")
    condition = _condition_alone(request)
    return Write(
        table, lambda schema: schema.key_of(attributes), lambda _: attributes, condition, shows
    )


def delete(request: Parameters) -> Write:
    """Return the removal of an item.

    Raises:
        ValidationError, SerializationError: a parameter is not valid.
    """
    return _of_key(request, lambda _: None)


def check(request: Parameters) -> Write:
    """Return a condition alone, as a transaction has it.

    Raises:
        ValidationError, SerializationError: a parameter is not valid.
    """
    request.required(CONDITION, request.text(CONDITION))
    return _of_key(request, lambda item: item)


def update(request: Parameters) -> Write:
    """Return the change of an item.

    Raises:
        ValidationError, SerializationError: a parameter is not valid.
    """
    table, given, shows = _target(request, "Key")
    refuse_legacy(request, "AttributeUpdates", "Expected", "ConditionalOperator")
    key = checked_attributes(given)
    substitutes = substitutes_of(request, UPDATE, CONDITION)
    steps = []
    if request.has(UPDATE):
        steps = parse_update(request.get(UPDATE), substitutes)
    condition = None
    if request.has(CONDITION):
        condition = parse_condition(request.get(CONDITION), substitutes)
    substitutes.refuse_unused()

    def new(before: Attributes | None) -> Attributes:
        after = {**key, **updated(steps, before or {})}
        if bytes_of_attributes(after) > MAX_ATTRIBUTES_BYTES:
            raise ValidationError("Item size to update has exceeded the maximum allowed size")
        return after

    paths = [step.path for step in steps]
    return Write(table, lambda schema: schema.key(key), new, condition, shows, paths)


def _of_key(request: Parameters, new: Callable[[Attributes | None], Attributes | None]) -> Write:
    """Return a write of the item that a key names, by its condition alone."""
    table, given, shows = _target(request, "Key")
    refuse_legacy(request, "Expected", "ConditionalOperator")
    key = checked_attributes(given)
    condition = _condition_alone(request)
    return Write(table, lambda schema: schema.key(key), new, condition, shows)


def _target(request: Parameters, name: str) -> tuple[str, Any, bool]:
    """Return the name of the table, the item or key, and whether a failure shows the item."""
    table = request.table_name()
    given = request.required(name, request.mapping(name))
    shows = request.choice(_ON_FAILURE, ("ALL_OLD", "NONE")) == "ALL_OLD"
    request.check()
    return table, given, shows


def _condition_alone(request: Parameters) -> Call | None:
    substitutes = substitutes_of(request, CONDITION)
    if not request.has(CONDITION):
        return None
    condition = parse_condition(request.get(CONDITION), substitutes)
    substitutes.refuse_unused()
    return condition


def substitutes_of(request: Parameters, *expressions: str) -> Substitutes:
    """Return the names and values beside these expressions.

    Raises:
        ValidationError: one is not valid, or they are there without an expression.
        SerializationError: one has another type.
    """
    names, values = (request.get(f"ExpressionAttribute{kind}") for kind in ("Names", "Values"))
    if not any(map(request.has, expressions)):
        if names is not None:
            raise ValidationError(
                "ExpressionAttributeNames can only be specified when using expressions"
            )
        if values is not None:
            verb = "are" if len(expressions) > 1 else "is"
            raise ValidationError(
                "ExpressionAttributeValues can only be specified when using expressions: "
                f"{' and '.join(expressions)} {verb} null"
            )
    return Substitutes(names, values)


def refuse_legacy(request: Parameters, *names: str) -> None:
    """Raise ValidationError if a request has one of the parameters from before expressions."""
    given = [name for name in names if request.has(name)]
    if not given:
        return
    expressions = [name for name in (UPDATE, CONDITION, LEGACY["AttributesToGet"])
                   if request.has(name)]  # fmt: skip
    if expressions:
        raise ValidationError(
            "Can not use both expression and non-expression parameters in the same request: "
            f"Non-expression parameters: {{{', '.join(given)}}} "
            f"Expression parameters: {{{', '.join(expressions)}}}"
        )
    raise ValidationError(
        f"The legacy parameter {given[0]} is not served by durableq: use {LEGACY[given[0]]}."
    )
