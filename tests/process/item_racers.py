"""A process that puts items if they are new, and says which of them it has put.

    python -m tests.process.item_racers DATABASE FIRST LAST NAME

For each number it puts an item with the condition attribute_not_exists, and prints the number and
whether it won, once the answer is there.
"""

import asyncio
import sys

from durableq import DurableQ
from durableq.serve.context import Context
from durableq.serve.dynamodb import OPERATIONS
from durableq.serve.errors import CONDITIONAL_CHECK_FAILED, ServiceError

TABLE = "race"


async def put(context: Context, number: int, name: str) -> bool:
    """Put one item; return whether it was new."""
    item = {"id": {"S": str(number)}, "by": {"S": name}}
    parameters = {
        "TableName": TABLE,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(id)",
    }
    try:
        await OPERATIONS["PutItem"](context, parameters)
    except ServiceError as error:
        if error.kind is not CONDITIONAL_CHECK_FAILED:
            raise
        return False
    return True


async def add_one(context: Context) -> None:
    """Count up an item."""
    parameters = {
        "TableName": TABLE,
        "Key": {"id": {"S": "counter"}},
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    await OPERATIONS["UpdateItem"](context, parameters)


async def race(url: str, first: int, last: int, name: str) -> None:
    """Put the items, and count up after each."""
    with DurableQ(url) as dq:
        context = Context(dq)
        _ = dq.store
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(first, last):
            won = await put(context, number, name)
            print(f"put {number} {won}", flush=True)
            await add_one(context)
            print("added", flush=True)


if __name__ == "__main__":
    database, begin, end, who = sys.argv[1:]
    asyncio.run(race(database, int(begin), int(end), who))
