"""Dead-letter queues: the queues that each is for."""

from __future__ import annotations

from typing import Any

from durableq.serve.context import Context
from durableq.serve.sqs import catalog
from durableq.serve.sqs.names import QueueName, from_key
from durableq.serve.sqs.queues import paged
from durableq.store.core import Capability, Store


async def list_dead_letter_source_queues(
    context: Context, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return the queues whose dead letters go to a queue: ListDeadLetterSourceQueues."""
    queue = await catalog.named(context, parameters)

    def find(after: str, limit: int) -> list[QueueName]:
        names = sources_of(context.store, queue.name)
        return [name for name in names if name.key > after][:limit]

    return await paged(context, parameters, find, "queueUrls")


def sources_of(store: Store, target: QueueName) -> list[QueueName]:
    """Return the queues whose dead letters go to a queue."""
    sources = store.require(Capability.ENDPOINT).sources_of(target.key)
    return [from_key(name) for name in sources]
