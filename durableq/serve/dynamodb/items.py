"""The actions on single items."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from durableq.model.errors import NotFound
from durableq.model.items import ItemsChanged, ItemsFound
from durableq.serve.context import Context
from durableq.serve.dynamodb import capacity
from durableq.serve.dynamodb.parameters import TABLE_ARN, Parameters
from durableq.serve.dynamodb.paths import PROJECTION, parse_projection, projected
from durableq.serve.dynamodb.schemas import Schema
from durableq.serve.dynamodb.values import ValidationError, checked_attributes
from durableq.serve.dynamodb.writes import (
    Outcome,
    Write,
    decide,
    delete,
    put,
    refuse_legacy,
    substitutes_of,
    update,
    written,
)
from durableq.serve.errors import (
    CONDITIONAL_CHECK_FAILED,
    DYNAMODB_RESOURCE_NOT_FOUND,
    ServiceError,
)
from durableq.store.items import Items

#: The part of an action that uses the store. It runs in a thread.
Work = Callable[[Items], dict[str, Any]]

_RETURNED: Final = ("ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW")


def find_schema(context: Context, store: Items, name: str) -> Schema:
    """Return the schema of a table by its name or ARN.

    Raises:
        ServiceError: there is no such table.
    """
    account, region = context.account, context.region
    if arn := TABLE_ARN.fullmatch(name):
        region, account, name = arn.groups()
    table = store.item_table(account, region, name)
    if table is None:
        raise ServiceError(DYNAMODB_RESOURCE_NOT_FOUND)
    return Schema.of(table)


def get_item(context: Context, request: Parameters) -> Work:
    """Return the item of a key."""
    name = request.table_name()
    given = request.required("Key", request.mapping("Key"))
    is_consistent = request.flag("ConsistentRead")
    request.returned()
    request.check()
    refuse_legacy(request, "AttributesToGet")
    key = checked_attributes(given)
    substitutes = substitutes_of(request, PROJECTION)
    paths = None
    if request.has(PROJECTION):
        paths = parse_projection(request.get(PROJECTION), substitutes)
        substitutes.refuse_unused()

    def work(store: Items) -> dict[str, Any]:
        schema = find_schema(context, store, name)
        of_key = schema.key(key)
        schema.refuse_key_paths(paths or [])
        [stored] = store.items([of_key])
        item = None if stored is None else json.loads(stored)
        units = capacity.of_read(item, is_consistent=is_consistent)
        answer = capacity.consumed(request, name, units)
        if item is not None:
            answer["Item"] = item if paths is None else projected(paths, item)
        return answer

    return work


def put_item(context: Context, request: Parameters) -> Work:
    """Store an item, under a condition."""
    return _write(context, request, put)


def delete_item(context: Context, request: Parameters) -> Work:
    """Remove an item, under a condition."""
    return _write(context, request, delete)


def update_item(context: Context, request: Parameters) -> Work:
    """Change an item, under a condition."""
    return _write(context, request, update)


def _write(context: Context, request: Parameters, prepare: Callable[[Parameters], Write]) -> Work:
    returned = request.choice("ReturnValues", _RETURNED, "NONE")
    request.returned()
    write = prepare(request)
    if prepare is not update and returned not in {"ALL_OLD", "NONE"}:
        raise ValidationError("ReturnValues can only be ALL_OLD or NONE")

    def work(store: Items) -> dict[str, Any]:
        schema = find_schema(context, store, write.table)
        outcome = _written(store, schema, write)
        units = capacity.of_write((outcome.before, outcome.after))
        answer = capacity.consumed(request, write.table, units)
        if shown := _returned(returned, outcome, write):
            answer["Attributes"] = shown
        return answer

    return work


def _written(store: Items, schema: Schema, write: Write) -> Outcome:
    """Make a write.

    Raises:
        ServiceError: its condition does not hold, or the table is deleted meanwhile.
        ValidationError: the item cannot be written.
    """
    key = write.key_in(schema)

    def change(found: ItemsFound) -> ItemsChanged[Outcome]:
        outcome = decide(write, found.items[0])
        if outcome.is_refused:
            return ItemsChanged(outcome)
        return ItemsChanged(outcome, [written(outcome, found.tables[key.table_id])])

    try:
        outcome = store.change_items([key], change)
    except NotFound as error:
        raise ServiceError(DYNAMODB_RESOURCE_NOT_FOUND) from error
    if outcome.failed:
        shown: dict[str, Any] = {"Item": outcome.before} if write.shows_failed else {}
        raise ServiceError(CONDITIONAL_CHECK_FAILED, **(shown if outcome.before else {}))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def _returned(returned: str, outcome: Outcome, write: Write) -> Any:
    states = {
        "ALL_OLD": outcome.before,
        "ALL_NEW": outcome.after,
        "UPDATED_OLD": projected(write.updated, outcome.before or {}),
        "UPDATED_NEW": projected(write.updated, outcome.after or {}),
    }
    return states.get(returned)
