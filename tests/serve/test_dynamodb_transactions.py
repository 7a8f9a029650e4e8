"""Writes of several items of DynamoDB, all or none."""

from collections.abc import Iterator
from typing import Any

import pytest

from durableq import DurableQ
from durableq.serve.errors import ServiceError
from tests.serve.items import TABLE, Items, n, s

NEW = "attribute_not_exists(id)"


@pytest.fixture
def items(store_url: str) -> Iterator[Items]:
    with DurableQ(store_url) as dq:
        made = Items(dq)
        made.create()
        made.create("other", both=True)
        yield made


def put(name: str, **more: Any) -> dict[str, Any]:
    """Return a Put of an item."""
    return {"Put": {"TableName": TABLE, "Item": {"id": s(name)}, **more}}


def write(items: Items, *actions: Any, **more: Any) -> dict[str, Any]:
    """Run a transaction."""
    return items("TransactWriteItems", TransactItems=list(actions), **more)


def canceled(items: Items, *actions: Any) -> ServiceError:
    """Return the error of a transaction that is cancelled."""
    error = items.error("TransactWriteItems", TransactItems=list(actions))
    assert error.kind.json_type.endswith("#TransactionCanceledException"), error
    return error


def test_a_transaction_writes_all(items: Items) -> None:
    items("PutItem", Item={"id": s("gone")})
    items("PutItem", Item={"id": s("checked"), "n": n(1)})
    values = {"ExpressionAttributeValues": {":one": n(1)}}
    answer = write(
        items,
        put("new", ConditionExpression=NEW),
        {"Delete": {"TableName": TABLE, "Key": {"id": s("gone")}}},
        {"Update": {"TableName": "other", "Key": {"id": s("a"), "sort": s("b")},
                    "UpdateExpression": "ADD n :one", **values}},
        {"ConditionCheck": {"TableName": TABLE, "Key": {"id": s("checked")},
                            "ConditionExpression": "n = :one", **values}},
        ReturnConsumedCapacity="TOTAL",
    )  # fmt: skip
    shown = {one["TableName"]: one["CapacityUnits"] for one in answer["ConsumedCapacity"]}
    assert shown == {TABLE: 6, "other": 2}
    assert items.get(id=s("new")) == {"id": s("new")}
    assert items.get(id=s("gone")) is None
    items.table = "other"
    assert items.get(id=s("a"), sort=s("b")) == {"id": s("a"), "sort": s("b"), "n": n(1)}


def test_a_transaction_of_which_one_fails_writes_nothing(items: Items) -> None:
    old = {"id": s("old"), "n": s("text")}
    items("PutItem", Item=old)
    shows = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    error = canceled(
        items,
        put("new", ConditionExpression=NEW),
        put("old", ConditionExpression=NEW, **shows),
        {"Update": {"TableName": "other", "Key": {"id": s("a")}, "UpdateExpression": "REMOVE x"}},
    )
    codes = "None, None, ValidationError"
    assert error.message == (
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    )
    wrong = {"Code": "ValidationError",
             "Message": "The provided key element does not match the schema"}  # fmt: skip
    assert error.details["CancellationReasons"] == [{"Code": "None"}, {"Code": "None"}, wrong]
    error = canceled(
        items,
        put("new", ConditionExpression=NEW),
        {"ConditionCheck": {"TableName": TABLE, "Key": {"id": s("old")}, **shows,
                            "ConditionExpression": NEW}},
    )  # fmt: skip
    assert error.details["CancellationReasons"] == [
        {"Code": "None"},
        {
            "Code": "ConditionalCheckFailed",
            "Message": "The conditional request failed",
            "Item": old,
        },
    ]
    assert items.get(id=s("new")) is None
    assert items.get(id=s("old")) == old


def test_a_transaction_whose_update_cannot_be_made_writes_nothing(items: Items) -> None:
    items("PutItem", Item={"id": s("old"), "n": s("text")})
    add = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": n(1)}}
    update = {"Update": {"TableName": TABLE, "Key": {"id": s("old")}, **add}}
    reasons = canceled(items, put("new"), update).details["CancellationReasons"]
    assert [one["Code"] for one in reasons] == ["None", "ValidationError"]
    assert items.get(id=s("new")) is None


def test_a_token_makes_a_repeated_transaction_one(items: Items) -> None:
    once = {"ClientRequestToken": "token-1"}
    add = {
        "Update": {
            "TableName": TABLE,
            "Key": {"id": s("a")},
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": n(1)},
        }
    }
    for _ in range(3):
        write(items, add, **once)
    assert items.get(id=s("a"))["n"] == n(1)
    write(items, add, ClientRequestToken="token-2")
    write(items, add)
    assert items.get(id=s("a"))["n"] == n(3)
    error = items.error("TransactWriteItems", TransactItems=[put("b")], **once)
    assert error.kind.code == "IdempotentParameterMismatchException"
    assert items.get(id=s("b")) is None


def test_a_transaction_that_was_cancelled_may_be_repeated_with_its_token(items: Items) -> None:
    items("PutItem", Item={"id": s("a")})
    again = {"TransactItems": [put("a", ConditionExpression=NEW)], "ClientRequestToken": "t"}
    assert items.error("TransactWriteItems", **again).kind.code == "TransactionCanceledException"
    items("DeleteItem", Key={"id": s("a")})
    items("TransactWriteItems", **again)
    assert items.get(id=s("a")) is not None


ONE = "1 validation error detected: "


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ([], f"{ONE}Value '[]' at 'transactItems' failed to satisfy constraint: Member must have "
         "length greater than or equal to 1"),
        ([put("a"), put("a")],
         "Transaction request cannot include multiple operations on one item"),
        ([{}], "TransactItems can only contain one of Check, Put, Update or Delete"),
        ([{**put("a"), "Delete": {"TableName": TABLE, "Key": {"id": s("a")}}}],
         "TransactItems can only contain one of Check, Put, Update or Delete"),
        ([{"Put": {"Item": {"id": s("a")}}}], f"{ONE}Value null at "
         "'transactItems.1.member.put.tableName' failed to satisfy constraint: Member must not be "
         "null"),
        ([{"ConditionCheck": {"TableName": TABLE, "Key": {"id": s("a")}}}], f"{ONE}Value null at "
         "'transactItems.1.member.conditionCheck.conditionExpression' failed to satisfy "
         "constraint: Member must not be null"),
        ([put("a", ConditionExpression="a =")],
         'Invalid ConditionExpression: Syntax error; token: "<EOF>", near: "="'),
    ],
)  # fmt: skip
def test_a_transaction_that_is_not_valid_is_refused(items: Items, actions: Any, says: str) -> None:
    assert items.refused("TransactWriteItems", TransactItems=actions) == says


def test_a_transaction_has_a_bounded_size(items: Items) -> None:
    actions = [put(str(number)) for number in range(101)]
    says = items.refused("TransactWriteItems", TransactItems=actions)
    assert says.startswith(f"{ONE}Value '[{{Put}}, {{Put}}, ")
    assert says.endswith("Member must have length less than or equal to 100")
    large = {"id": s("a"), "t": s("x" * 390_000)}
    actions = [
        {"Put": {"TableName": TABLE, "Item": {**large, "id": s(str(number))}}}
        for number in range(11)
    ]
    assert "at most 4 MB together" in str(canceled(items, *actions).details)
    write(items, *actions[:10])
