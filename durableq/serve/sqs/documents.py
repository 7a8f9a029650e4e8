"""A queue over SQS beyond its settings: attributes and tags as they were set, and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from durableq.model.errors import Busy
from durableq.model.queues import Changes
from durableq.store.core import Capability, Store
from durableq.store.endpoint import NO_CHANGES, NO_SOURCES

#: Attempts to change a queue that other processes change too.
ATTEMPTS: Final = 100


class Document(NamedTuple):
    """The attributes that are no settings, the tags, and the times, as ms of the wall clock."""

    attributes: Mapping[str, str]
    tags: Mapping[str, str]
    created_at_ms: int = 0
    modified_at_ms: int = 0
    #: 0: no client of SQS has set anything; None: of a queue that is to be created.
    version: int | None = None


def load(store: Store, key: str) -> Document:
    """Return the document of a queue; an empty one of a queue that a Python program has made.

    Raises:
        UnknownQueue: there is no such queue.
    """
    found = store.require(Capability.ENDPOINT).queue_document(key)
    times = found.created_at_ms, found.modified_at_ms
    return Document(json.loads(found.attributes), json.loads(found.tags), *times, found.version)


def put(
    store: Store,
    key: str,
    document: Document,
    changes: Changes,
    sources: Mapping[str, int] = NO_SOURCES,
) -> bool:
    """Store the next version of a document, and change settings of the queue with it.

    Args:
        store: the engine.
        key: the name of the queue in it.
        document: made of the present version.
        changes: of the settings, and of the dead-letter queue.
        sources: queues whose dead-letter queue it becomes, with the versions of their documents.

    Returns:
        Whether it was stored; otherwise others have changed the queue meanwhile.

    Raises:
        UnknownQueue: there is no such queue, or source, or dead-letter queue.
    """
    texts = map(_text, (document.attributes, document.tags))
    stored: bool = store.require(Capability.ENDPOINT).store_queue_document(
        key, *texts, expected=document.version, changes=changes, sources=sources
    )
    return stored


def change(
    store: Store, key: str, changed: Callable[[Document], Document], changes: Changes = NO_CHANGES
) -> None:
    """Change the document of a queue, and its settings.

    Args:
        store: the engine.
        key: the name of the queue in it.
        changed: makes the new one of the present one; it is called again if that was changed.
        changes: as for `put`.

    Raises:
        UnknownQueue: as `put`.
        Busy: others change it all the time.
    """
    for _ in range(ATTEMPTS):
        if put(store, key, changed(load(store, key)), changes):
            return
    raise too_busy(key)


def too_busy(key: str) -> Busy:
    """Return the error of a queue that others change all the time."""
    return Busy(f"Other processes change the attributes of queue {key!r} all the time. Try again.")


def _text(members: Mapping[str, str]) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))
