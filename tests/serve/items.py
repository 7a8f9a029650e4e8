"""Actions of DynamoDB on an application, in tests."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from durableq import DurableQ
from durableq.serve.context import Context
from durableq.serve.dynamodb import OPERATIONS
from durableq.serve.errors import ServiceError

TABLE = "idempotency"
HASH = [{"AttributeName": "id", "KeyType": "HASH"}]
BOTH = [*HASH, {"AttributeName": "sort", "KeyType": "RANGE"}]


def s(text: str) -> dict[str, str]:
    return {"S": text}


def n(number: float) -> dict[str, str]:
    return {"N": str(number)}


class Items:
    """The actions on one application: `items("PutItem", Item=…)` is about the table."""

    def __init__(self, dq: DurableQ, table: str = TABLE, **context: Any) -> None:
        self.context = replace(Context(dq), **context)
        self.table = table

    def __call__(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of an action; the table is that of the tests by default."""
        if action not in {"ListTables", "TransactWriteItems"}:
            parameters = {"TableName": self.table, **parameters}
        return self.raw(action, parameters)

    def raw(self, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of an action."""

        async def answered() -> dict[str, Any]:
            return await OPERATIONS[action](self.context, parameters)

        return asyncio.run(answered())

    def create(self, name: str = TABLE, *, both: bool = False, **more: Any) -> dict[str, Any]:
        """Create a table with the key `id`, or `id` and `sort`."""
        names = ["id", "sort"] if both else ["id"]
        parameters = {
            "AttributeDefinitions": [{"AttributeName": one, "AttributeType": "S"} for one in names],
            "KeySchema": BOTH if both else HASH,
            "BillingMode": "PAY_PER_REQUEST",
            **more,
        }
        return self("CreateTable", TableName=name, **parameters)

    def get(self, **key: Any) -> Any:
        """Return an item; None if there is none."""
        return self("GetItem", Key=key, ConsistentRead=True).get("Item")

    def error(self, action: str, **parameters: Any) -> ServiceError:
        """Return the error of an action."""
        with pytest.raises(ServiceError) as raised:
            self(action, **parameters)
        return raised.value

    def refused(self, action: str, **parameters: Any) -> str:
        """Return the sentence of a ValidationException."""
        error = self.error(action, **parameters)
        assert error.kind.code == "ValidationException", error
        return error.message
