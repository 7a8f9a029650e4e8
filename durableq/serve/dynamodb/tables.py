"""The actions on tables."""

from __future__ import annotations

import json
from typing import Any, Final

from durableq.model.items import ItemTable
from durableq.serve.context import Context
from durableq.serve.dynamodb.items import Work, find_schema
from durableq.serve.dynamodb.parameters import Parameters
from durableq.serve.dynamodb.schemas import COUNTED, Schema, expiry_in
from durableq.serve.dynamodb.values import ValidationError
from durableq.serve.errors import DYNAMODB_RESOURCE_NOT_FOUND, RESOURCE_IN_USE, ServiceError
from durableq.store.items import Items

_INVALID: Final = "One or more parameter values were invalid: "
#: What a table keeps of its creation.
_KEPT: Final = (
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "TableClass",
    "SSESpecification",
    "Tags",
)
_NOT_SERVED: Final = (
    *("GlobalSecondaryIndexes", "LocalSecondaryIndexes", "OnDemandThroughput", "WarmThroughput"),
    *("ResourcePolicy", "GlobalTableSourceArn", "GlobalTableSettingsReplicationMode"),
)
_PAGE: Final = 100


def create_table(context: Context, request: Parameters) -> Work:
    """Create a table, which can be used at once."""
    name = request.table_name(shortest=3)
    _check_attributes(request)
    billing = request.choice("BillingMode", ("PROVISIONED", "PAY_PER_REQUEST"), "PROVISIONED")
    request.choice("TableClass", ("STANDARD", "STANDARD_INFREQUENT_ACCESS"))
    for member in ("SSESpecification", "StreamSpecification"):
        request.structure(member)
    request.items("Tags")
    _check_throughput(request, billing)
    _refuse_unserved(request)
    found = {member: request.get(member) for member in _KEPT if request.has(member)}
    wanted = ItemTable(0, context.account, context.region, name, json.dumps(found))

    def work(store: Items) -> dict[str, Any]:
        created = store.create_item_table(wanted)
        if created is None:
            raise ServiceError(RESOURCE_IN_USE, f"Table already exists: {name}")
        return {"TableDescription": Schema.of(created).described("ACTIVE")}

    return work


def _check_attributes(request: Parameters) -> None:
    """Check the attribute definitions and the key."""
    defined = request.required("AttributeDefinitions", request.items("AttributeDefinitions"))
    types = {}
    for one in defined or ():
        name = one.required("AttributeName", one.text("AttributeName")) or ""
        one.length("AttributeName", name, 1, 255)
        one.required("AttributeType", one.text("AttributeType"))
        types[name] = one.choice("AttributeType", ("B", "N", "S"))
    schema = request.required("KeySchema", request.items("KeySchema")) or []
    request.length("KeySchema", schema or None, 1, 2)
    kinds, names = [], []
    for one in schema:
        names.append(one.required("AttributeName", one.text("AttributeName")) or "")
        one.required("KeyType", one.text("KeyType"))
        kinds.append(one.choice("KeyType", ("HASH", "RANGE")))
    request.check()
    if not schema:
        request.length("KeySchema", schema, 1, 2)
        request.check()
    _check_key(names, kinds, types)


def _check_key(names: list[str], kinds: list[str], types: dict[str, str]) -> None:
    if len(set(names)) < len(names):
        raise ValidationError(
            "Both the Hash Key and the Range Key element in the KeySchema have the same name"
        )
    if kinds[0] != "HASH":
        raise ValidationError(
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"
        )
    if kinds[1:] not in ([], ["RANGE"]):
        raise ValidationError(
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"
        )
    if not set(names) <= types.keys():
        raise ValidationError(
            f"{_INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: [{', '.join(names)}], AttributeDefinitions: [{', '.join(types)}]"
        )
    if len(types) != len(names):
        raise ValidationError(
            f"{_INVALID}Number of attributes in KeySchema does not exactly match number of "
            "attributes defined in AttributeDefinitions"
        )


def _check_throughput(request: Parameters, billing: str) -> None:
    units = request.structure("ProvisionedThroughput")
    if units is not None:
        for name in ("ReadCapacityUnits", "WriteCapacityUnits"):
            units.required(name, units.number(name))
            units.bounded(name, units.number(name), 1, 1 << 40)
    request.check()
    if billing == "PAY_PER_REQUEST" and units is not None:
        raise ValidationError(
            f"{_INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
            "BillingMode is PAY_PER_REQUEST"
        )
    if billing == "PROVISIONED" and units is None:
        raise ValidationError(
            f"{_INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when "
            "BillingMode is PROVISIONED"
        )


def _refuse_unserved(request: Parameters) -> None:
    streams = request.structure("StreamSpecification")
    unserved = [name for name in _NOT_SERVED if request.get(name)]
    if streams is not None and streams.flag("StreamEnabled"):
        unserved.append("StreamSpecification")
    if request.flag("DeletionProtectionEnabled"):
        unserved.append("DeletionProtectionEnabled")
    if unserved:
        raise ValidationError(
            f"durableq serves tables without {unserved[0]}: items are read and written by their "
            "key."
        )


def describe_table(context: Context, request: Parameters) -> Work:
    """Describe a table."""
    name = request.table_name()
    request.check()

    def work(store: Items) -> dict[str, Any]:
        schema = _named(context, store, name)
        size = store.item_table_size(schema.table.id, COUNTED)
        return {"Table": schema.described("ACTIVE", size)}

    return work


def delete_table(context: Context, request: Parameters) -> Work:
    """Delete a table with its items."""
    name = request.table_name()
    request.check()

    def work(store: Items) -> dict[str, Any]:
        schema = _named(context, store, name)
        if not store.delete_item_table(schema.table.id):
            raise _no_table(name)
        return {"TableDescription": schema.described("DELETING")}

    return work


def list_tables(context: Context, request: Parameters) -> Work:
    """List the names of the tables of the account in the region."""
    limit, after = request.number("Limit"), request.text("ExclusiveStartTableName") or ""
    request.bounded("Limit", limit, 1, _PAGE)
    request.check()
    number = _PAGE if limit is None else limit

    def work(store: Items) -> dict[str, Any]:
        found = store.item_tables(context.account, context.region, number + 1, after)
        names = [table.name for table in found]
        answer: dict[str, Any] = {"TableNames": names[:number]}
        if len(names) > number:
            answer["LastEvaluatedTableName"] = names[number - 1]
        return answer

    return work


def update_time_to_live(context: Context, request: Parameters) -> Work:
    """Let the items of a table expire, or not."""
    name = request.table_name()
    wanted = request.structure("TimeToLiveSpecification")
    request.required("TimeToLiveSpecification", wanted)
    request.check()
    assert wanted is not None  # noqa: S101 - it is required
    attribute = wanted.required("AttributeName", wanted.text("AttributeName")) or ""
    wanted.length("AttributeName", attribute if wanted.has("AttributeName") else None, 1, 255)
    wanted.required("Enabled", wanted.get("Enabled"))
    is_enabled = wanted.flag("Enabled")
    wanted.check()

    def work(store: Items) -> dict[str, Any]:
        schema = _named(context, store, name)
        _check_change(schema.table.ttl_attribute, attribute, is_enabled=is_enabled)
        new = attribute if is_enabled else ""
        if not store.set_item_ttl(
            schema.table.id, new, lambda item: expiry_in(json.loads(item), new)
        ):
            raise _no_table(name)
        return {"TimeToLiveSpecification": {"Enabled": is_enabled, "AttributeName": attribute}}

    return work


def _check_change(current: str, attribute: str, *, is_enabled: bool) -> None:
    if is_enabled and current:
        raise ValidationError("TimeToLive is already enabled")
    if not is_enabled and not current:
        raise ValidationError("TimeToLive is already disabled")
    if not is_enabled and attribute != current:
        raise ValidationError(
            f"TimeToLive is active on a different AttributeName: current AttributeName is {current}"
        )


def describe_time_to_live(context: Context, request: Parameters) -> Work:
    """Describe how the items of a table expire."""
    name = request.table_name()
    request.check()

    def work(store: Items) -> dict[str, Any]:
        attribute = _named(context, store, name).table.ttl_attribute
        found = {"TimeToLiveStatus": "ENABLED" if attribute else "DISABLED"}
        if attribute:
            found["AttributeName"] = attribute
        return {"TimeToLiveDescription": found}

    return work


def _named(context: Context, store: Items, name: str) -> Schema:
    try:
        return find_schema(context, store, name)
    except ServiceError as error:
        raise _no_table(name) from error


def _no_table(name: str) -> ServiceError:
    says = f"Requested resource not found: Table: {name} not found"
    return ServiceError(DYNAMODB_RESOURCE_NOT_FOUND, says)
