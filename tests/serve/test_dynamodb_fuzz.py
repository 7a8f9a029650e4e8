"""Any parameters of the actions of DynamoDB give an answer, or an error that clients know."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durableq import DurableQ
from durableq.serve.dynamodb import OPERATIONS, values
from durableq.serve.errors import ServiceError
from tests.serve.items import TABLE, Items


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split(" ")


#: Members of all actions, and words that are in their values.
MEMBERS = (
    "TableName Item Key ConditionExpression UpdateExpression ProjectionExpression "
    "ExpressionAttributeNames ExpressionAttributeValues ReturnValues ReturnConsumedCapacity "
    "ReturnValuesOnConditionCheckFailure ConsistentRead Expected AttributeUpdates TransactItems "
    "ClientRequestToken AttributeDefinitions KeySchema BillingMode ProvisionedThroughput Limit "
    "ExclusiveStartTableName TimeToLiveSpecification Enabled AttributeName AttributeType KeyType "
    "Put Update Delete ConditionCheck Tags StreamSpecification StreamEnabled"
)
TYPES = values.TYPES
WORDS = (
    "id a #a :a a.b a[0] = <> < AND OR NOT ( ) , SET REMOVE ADD DELETE attribute_exists size "
    "attribute_not_exists begins_with contains if_not_exists list_append + - BETWEEN IN HASH RANGE "
    "ALL_OLD ALL_NEW UPDATED_OLD NONE TOTAL PAY_PER_REQUEST 1 -1e5 AAE= aaa \ud800 \x00 é"
)
EXPRESSIONS = st.lists(st.sampled_from(words(WORDS)), max_size=12).map(" ".join)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([*words(WORDS), TABLE])
    | EXPRESSIONS
)
NAMES = st.sampled_from([*words(MEMBERS), *TYPES, "id", "#a", ":a"]) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
#: Closer to requests that are valid.
VALUE = st.dictionaries(st.sampled_from(TYPES), JSON, min_size=1, max_size=1) | JSON
REQUESTS = st.fixed_dictionaries(
    {"TableName": st.sampled_from([TABLE, TABLE, "none"])},
    optional={
        "Item": st.dictionaries(st.sampled_from(["id", "a"]), VALUE, max_size=2) | JSON,
        "Key": st.fixed_dictionaries({"id": st.just({"S": "k"})}) | JSON,
        "ConditionExpression": EXPRESSIONS | JSON,
        "UpdateExpression": EXPRESSIONS | JSON,
        "ProjectionExpression": EXPRESSIONS | JSON,
        "ExpressionAttributeNames": st.just({"#a": "a"}) | JSON,
        "ExpressionAttributeValues": st.fixed_dictionaries({":a": VALUE}) | JSON,
        "ReturnValues": JSON,
    },
)


@pytest.fixture(scope="module")
def items() -> Iterator[Items]:
    with DurableQ("memory://") as dq:
        made = Items(dq)
        made.create()
        made("PutItem", Item={"id": {"S": "k"}, "a": {"N": "1"}})
        yield made


def answered(items: Items, action: str, parameters: dict[str, Any]) -> None:
    """Check that an action answers, or refuses, in JSON."""
    try:
        found: Any = items.raw(action, parameters)
    except ServiceError as error:
        found = [error.message, error.details, error.kind.status]
    assert not isinstance(found, list) or found[2] < 500, found
    assert json.dumps(found)


@given(
    action=st.sampled_from(sorted(OPERATIONS)), parameters=st.dictionaries(NAMES, JSON, max_size=6)
)
def test_any_parameters_are_answered(items: Items, action: str, parameters: dict[str, Any]) -> None:
    answered(items, action, parameters)


@settings(max_examples=300)
@given(action=st.sampled_from(["PutItem", "UpdateItem", "DeleteItem", "GetItem"]), request=REQUESTS)
def test_requests_that_are_nearly_valid_are_answered(
    items: Items, action: str, request: dict[str, Any]
) -> None:
    answered(items, action, request)


@given(kind=st.sampled_from(["Put", "Update", "Delete", "ConditionCheck"]), request=REQUESTS)
def test_transactions_that_are_nearly_valid_are_answered(
    items: Items, kind: str, request: dict[str, Any]
) -> None:
    answered(items, "TransactWriteItems", {"TransactItems": [{kind: request}]})
