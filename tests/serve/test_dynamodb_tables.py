"""The actions of DynamoDB on tables, and the time to live of their items."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.serve.items import BOTH, HASH, Items, n, s
from tests.support import new_file

ONE = "1 validation error detected: "
INVALID = "One or more parameter values were invalid: "


@pytest.fixture
def items() -> Iterator[Items]:
    with DurableQ("memory://") as dq:
        yield Items(dq)


def test_a_table_is_described_as_it_was_created(items: Items) -> None:
    created = items.create(both=True)["TableDescription"]
    assert created["TableStatus"] == "ACTIVE"
    assert created["TableArn"] == "arn:aws:dynamodb:us-east-1:000000000000:table/idempotency"
    items("PutItem", Item={"id": s("a"), "sort": s("b")})
    described = items("DescribeTable")["Table"]
    assert described == {
        **created,
        "ItemCount": 1,
        "TableSizeBytes": described["TableSizeBytes"],
    }
    assert described["TableSizeBytes"] > 0
    assert described["KeySchema"] == BOTH
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert abs(described["CreationDateTime"] - time.time()) < 60


def test_a_table_with_throughput_keeps_it(items: Items) -> None:
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6}
    created = items.create(BillingMode="PROVISIONED", ProvisionedThroughput=units)
    shown = created["TableDescription"]["ProvisionedThroughput"]
    assert shown == {**units, "NumberOfDecreasesToday": 0}
    assert "BillingModeSummary" not in created["TableDescription"]


def test_a_table_that_is_there_is_in_use(items: Items) -> None:
    items.create()
    with pytest.raises(Exception, match="ResourceInUseException: Table already exists: idemp"):
        items.create()


def test_a_table_that_is_deleted_is_gone_with_its_items(items: Items) -> None:
    first = items.create()["TableDescription"]["TableId"]
    items("PutItem", Item={"id": s("a")})
    assert items("DeleteTable")["TableDescription"]["TableStatus"] == "DELETING"
    says = "Requested resource not found: Table: idempotency not found"
    for action in ("DescribeTable", "DeleteTable", "DescribeTimeToLive"):
        assert items.error(action).message == says
    assert items.create()["TableDescription"]["TableId"] != first
    assert items.get(id=s("a")) is None


def test_tables_are_listed_by_pages(items: Items) -> None:
    for name in ("ccc", "aaa", "bbb"):
        items.create(name)
    assert items("ListTables") == {"TableNames": ["aaa", "bbb", "ccc"]}
    page = items("ListTables", Limit=2)
    assert page == {"TableNames": ["aaa", "bbb"], "LastEvaluatedTableName": "bbb"}
    assert items("ListTables", ExclusiveStartTableName="bbb") == {"TableNames": ["ccc"]}
    assert items.refused("ListTables", Limit=0) == (
        f"{ONE}Value '0' at 'limit' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1"
    )


TYPED = [{"AttributeName": "id", "AttributeType": "S"}]
RANGE = {"AttributeName": "id", "KeyType": "RANGE"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"TableName": "ab"}, f"{ONE}Value 'ab' at 'tableName' failed to satisfy constraint: "
         "Member must have length greater than or equal to 3"),
        ({"KeySchema": None}, f"{ONE}Value null at 'keySchema' failed to satisfy constraint: "
         "Member must not be null"),
        ({"KeySchema": [{"AttributeName": "id", "KeyType": "INVALID"}]}, f"{ONE}Value 'INVALID' at "
         "'keySchema.1.member.keyType' failed to satisfy constraint: Member must satisfy enum "
         "value set: [HASH, RANGE]"),
        ({"AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "INVALID"}]},
         f"{ONE}Value 'INVALID' at 'attributeDefinitions.1.member.attributeType' failed to satisfy "
         "constraint: Member must satisfy enum value set: [B, N, S]"),
        ({"KeySchema": [RANGE]},
         "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"),
        ({"KeySchema": [*HASH, {"AttributeName": "x", "KeyType": "HASH"}]},
         "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"),
        ({"KeySchema": [*HASH, RANGE]},
         "Both the Hash Key and the Range Key element in the KeySchema have the same name"),
        ({"KeySchema": BOTH}, f"{INVALID}Some index key attributes are not defined in "
         "AttributeDefinitions. Keys: [id, sort], AttributeDefinitions: [id]"),
        ({"AttributeDefinitions": [*TYPED, {"AttributeName": "x", "AttributeType": "S"}]},
         f"{INVALID}Number of attributes in KeySchema does not exactly match number of attributes "
         "defined in AttributeDefinitions"),
        ({"BillingMode": None}, f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be "
         "specified when BillingMode is PROVISIONED"),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
         f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
         "BillingMode is PAY_PER_REQUEST"),
        ({"GlobalSecondaryIndexes": [{"IndexName": "x"}]}, "durableq serves tables without "
         "GlobalSecondaryIndexes: items are read and written by their key."),
        ({"StreamSpecification": {"StreamEnabled": True}}, "durableq serves tables without "
         "StreamSpecification: items are read and written by their key."),
        ({"DeletionProtectionEnabled": True}, "durableq serves tables without "
         "DeletionProtectionEnabled: items are read and written by their key."),
    ],
)  # fmt: skip
def test_a_table_that_is_not_valid_is_refused(items: Items, more: Any, says: str) -> None:
    parameters = {"AttributeDefinitions": TYPED, "KeySchema": HASH,
                  "BillingMode": "PAY_PER_REQUEST", **more}  # fmt: skip
    assert items.refused("CreateTable", **parameters) == says
    assert items("ListTables") == {"TableNames": []}


def enable(items: Items, attribute: str = "until", *, enabled: bool = True) -> dict[str, Any]:
    """Switch the expiry of items on or off."""
    wanted = {"Enabled": enabled, "AttributeName": attribute}
    return items("UpdateTimeToLive", TimeToLiveSpecification=wanted)


def test_the_time_to_live_is_switched_on_and_off(items: Items) -> None:
    items.create()
    off = {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
    assert items("DescribeTimeToLive") == off
    told = {"TimeToLiveSpecification": {"Enabled": True, "AttributeName": "until"}}
    assert enable(items) == told
    on = {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"}
    assert items("DescribeTimeToLive") == {"TimeToLiveDescription": on}
    wanted = {"Enabled": True, "AttributeName": "other"}
    says = items.refused("UpdateTimeToLive", TimeToLiveSpecification=wanted)
    assert says == "TimeToLive is already enabled"
    wanted = {"Enabled": False, "AttributeName": "other"}
    says = items.refused("UpdateTimeToLive", TimeToLiveSpecification=wanted)
    assert says.startswith("TimeToLive is active on a different AttributeName: current")
    enable(items, enabled=False)
    assert items("DescribeTimeToLive") == off
    wanted = {"Enabled": False, "AttributeName": "until"}
    says = items.refused("UpdateTimeToLive", TimeToLiveSpecification=wanted)
    assert says == "TimeToLive is already disabled"
    wanted = {"Enabled": True, "AttributeName": ""}
    says = items.refused("UpdateTimeToLive", TimeToLiveSpecification=wanted)
    assert "'timeToLiveSpecification.attributeName' failed to satisfy constraint" in says


def test_items_expire_by_maintenance_and_never_before(tmp_path: Path) -> None:
    with DurableQ(new_file(tmp_path / "q.db")) as dq:
        items = Items(dq)
        items.create()
        enable(items)
        now_s = int(time.time())
        times = {"past": n(now_s - 10), "fraction": n(now_s - 10.5), "future": n(now_s + 3600)}
        times |= {"text": s(str(now_s - 10)), "milliseconds": n(now_s * 1000), "zero": n(0)}
        for name, until in times.items():
            items("PutItem", Item={"id": s(name), "until": until})
        items("PutItem", Item={"id": s("none")})
        names = {"#u": "until"}
        put_off = {
            "ExpressionAttributeValues": {":u": n(now_s + 3600)},
            "ExpressionAttributeNames": names,
        }
        items("PutItem", Item={"id": s("later"), "until": n(now_s - 10)})
        items("UpdateItem", Key={"id": s("later")}, UpdateExpression="SET #u = :u", **put_off)
        assert items.get(id=s("past")) is not None, "clients compare by themselves"
        assert dq.store.require(Capability.MAINTENANCE).prune().items == 2
        gone = {name for name in [*times, "none", "later"] if items.get(id=s(name)) is None}
        assert gone == {"past", "fraction"}
        assert items("DescribeTable")["Table"]["ItemCount"] == len(times)
