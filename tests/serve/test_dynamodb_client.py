"""boto3 as a client of the actions of DynamoDB, over HTTP."""

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from durableq import DurableQ
from durableq.serve.dynamodb import OPERATIONS
from tests.serve.endpoint import Endpoint, endpoint
from tests.support import new_file, scaled

KEY = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def client_of(url: str, **more: Any) -> Any:
    """Return a client as an application has it."""
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=scaled(30)),
        **more,
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Endpoint]:
    with (
        DurableQ(new_file(tmp_path / "q.db")) as dq,
        endpoint(dq, dynamodb=OPERATIONS) as found,
    ):
        yield found


@pytest.fixture
def client(running: Endpoint) -> Iterator[Any]:
    with closing(client_of(running.url)) as client:
        yield client


def test_a_client_waits_for_a_table_and_uses_it(client: Any) -> None:
    client.create_table(TableName="orders", **KEY)
    wait = {"Delay": 1, "MaxAttempts": 3}
    client.get_waiter("table_exists").wait(TableName="orders", WaiterConfig=wait)
    item = {
        "id": {"S": "a"},
        "b": {"B": b"\x00\xff"},
        "bs": {"BS": [b"", b"x"]},
        "n": {"N": "1.5"},
        "m": {"M": {"l": {"L": [{"BOOL": False}, {"NULL": True}]}}},
    }
    client.put_item(TableName="orders", Item=item)
    assert client.get_item(TableName="orders", Key={"id": {"S": "a"}})["Item"] == item
    assert client.list_tables()["TableNames"] == ["orders"]
    client.delete_table(TableName="orders")
    client.get_waiter("table_not_exists").wait(TableName="orders", WaiterConfig=wait)


def test_an_error_is_the_exception_that_the_client_knows(client: Any) -> None:
    put = {"TableName": "orders", "Item": {"id": {"S": "a"}, "b": {"B": b"\xff"}}}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.put_item(**put)
    client.create_table(TableName="orders", **KEY)
    with pytest.raises(client.exceptions.ResourceInUseException):
        client.create_table(TableName="orders", **KEY)
    client.put_item(**put)
    is_new = {
        "ConditionExpression": "attribute_not_exists(id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as failed:
        client.put_item(**put, **is_new)
    assert failed.value.response["Item"] == put["Item"]
    assert failed.value.response["Error"]["Message"] == "The conditional request failed"
    with pytest.raises(client.exceptions.TransactionCanceledException) as canceled:
        client.transact_write_items(TransactItems=[{"Put": {**put, **is_new}}])
    [reason] = canceled.value.response["CancellationReasons"]
    assert reason["Code"] == "ConditionalCheckFailed"
    with pytest.raises(ClientError, match="ValidationException"):
        client.put_item(TableName="orders", Item={"id": {"N": "1"}})


def test_an_action_that_is_not_served_is_told_those_that_are(client: Any) -> None:
    with pytest.raises(ClientError) as refused:
        client.scan(TableName="orders")
    error = refused.value.response["Error"]
    assert error["Code"] == "UnknownOperationException"
    assert error["Message"] == (
        "The action Scan is not one of this server's. Those of DynamoDB are CreateTable, "
        "DeleteItem, DeleteTable, DescribeTable, DescribeTimeToLive, GetItem, ListTables, PutItem, "
        "TransactWriteItems, UpdateItem, UpdateTimeToLive."
    )


def test_the_resource_of_boto3_has_exact_numbers(running: Endpoint, client: Any) -> None:
    client.create_table(TableName="orders", **KEY)
    resource: Any = boto3.resource(
        "dynamodb",
        endpoint_url=running.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    table = resource.Table("orders")
    number = Decimal("1234567890123456789012345678901234567.8")
    table.put_item(Item={"id": "a", "n": number, "tags": {"x", "y"}})
    assert table.get_item(Key={"id": "a"})["Item"] == {"id": "a", "n": number, "tags": {"x", "y"}}
    resource.meta.client.close()
