"""Writes of several items, all or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from durableq.model.errors import NotFound
from durableq.model.items import (
    TOKENS,
    ItemKey,
    ItemsChanged,
    ItemsFound,
    ItemWrite,
    key_text,
)
from durableq.serve.context import Context
from durableq.serve.dynamodb import capacity
from durableq.serve.dynamodb.comparing import bytes_of_attributes
from durableq.serve.dynamodb.items import Work, find_schema
from durableq.serve.dynamodb.parameters import Parameters
from durableq.serve.dynamodb.schemas import Schema
from durableq.serve.dynamodb.values import ValidationError
from durableq.serve.dynamodb.writes import (
    Outcome,
    Write,
    check,
    decide,
    delete,
    put,
    update,
    written,
)
from durableq.serve.errors import (
    CONDITIONAL_CHECK_FAILED,
    DYNAMODB_RESOURCE_NOT_FOUND,
    IDEMPOTENT_PARAMETER_MISMATCH,
    TRANSACTION_CANCELED,
    ServiceError,
)
from durableq.store.items import Items

MAX_ACTIONS: Final = 100
MAX_BYTES: Final = 4 * 1024 * 1024
#: The time for which a token makes a repeated request the same one.
TOKEN_SECONDS: Final = 600
_ACTIONS: Final[dict[str, Callable[[Parameters], Write]]] = {
    "ConditionCheck": check,
    "Put": put,
    "Delete": delete,
    "Update": update,
}


def transact_write_items(context: Context, request: Parameters) -> Work:
    """Make several writes, all or none; repeated with its token within 10 minutes, once."""
    listed = request.required("TransactItems", request.items("TransactItems"))
    request.length("TransactItems", listed, 1, MAX_ACTIONS)
    token = request.text("ClientRequestToken")
    request.length("ClientRequestToken", token, 1, 36)
    request.returned()
    request.check()
    writes = [_action(one) for one in listed or ()]
    mark = None if token is None else _Token(context, token, request)

    def work(store: Items) -> dict[str, Any]:
        schemas = {
            name: find_schema(context, store, name) for name in {one.table for one in writes}
        }
        outcomes = _written(store, schemas, writes, mark)
        return _consumed(request, writes, outcomes)

    return work


def _consumed(
    request: Parameters, writes: Sequence[Write], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """Return the units for each table, if the request asks for them."""
    units: dict[str, float] = {}
    for write, outcome in zip(writes, outcomes, strict=False):  # repeated: none
        states = (outcome.before, outcome.after)
        spent = capacity.of_write(states, is_transaction=True)
        units[write.table] = units.get(write.table, 0) + spent
    found = [capacity.consumed(request, *each) for each in units.items()]
    shown = [each["ConsumedCapacity"] for each in found if each]
    return {"ConsumedCapacity": shown} if shown else {}


def _action(one: Parameters) -> Write:
    given = [name for name in _ACTIONS if one.has(name)]
    if len(given) != 1:
        raise ValidationError("TransactItems can only contain one of Check, Put, Update or Delete")
    inside = one.structure(given[0])
    assert inside is not None  # noqa: S101 - it is there
    return _ACTIONS[given[0]](inside)


def _written(
    store: Items, schemas: dict[str, Schema], writes: Sequence[Write], mark: _Token | None
) -> Sequence[Outcome]:
    keys, errors = _keys(schemas, writes)
    if any(errors):
        raise _canceled(writes, [Outcome(None, error=error) for error in errors])
    if len(set(keys)) < len(keys):
        raise ValidationError("Transaction request cannot include multiple operations on one item")

    def change(found: ItemsFound) -> ItemsChanged[Sequence[Outcome] | ServiceError]:
        if mark is not None and (answer := mark.repeated(found)) is not None:
            return ItemsChanged(answer)
        pairs = zip(writes, found.items, strict=False)  # the token is behind the items
        outcomes = [decide(write, item) for write, item in pairs]
        if any(outcome.is_refused for outcome in outcomes):
            return ItemsChanged(_canceled(writes, outcomes))
        if sum(bytes_of_attributes(one.after or one.before or {}) for one in outcomes) > MAX_BYTES:
            return ItemsChanged(_too_large(writes))
        changes = [
            written(outcome, found.tables[key.table_id])
            for outcome, key in zip(outcomes, keys, strict=True)
        ]
        return ItemsChanged(outcomes, changes if mark is None else [*changes, mark.write(found)])

    try:
        answer = store.change_items(keys if mark is None else [*keys, mark.key], change)
    except NotFound as error:
        raise ServiceError(DYNAMODB_RESOURCE_NOT_FOUND) from error
    if isinstance(answer, ServiceError):
        raise answer
    return answer


def _keys(
    schemas: dict[str, Schema], writes: Sequence[Write]
) -> tuple[list[ItemKey], list[ValidationError | None]]:
    """Return the keys, and the errors of those that do not fit their tables."""
    keys: list[ItemKey] = []
    errors: list[ValidationError | None] = []
    for write in writes:
        try:
            keys.append(write.key_in(schemas[write.table]))
            errors.append(None)
        except ValidationError as error:
            errors.append(error)
    return keys, errors


def _canceled(writes: Sequence[Write], outcomes: Sequence[Outcome]) -> ServiceError:
    """Return the error about a transaction with the reason of each write."""
    reasons = [_reason(write, one) for write, one in zip(writes, outcomes, strict=True)]
    codes = ", ".join(reason["Code"] for reason in reasons)
    return ServiceError(
        TRANSACTION_CANCELED,
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        CancellationReasons=reasons,
    )


def _reason(write: Write, outcome: Outcome) -> dict[str, Any]:
    if outcome.error is not None:
        return {"Code": "ValidationError", "Message": str(outcome.error)}
    if not outcome.failed:
        return {"Code": "None"}
    reason = {"Code": "ConditionalCheckFailed", "Message": CONDITIONAL_CHECK_FAILED.message}
    shown = outcome.before if write.shows_failed else None
    return {**reason, "Item": shown} if shown else reason


def _too_large(writes: Sequence[Write]) -> ServiceError:
    error = ValidationError("The items of a transaction may have at most 4 MB together")
    return _canceled(writes, [Outcome(None, error=error) for _ in writes])


class _Token:
    """The token of a request, which is stored with its effect.

    Args:
        context: of the request.
        token: ClientRequestToken.
        request: the parameters.
    """

    def __init__(self, context: Context, token: str, request: Parameters) -> None:
        of = "/".join((context.account, context.region, token))
        self.key = ItemKey(TOKENS, key_text(of))
        content = json.dumps(request.get("TransactItems"), sort_keys=True, default=repr)
        self._digest = hashlib.sha256(content.encode()).hexdigest()

    def repeated(self, found: ItemsFound) -> Sequence[Outcome] | ServiceError | None:
        """Return the answer to a request that was made before; None if this is the first."""
        stored = found.items[-1]
        if stored is None:
            return None
        before = json.loads(stored)
        if not 0 <= found.now_s - before["at_s"] < TOKEN_SECONDS:
            return None
        return (
            () if before["digest"] == self._digest else ServiceError(IDEMPOTENT_PARAMETER_MISMATCH)
        )

    def write(self, found: ItemsFound) -> ItemWrite:
        """Return the note about this request."""
        note = {"digest": self._digest, "at_s": found.now_s}
        return ItemWrite(json.dumps(note), int(found.now_s) + TOKEN_SECONDS)
