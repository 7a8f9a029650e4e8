"""GetQueueAttributes and SetQueueAttributes."""

from __future__ import annotations

from typing import Any

from durableq.client.coroutines import read, write
from durableq.model.errors import UnknownQueue
from durableq.model.queues import ApproximateCounts
from durableq.serve.context import Context
from durableq.serve.errors import QUEUE_DOES_NOT_EXIST, ServiceError
from durableq.serve.sqs import catalog
from durableq.serve.sqs.attributes import (
    ALL,
    KMS_KEY,
    KMS_REUSE_PERIOD,
    READ_ONLY,
    REDRIVE_POLICY,
    check_names,
    checked,
)
from durableq.serve.sqs.catalog import ServedQueue
from durableq.serve.sqs.changing import change, redrive_of
from durableq.serve.sqs.names import of_url
from durableq.serve.sqs.reading import missing, texts, texts_by_name
from durableq.store.core import Capability, Store


async def get_queue_attributes(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return attributes of a queue: GetQueueAttributes. Without names, there are none."""
    name = of_url(context, parameters)
    names = texts(parameters, "AttributeNames")
    queue = await catalog.look_up(context, name)
    check_names(names)
    if not names:
        return {}
    found = await read(context.store, _attributes, context.store, queue)
    shown = {key: found[key] for key in found if ALL in names or key in names}
    return {"Attributes": shown} if shown else {}


def _attributes(store: Store, queue: ServedQueue) -> dict[str, str]:
    """Return all attributes of a queue that has them."""
    counts = store.require(Capability.INSPECT).approximate_counts(queue.key)
    redrive = {REDRIVE_POLICY: redrive_of(store, queue)}
    found = {**queue.attributes, **_computed(queue, counts), **redrive}
    if not found.get(KMS_KEY):
        found.pop(KMS_REUSE_PERIOD, None)
    return {key: value for key, value in found.items() if value}


def _computed(queue: ServedQueue, counts: ApproximateCounts) -> dict[str, str]:
    document = queue.document
    values = (
        *counts,
        document.created_at_ms // 1000,
        document.modified_at_ms // 1000,
        queue.name.arn,
    )
    return {name: str(value) for name, value in zip(READ_ONLY, values, strict=True)}


async def set_queue_attributes(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Change attributes of a queue: SetQueueAttributes."""
    name = of_url(context, parameters)
    queue = await catalog.look_up(context, name)
    given = texts_by_name(parameters, "Attributes")
    if not given:
        raise missing("Attributes")
    attributes = checked(given, is_fifo=queue.is_fifo)
    try:
        await write(context.store, change, context.store, name, attributes)
    except UnknownQueue:  # it was deleted meanwhile
        raise ServiceError(QUEUE_DOES_NOT_EXIST) from None
    catalog.forget(context.store, name.key)
    return {}
