"""The actions of DynamoDB on single items: their answers, and each error."""

from collections.abc import Iterator
from typing import Any

import pytest

from durableq import DurableQ
from tests.serve.items import TABLE, Items, n, s

INVALID = "One or more parameter values were invalid: "
ONE = "1 validation error detected: "


@pytest.fixture
def items(store_url: str) -> Iterator[Items]:
    with DurableQ(store_url) as dq:
        made = Items(dq)
        made.create()
        yield made


@pytest.fixture
def local() -> Iterator[Items]:
    """The actions on a store in memory."""
    with DurableQ("memory://") as dq:
        made = Items(dq)
        made.create()
        made.create("sorted", both=True)
        yield made


def test_an_item_is_put_read_changed_and_deleted(items: Items) -> None:
    item = {"id": s("a"), "n": n(1), "b": {"B": "AAE="}, "l": {"L": [{"NULL": True}, s("é\x00")]}}
    assert items("PutItem", Item=item) == {}
    assert items.get(id=s("a")) == item
    assert items("PutItem", Item={"id": s("a")}, ReturnValues="ALL_OLD") == {"Attributes": item}
    changed = items(
        "UpdateItem",
        Key={"id": s("a")},
        UpdateExpression="SET n = if_not_exists(n, :zero) + :one",
        ExpressionAttributeValues={":zero": n(0), ":one": n(1)},
        ReturnValues="ALL_NEW",
    )
    assert changed == {"Attributes": {"id": s("a"), "n": n(1)}}
    assert items("DeleteItem", Key={"id": s("a")}, ReturnValues="ALL_OLD") == changed
    assert items("DeleteItem", Key={"id": s("a")}, ReturnValues="ALL_OLD") == {}
    assert items("GetItem", Key={"id": s("a")}) == {}


def test_a_condition_that_fails_changes_nothing_and_shows_the_item(items: Items) -> None:
    old = {"id": s("a"), "n": n(1)}
    new = {"Item": {"id": s("a"), "n": n(2)}}
    is_new = {"ConditionExpression": "attribute_not_exists(id)"}
    shown = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    items("PutItem", Item=old, **is_new)
    error = items.error("PutItem", **new, **is_new)
    assert error.kind.json_type.endswith("#ConditionalCheckFailedException")
    assert (error.message, error.details) == ("The conditional request failed", {})
    assert items.error("PutItem", **new, **is_new, **shown).details == {"Item": old}
    is_two = {
        "ConditionExpression": "n = :two",
        "ExpressionAttributeValues": {":two": n(2)},
        **shown,
    }
    assert items.error("DeleteItem", Key={"id": s("a")}, **is_two).details == {"Item": old}
    update = {"Key": {"id": s("a")}, "UpdateExpression": "REMOVE n"}
    assert items.error("UpdateItem", **update, **is_two).details == {"Item": old}
    gone = {**is_two, "Key": {"id": s("none")}}
    assert items.error("DeleteItem", **gone).details == {}, "there is no item to show"
    assert items.get(id=s("a")) == old
    items("UpdateItem", Key={"id": s("b")}, ConditionExpression="attribute_not_exists(id)")
    assert items.get(id=s("b")) == {"id": s("b")}, "an update without an expression makes an item"


def test_an_update_that_cannot_be_made_changes_nothing(items: Items) -> None:
    items("PutItem", Item={"id": s("a"), "n": s("text")})
    update = {
        "Key": {"id": s("a")},
        "UpdateExpression": "SET m = :one, n = n + :one",
        "ExpressionAttributeValues": {":one": n(1)},
    }
    wrong = "An operand in the update expression has an incorrect data type"
    assert items.refused("UpdateItem", **update) == wrong
    assert items.get(id=s("a")) == {"id": s("a"), "n": s("text")}


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("NONE", None),
        ("ALL_OLD", {"id": s("a"), "n": n(1), "m": {"M": {"x": n(1), "y": n(1)}}}),
        ("ALL_NEW", {"id": s("a"), "n": n(2), "m": {"M": {"y": n(1)}}}),
        ("UPDATED_OLD", {"n": n(1), "m": {"M": {"x": n(1)}}}),
        ("UPDATED_NEW", {"n": n(2)}),
    ],
)
def test_an_update_returns_the_states_that_are_asked_for(
    local: Items, returned: str, expected: Any
) -> None:
    local("PutItem", Item={"id": s("a"), "n": n(1), "m": {"M": {"x": n(1), "y": n(1)}}})
    answer = local(
        "UpdateItem",
        Key={"id": s("a")},
        UpdateExpression="SET n = :two REMOVE m.x",
        ExpressionAttributeValues={":two": n("2.0")},  # type: ignore[arg-type]
        ReturnValues=returned,
    )
    assert answer == ({} if expected is None else {"Attributes": expected})


def test_a_read_may_be_of_a_part(local: Items) -> None:
    local("PutItem", Item={"id": s("a"), "m": {"M": {"x": n(1), "y": n(1)}}, "l": {"L": [n(1)]}})
    found = local(
        "GetItem",
        Key={"id": s("a")},
        ProjectionExpression="#m.x, l[0], gone",
        ExpressionAttributeNames={"#m": "m"},
    )
    assert found == {"Item": {"m": {"M": {"x": n(1)}}, "l": {"L": [n(1)]}}}


def test_both_parts_of_a_key_say_which_item(local: Items) -> None:
    local.table = "sorted"
    for sort in ("1", "2"):
        local("PutItem", Item={"id": s("a"), "sort": s(sort), "of": s(sort)})
    local("DeleteItem", Key={"id": s("a"), "sort": s("1")})
    assert local.get(id=s("a"), sort=s("1")) is None
    assert local.get(id=s("a"), sort=s("2"))["of"] == s("2")


def test_numbers_are_one_key_however_they_are_written(local: Items) -> None:
    kinds = [{"AttributeName": "id", "AttributeType": "N"}]
    local.create("numbers", AttributeDefinitions=kinds)
    local.table = "numbers"
    local("PutItem", Item={"id": {"N": "1.50"}, "of": s("a")})
    assert local.get(id={"N": "15e-1"}) == {"id": {"N": "1.5"}, "of": s("a")}


def test_accounts_and_regions_have_tables_of_their_own(local: Items) -> None:
    dq = local.context.app
    other = Items(dq, region="eu-central-1")
    assert other("ListTables") == {"TableNames": []}
    other.create()
    other("PutItem", Item={"id": s("a")})
    assert local.get(id=s("a")) is None
    arn = "arn:aws:dynamodb:eu-central-1:000000000000:table/idempotency"
    assert local("GetItem", TableName=arn, Key={"id": s("a")}) == {"Item": {"id": s("a")}}


@pytest.mark.parametrize(
    ("action", "more", "units"),
    [
        ("PutItem", {"Item": {"id": s("a"), "t": s("x" * 3000)}}, 3),
        ("UpdateItem", {"Key": {"id": s("a")}}, 1),
        ("DeleteItem", {"Key": {"id": s("a")}}, 1),
        ("GetItem", {"Key": {"id": s("a")}}, 0.5),
        ("GetItem", {"Key": {"id": s("a")}, "ConsistentRead": True}, 1),
    ],
)
def test_capacity_is_told_where_it_is_asked_for(
    local: Items, action: str, more: Any, units: float
) -> None:
    total = {"TableName": TABLE, "CapacityUnits": units}
    assert local(action, **more, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"] == total
    local("DeleteItem", Key={"id": s("a")})
    indexes = local(action, **more, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    assert indexes == {**total, "Table": {"CapacityUnits": units}}
    assert "ConsumedCapacity" not in local(action, **more, ReturnConsumedCapacity="NONE")


LONG = "x" * (400 * 1024)


@pytest.mark.parametrize(
    ("action", "parameters", "says"),
    [
        ("PutItem", {"TableName": None, "Item": {}},
         f"{ONE}Value null at 'tableName' failed to satisfy constraint: Member must not be null"),
        ("PutItem", {"TableName": "", "Item": {}}, f"{ONE}Value '' at 'tableName' failed to "
         "satisfy constraint: Member must have length greater than or equal to 1"),
        ("PutItem", {"TableName": "bad table!@#", "Item": {}}, f"{ONE}Value 'bad table!@#' at "
         "'tableName' failed to satisfy constraint: Member must satisfy regular expression "
         "pattern: [a-zA-Z0-9_.-]+"),
        ("PutItem", {"TableName": "a" * 256, "Item": {}}, f"{ONE}Value '{'a' * 256}' at "
         "'tableName' failed to satisfy constraint: Member must have length less than or equal to "
         "255"),
        ("PutItem", {},
         f"{ONE}Value null at 'item' failed to satisfy constraint: Member must not be null"),
        ("PutItem", {"Item": {"id": s("a")}, "ReturnValues": "X", "ReturnConsumedCapacity": "Y",
                     "ReturnItemCollectionMetrics": "Z"},
         "3 validation errors detected: Value 'X' at 'returnValues' failed to satisfy constraint: "
         "Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; "
         "Value 'Y' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy "
         "enum value set: [INDEXES, TOTAL, NONE]; Value 'Z' at 'returnItemCollectionMetrics' "
         "failed to satisfy constraint: Member must satisfy enum value set: [SIZE, NONE]"),
        ("PutItem", {"Item": {"id": s("a")}, "ReturnValues": "ALL_NEW"},
         "ReturnValues can only be ALL_OLD or NONE"),
        ("PutItem", {"Item": {"n": n(1)}}, f"{INVALID}Missing the key id in the item"),
        ("PutItem", {"Item": {"id": n(1)}},
         f"{INVALID}Type mismatch for key id expected: S actual: N"),
        ("PutItem", {"Item": {"id": s("")}}, "One or more parameter values are not valid. The "
         "AttributeValue for a key attribute cannot contain an empty string value. Key: id"),
        ("PutItem", {"Item": {"id": s("k" * 2049)}},
         f"{INVALID}Size of hashkey has exceeded the maximum size limit of2048 bytes"),
        ("PutItem", {"TableName": "sorted", "Item": {"id": s("a"), "sort": s("k" * 1025)}},
         f"{INVALID}Aggregated size of all range keys has exceeded the size limit of 1024 bytes"),
        ("PutItem", {"Item": {"id": s("a"), "t": s(LONG)}},
         "Item size has exceeded the maximum allowed size"),
        ("PutItem", {"Item": {"id": s("a"), "set": {"SS": []}}},
         f"{INVALID}An string set  may not be empty"),
        ("PutItem", {"Item": {"id": s("a")}, "ConditionExpression": ""},
         "Invalid ConditionExpression: The expression can not be empty;"),
        ("PutItem", {"Item": {"id": s("a")}, "ConditionExpression": "id.x = id.y"},
         "Key attributes must be scalars; list random access '[]' and map lookup '.' are not "
         "allowed: Key: id"),
        ("PutItem", {"Item": {"id": s("a")}, "Expected": {}},
         "The legacy parameter Expected is not served by durableq: use ConditionExpression."),
        ("PutItem", {"Item": {"id": s("a")}, "ConditionExpression": "a = b", "Expected": {}},
         "Can not use both expression and non-expression parameters in the same request: "
         "Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"),
        ("PutItem", {"Item": {"id": s("a")}, "ExpressionAttributeNames": {"#a": "a"}},
         "ExpressionAttributeNames can only be specified when using expressions"),
        ("DeleteItem", {"Key": {"id": s("a")}, "ExpressionAttributeValues": {":a": n(1)}},
         "ExpressionAttributeValues can only be specified when using expressions: "
         "ConditionExpression is null"),
        ("UpdateItem", {"Key": {"id": s("a")}, "ExpressionAttributeValues": {":a": n(1)}},
         "ExpressionAttributeValues can only be specified when using expressions: "
         "UpdateExpression and ConditionExpression are null"),
        ("DeleteItem", {"Key": {}}, "The provided key element does not match the schema"),
        ("DeleteItem", {"Key": {"id": s("a"), "x": s("b")}},
         "The provided key element does not match the schema"),
        ("GetItem", {"Key": {"id": n(1)}}, "The provided key element does not match the schema"),
        ("GetItem", {"TableName": "sorted", "Key": {"id": s("a")}},
         "The provided key element does not match the schema"),
        ("GetItem", {"Key": {"id": s("a")}, "AttributesToGet": ["a"]},
         "The legacy parameter AttributesToGet is not served by durableq: use "
         "ProjectionExpression."),
        ("UpdateItem", {"Key": {"id": s("a")}, "AttributeUpdates": {}},
         "The legacy parameter AttributeUpdates is not served by durableq: use UpdateExpression."),
        ("UpdateItem", {"Key": {"id": s("a")}, "UpdateExpression": "REMOVE id"},
         f"{INVALID}Cannot update attribute id. This attribute is part of the key"),
        ("UpdateItem", {"Key": {"id": s("a")}, "UpdateExpression": "SET t = :t",
                        "ExpressionAttributeValues": {":t": s(LONG)}},
         "Item size to update has exceeded the maximum allowed size"),
        ("UpdateItem", {"Key": {"id": s("a")}, "UpdateExpression": "SET t = u",
                        "ExpressionAttributeNames": {"#x": "x"}},
         "Value provided in ExpressionAttributeNames unused in expressions: keys: {#x}"),
    ],
)  # fmt: skip
def test_a_request_that_is_not_valid_is_refused(
    local: Items, action: str, parameters: Any, says: str
) -> None:
    assert local.refused(action, **parameters) == says
    assert local.get(id=s("a")) is None


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("PutItem", {"Item": {"id": s("a")}}),
        ("UpdateItem", {"Key": {"id": s("a")}}),
        ("DeleteItem", {"Key": {"id": s("a")}}),
        ("GetItem", {"Key": {"id": s("a")}}),
        ("TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "none",
                                                           "Item": {"id": s("a")}}}]}),
    ],
)  # fmt: skip
def test_a_table_that_is_not_there_has_no_items(local: Items, action: str, parameters: Any) -> None:
    local.table = "none"
    error = local.error(action, **parameters)
    assert error.kind.json_type == "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"
    assert (error.kind.status, error.message) == (400, "Requested resource not found")


@pytest.mark.parametrize(
    "parameters",
    [
        {"Item": []},
        {"Item": {"id": "a"}},
        {"Item": {"id": {"S": 1}}},
        {"Item": {"id": s("a")}, "ConditionExpression": 1},
        {"Item": {"id": s("a")}, "ReturnValues": True},
        {"Item": {"id": s("a")}, "ConditionExpression": "a = b", "ExpressionAttributeNames": []},
        {"Item": {"id": s("a")}, "ConditionExpression": "a = b",
         "ExpressionAttributeNames": {"#a": 1}},
        {"Item": {"id": s("a"), "\ud800": n(1)}},
    ],
)  # fmt: skip
def test_a_member_of_another_json_type_is_refused(local: Items, parameters: Any) -> None:
    assert local.error("PutItem", **parameters).kind.json_type.endswith("#SerializationException")


def test_a_table_that_is_deleted_meanwhile_takes_no_write(local: Items) -> None:
    store = local.context.store
    find: Any = store.item_table  # type: ignore[attr-defined]

    def found_and_deleted(*names: str) -> Any:
        table = find(*names)
        store.delete_item_table(table.id)  # type: ignore[attr-defined]
        return table

    store.item_table = found_and_deleted  # type: ignore[attr-defined]
    error = local.error("PutItem", Item={"id": s("a")})
    assert error.kind.code == "ResourceNotFoundException"
