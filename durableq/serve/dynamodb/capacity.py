"""Capacity units, as DynamoDB would charge for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from durableq.serve.dynamodb.comparing import bytes_of_attributes
from durableq.serve.dynamodb.parameters import Parameters
from durableq.serve.dynamodb.values import Attributes

_READ_BYTES: Final = 4096
_WRITE_BYTES: Final = 1024


def of_read(item: Attributes | None, *, is_consistent: bool) -> float:
    """Return the units of the read of one item."""
    units = _units(item, _READ_BYTES)
    return float(units) if is_consistent else units / 2


def of_write(states: Iterable[Attributes | None], *, is_transaction: bool = False) -> float:
    """Return the units of one write: those of the larger state of the item, before and after."""
    units = max(_units(state, _WRITE_BYTES) for state in states)
    return float(units * (2 if is_transaction else 1))


def _units(item: Attributes | None, size: int) -> int:
    return max(1, -(-bytes_of_attributes(item or {}) // size))


def consumed(parameters: Parameters, table: str, units: float) -> dict[str, Any]:
    """Return the member `ConsumedCapacity` of an answer, if the request asks for it."""
    asked = parameters.text("ReturnConsumedCapacity")
    if asked not in {"TOTAL", "INDEXES"}:
        return {}
    found: dict[str, Any] = {"TableName": table, "CapacityUnits": units}
    if asked == "INDEXES":
        found["Table"] = {"CapacityUnits": units}
    return {"ConsumedCapacity": found}
