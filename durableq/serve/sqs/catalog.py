"""The queues of a store, as requests look them up.

A request needs the settings of its queue, and they seldom change, so what was read is used for a
second. A change that is made here is seen at once, one that another process makes after a second
(AWS: after up to 60).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from weakref import WeakKeyDictionary

from durableq.client.coroutines import read
from durableq.model.errors import UnknownQueue
from durableq.model.settings import QueueSettings
from durableq.serve.context import Context
from durableq.serve.errors import QUEUE_DOES_NOT_EXIST, ServiceError
from durableq.serve.sqs import documents
from durableq.serve.sqs.attributes import (
    SCOPE_IN_FORCE,
    deduplicates_in_group,
    defaults,
    of_settings,
)
from durableq.serve.sqs.documents import Document
from durableq.serve.sqs.ids import database_of
from durableq.serve.sqs.names import QueueName, of_url
from durableq.serve.sqs.reading import Parameters
from durableq.store.core import Store

#: How long what was read of a queue is used.
FRESH_SECONDS: Final = 1.0


@dataclass(frozen=True)
class ServedQueue:
    """A queue as requests need it. What follows from its parts is found once, not by each."""

    name: QueueName
    settings: QueueSettings
    document: Document

    @cached_property
    def key(self) -> str:
        """Its name in the store."""
        return self.name.key

    @cached_property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue. One of Python with such a name need not keep groups."""
        return self.name.is_fifo and self.settings.group_concurrency == 1

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that are set, with the defaults of the others."""
        found = defaults(is_fifo=self.is_fifo) | dict(self.document.attributes)
        found.pop(SCOPE_IN_FORCE, None)
        return found | of_settings(self.settings)

    def attribute(self, name: str) -> str:
        """Return an attribute; empty: it has none."""
        return self.attributes.get(name, "")

    @cached_property
    def deduplicates_in_group(self) -> bool:
        """Whether a deduplication id is one of its group alone."""
        return deduplicates_in_group(self.document.attributes)

    @cached_property
    def is_content_based(self) -> bool:
        """Whether the body is the deduplication id of a message that has none."""
        return self.is_fifo and self.attribute("ContentBasedDeduplication") == "true"


class Catalog:
    """The queues of a store that were read."""

    def __init__(self) -> None:
        self._queues: dict[str, tuple[float, ServedQueue]] = {}
        #: The changes that were made here.
        self.changes = 0

    def fresh(self, key: str) -> ServedQueue | None:
        """Return a queue that was read a short time ago."""
        found = self._queues.get(key)
        if found is None or found[0] <= time.monotonic():
            return None
        return found[1]

    def put(self, queue: ServedQueue) -> None:
        """Keep a queue that was read."""
        now = time.monotonic()
        if len(self._queues) > 1000:  # of many queues, those of the last second
            self._queues = {key: one for key, one in self._queues.items() if one[0] > now}
        self._queues[queue.key] = (now + FRESH_SECONDS, queue)

    def forget(self, key: str) -> None:
        """Read a queue anew the next time."""
        self.changes += 1
        self._queues.pop(key, None)


_catalogs: WeakKeyDictionary[Store, Catalog] = WeakKeyDictionary()


def forget(store: Store, key: str) -> None:
    """Read a queue anew the next time: it was changed here."""
    _catalog(store).forget(key)


async def find(context: Context, name: QueueName) -> ServedQueue:
    """Return a queue.

    Raises:
        ServiceError: it does not exist.
    """
    catalog = _catalog(context.store)
    found = catalog.fresh(name.key)
    if found is None:
        before = catalog.changes
        found = await look_up(context, name)
        if catalog.changes == before:  # else it may be what was there before one of them
            catalog.put(found)
    return found


async def look_up(context: Context, name: QueueName) -> ServedQueue:
    """Return a queue as it is now.

    Raises:
        ServiceError: it does not exist.
    """
    try:
        return await read(context.store, load, context.store, name)
    except UnknownQueue:
        raise ServiceError(QUEUE_DOES_NOT_EXIST) from None


async def named(context: Context, parameters: Parameters) -> ServedQueue:
    """Return the queue that a request names by its URL.

    Raises:
        ServiceError: it does not exist.
    """
    return await find(context, of_url(context, parameters))


def load(store: Store, name: QueueName) -> ServedQueue:
    """Read a queue.

    Raises:
        UnknownQueue: it does not exist.
    """
    database_of(store)
    settings = store.settings(name.key)
    return ServedQueue(name, settings, documents.load(store, name.key))


def _catalog(store: Store) -> Catalog:
    found = _catalogs.get(store)
    if found is None:
        found = _catalogs[store] = Catalog()
    return found
