"""Tables as clients of DynamoDB describe them, and the keys of their items."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from durableq.model.items import ItemKey, ItemTable, TableSize, key_text
from durableq.serve.dynamodb.comparing import type_of
from durableq.serve.dynamodb.scanning import Path
from durableq.serve.dynamodb.values import Attributes, ValidationError

_INVALID: Final = "One or more parameter values were invalid: "
#: Bytes of the parts of a key.
MAX_HASH: Final = 2048
MAX_RANGE: Final = 1024
#: Items that a description of a table counts at most.
COUNTED: Final = 100_000
#: The size of a new table.
EMPTY: Final = TableSize(0, 0)
_NAMESPACE: Final = uuid.UUID("a5ad7a3c-6a1c-4c5c-8f0e-6d2b3a1f9c57")


@dataclass(frozen=True, slots=True)
class Schema:
    """A table of the store, with its keys.

    Args:
        table: the table.
        definition: the parameters that it was created with.
        keys: the name and the type of each part of the key, the partition key first.
    """

    table: ItemTable
    definition: dict[str, Any]
    keys: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, table: ItemTable) -> Schema:
        """Return the schema of a table."""
        definition = json.loads(table.definition)
        types = {
            one["AttributeName"]: one["AttributeType"] for one in definition["AttributeDefinitions"]
        }
        names = [one["AttributeName"] for one in definition["KeySchema"]]
        return cls(table, definition, tuple((name, types[name]) for name in names))

    @property
    def arn(self) -> str:
        """The name of the table among all of AWS."""
        table = self.table
        return f"arn:aws:dynamodb:{table.region}:{table.account}:table/{table.name}"

    # ---- keys

    def key_of(self, attributes: Attributes) -> ItemKey:
        """Return the key of an item that is to be put.

        Raises:
            ValidationError: it is not there, or not of the table's types.
        """
        for name, kind in self.keys:
            if name not in attributes:
                raise ValidationError(f"{_INVALID}Missing the key {name} in the item")
            if kind not in attributes[name]:
                raise ValidationError(
                    f"{_INVALID}Type mismatch for key {name} expected: {kind} "
                    f"actual: {type_of(attributes[name])}"
                )
        return self._key(attributes)

    def key(self, attributes: Attributes) -> ItemKey:
        """Return the key that a parameter `Key` has.

        Raises:
            ValidationError: it has not exactly the names and types of the table's key.
        """
        if {name: type_of(value) for name, value in attributes.items()} != dict(self.keys):
            raise ValidationError("The provided key element does not match the schema")
        return self._key(attributes)

    def _key(self, attributes: Attributes) -> ItemKey:
        limits = (
            (MAX_HASH, f"Size of hashkey has exceeded the maximum size limit of{MAX_HASH} bytes"),
            (
                MAX_RANGE,
                "Aggregated size of all range keys has exceeded the size limit of "
                f"{MAX_RANGE} bytes",
            ),
        )
        for (name, kind), (most, error) in zip(self.keys, limits, strict=False):
            content = attributes[name][kind]
            if not content:
                word = "binary" if kind == "B" else "string"
                raise ValidationError(
                    "One or more parameter values are not valid. The AttributeValue for a key "
                    f"attribute cannot contain an empty {word} value. Key: {name}"
                )
            size = len(base64.b64decode(content) if kind == "B" else content.encode())
            if kind != "N" and size > most:
                raise ValidationError(_INVALID + error)
        return ItemKey(
            self.table.id, *(key_text(attributes[name][kind]) for name, kind in self.keys)
        )

    def refuse_key_paths(self, paths: list[Path], *, change: bool = False) -> None:
        """Raise ValidationError if a path leads into a part of the key, or changes one."""
        for name, _ in self.keys:
            for path in paths:
                if path[0] == name and len(path) > 1:
                    raise ValidationError(
                        "Key attributes must be scalars; list random access '[]' and map lookup "
                        f"'.' are not allowed: Key: {name}"
                    )
                if path[0] == name and change:
                    raise ValidationError(
                        f"{_INVALID}Cannot update attribute {name}. This attribute is part of the "
                        "key"
                    )

    # ---- descriptions

    def described(self, status: str, size: TableSize = EMPTY) -> dict[str, Any]:
        """Return the description of the table.

        Args:
            status: "ACTIVE", or "DELETING" for one that is gone.
            size: the number of its items.
        """
        given, created = self.definition, self.table.created_at_ms / 1000
        units = given.get("ProvisionedThroughput") or {}
        found = {
            "AttributeDefinitions": given["AttributeDefinitions"],
            "TableName": self.table.name,
            "KeySchema": given["KeySchema"],
            "TableStatus": status,
            "CreationDateTime": created,
            "ProvisionedThroughput": {
                "NumberOfDecreasesToday": 0,
                "ReadCapacityUnits": units.get("ReadCapacityUnits", 0),
                "WriteCapacityUnits": units.get("WriteCapacityUnits", 0),
            },
            "TableSizeBytes": size.characters,
            "ItemCount": size.items,
            "TableArn": self.arn,
            "TableId": str(uuid.uuid5(_NAMESPACE, f"{self.arn}#{self.table.id}")),
            "DeletionProtectionEnabled": given.get("DeletionProtectionEnabled", False),
        }
        if given.get("BillingMode") == "PAY_PER_REQUEST":
            found["BillingModeSummary"] = {
                "BillingMode": "PAY_PER_REQUEST",
                "LastUpdateToPayPerRequestDateTime": created,
            }
        if "TableClass" in given:
            found["TableClassSummary"] = {"TableClass": given["TableClass"]}
        return found


def expiry_in(attributes: Attributes, ttl_attribute: str) -> int | None:
    """Return the second after which an item may be removed; None: never."""
    text = attributes.get(ttl_attribute, {}).get("N") if ttl_attribute else None
    if text is None:
        return None
    second = int(Decimal(text))
    return second if 0 < second < 1 << 62 else None
