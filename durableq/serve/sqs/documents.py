"""A queue over SQS beyond its settings: attributes and tags as they were set, and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from durableq.model.errors import Busy
from durableq.store.core import Capability, Store

#: Attempts to change a document that other processes change too.
_ATTEMPTS: Final = 100


@dataclass(frozen=True, slots=True)
class Document:
    """The attributes that are no settings, the tags, and the times, as ms of the wall clock."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int = 0
    modified_at_ms: int = 0
    purged_at_ms: int = 0


def load(store: Store, key: str) -> Document:
    """Return the document of a queue; an empty one of a queue that a Python program has made."""
    return _read(store.require(Capability.METADATA).get_metadata(_name(key)))


def is_there(store: Store, key: str) -> bool:
    """Return whether a client of SQS has made a queue, or set something of it."""
    return store.require(Capability.METADATA).get_metadata(_name(key)) is not None


def change(store: Store, key: str, changed: Callable[[Document], Document]) -> Document:
    """Change the document of a queue, and return it.

    Args:
        store: the engine.
        key: the name of the queue in it.
        changed: makes the new one of the present one; it is called again if that was changed.

    Raises:
        Busy: others change it all the time.
    """
    metadata = store.require(Capability.METADATA)
    for _ in range(_ATTEMPTS):
        present = metadata.get_metadata(_name(key))
        document = changed(_read(present))
        content = json.dumps(asdict(document), ensure_ascii=False, separators=(",", ":"))
        if metadata.compare_and_set(_name(key), content, expected=present):
            return document
    raise Busy(f"Other processes change the attributes of queue {key!r} all the time. Try again.")


def _read(text: str | None) -> Document:
    if text is None:
        return Document()
    content: dict[str, Any] = json.loads(text)
    return Document(**content)


def _name(key: str) -> str:
    """Return the name of the metadata, which is deleted together with the queue."""
    return f"sqs:{key}"
