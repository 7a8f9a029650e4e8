"""The progress of messages, from engines that keep it."""

from __future__ import annotations

from durableq.model.progress import Progress
from durableq.store.core import Capability, Store


def in_flight(opened: Store, queue: str | None, limit: int) -> list[Progress]:
    """Return the last reports about messages of a queue, or of all, in order of id."""
    if Capability.PROGRESS not in opened.capabilities:
        return []
    return opened.require(Capability.PROGRESS).progress_in(queue, limit)


def of_message(opened: Store, message_id: str) -> Progress | None:
    """Return the last report about a message; None if there is none."""
    if Capability.PROGRESS not in opened.capabilities:
        return None
    found = opened.require(Capability.PROGRESS).progress_of([message_id])
    return found[0] if found else None
