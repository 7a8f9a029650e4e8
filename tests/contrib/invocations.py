"""Functions that Powertools makes idempotent, on a layer that counts the calls of its store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aws_lambda_powertools.utilities.idempotency import (
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from durableq import DurableQ
from durableq.contrib.powertools import PersistenceLayer
from durableq.store.core import Capability

EVENT = {"order": 7, "customer": {"name": "Ann"}, "total": 12}
CACHED = pytest.mark.parametrize("cached", [False, True])


class CountedLayer(PersistenceLayer):
    """A layer that keeps the names of the calls of its store."""

    def __init__(self, dq: DurableQ) -> None:
        super().__init__(dq)
        self.calls: list[str] = []

    def _put_record(self, data_record: DataRecord) -> None:
        self.calls.append("put")
        super()._put_record(data_record)

    def _get_record(self, idempotency_key: str) -> DataRecord:
        self.calls.append("get")
        return super()._get_record(idempotency_key)

    def _update_record(self, data_record: DataRecord) -> None:
        self.calls.append("update")
        super()._update_record(data_record)

    def _delete_record(self, data_record: DataRecord) -> None:
        self.calls.append("delete")
        super()._delete_record(data_record)


class Body:
    """The body of a function that returns the number of its call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Any, context: Any = None) -> dict[str, int]:
        self.calls += 1
        return {"call": self.calls}


def handler(layer: PersistenceLayer, body: Callable[..., Any], **config: Any) -> Any:
    """Return an idempotent Lambda function."""

    @idempotent(persistence_store=layer, config=IdempotencyConfig(**config))
    def lambda_handler(event: Any, context: Any) -> Any:
        return body(event, context)

    return lambda_handler


def function(layer: PersistenceLayer, body: Callable[..., Any], **options: Any) -> Any:
    """Return an idempotent function of one argument, `record`."""
    config = IdempotencyConfig(**options.pop("config", {}))
    options |= {"persistence_store": layer, "config": config, "data_keyword_argument": "record"}

    def record_handler(record: Any) -> Any:
        return body(record)

    return idempotent_function(record_handler, **options)


def keys(dq: DurableQ) -> list[str]:
    """Return the keys of all records."""
    return [entry.key for entry in dq.store.require(Capability.ONCE).once_entries(100)]
