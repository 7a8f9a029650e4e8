"""The actions of DynamoDB: a subset, in which items are read and written by their key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durableq.client import coroutines
from durableq.serve.context import Action, Context, Operations
from durableq.serve.dynamodb import items, tables, transactions
from durableq.serve.dynamodb.parameters import Parameters
from durableq.serve.dynamodb.values import SerializationError, ValidationError
from durableq.serve.errors import SERIALIZATION, VALIDATION_ERROR, ServiceError
from durableq.store.core import Capability

#: Checks a request, and returns the part that uses the store.
_Prepare = Callable[[Context, Parameters], items.Work]

_READS: Final[dict[str, _Prepare]] = {
    "DescribeTable": tables.describe_table,
    "DescribeTimeToLive": tables.describe_time_to_live,
    "GetItem": items.get_item,
    "ListTables": tables.list_tables,
}
_WRITES: Final[dict[str, _Prepare]] = {
    "CreateTable": tables.create_table,
    "DeleteItem": items.delete_item,
    "DeleteTable": tables.delete_table,
    "PutItem": items.put_item,
    "TransactWriteItems": transactions.transact_write_items,
    "UpdateItem": items.update_item,
    "UpdateTimeToLive": tables.update_time_to_live,
}


def _action(prepare: _Prepare, run: Callable[..., Any]) -> Action:
    """Return the coroutine of an action, in which the store is used in a thread."""

    async def answer(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            work = prepare(context, Parameters(parameters))
            store = context.store
            found: dict[str, Any] = await run(store, work, store.require(Capability.ITEMS))
        except ValidationError as error:
            raise ServiceError(VALIDATION_ERROR, str(error)) from error
        except SerializationError as error:
            raise ServiceError(SERIALIZATION, str(error)) from error
        return found

    return answer


#: By name, as in the service's model.
OPERATIONS: Operations = {
    **{name: _action(prepare, coroutines.read) for name, prepare in _READS.items()},
    **{name: _action(prepare, coroutines.write) for name, prepare in _WRITES.items()},
}
