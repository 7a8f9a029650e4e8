"""The actions: for each its path, and the function that makes one call of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durableq.dashboard.errors import Refusal
from durableq.dashboard.visit import Done, Visit
from durableq.store.core import Capability

Action = Callable[[Visit], Done]


def pause(visit: Visit) -> Done:
    """Stop deliveries from a queue."""
    return _set_paused(visit, 1, "is paused: nothing is received from it.")


def resume(visit: Visit) -> Done:
    """Resume deliveries from a paused queue."""
    return _set_paused(visit, 0, "is resumed.")


def purge(visit: Visit) -> Done:
    """Remove every message of a queue whose name was typed.

    Raises:
        Refusal: another name was typed.
    """
    name = visit.named("name")
    if visit.form.get("name") != name:
        raise Refusal(
            400, "Nothing was purged: the name does not match.", f"To purge, type {name}."
        )
    number = visit.store.require(Capability.CONTROL).purge(name)
    return Done(f"/queues/{name}", f"Purged {number:,} messages of {name}.")


def _set_paused(visit: Visit, paused: int, done: str) -> Done:
    name = visit.store.require(Capability.INSPECT).queue(visit.named("name")).name
    visit.store.declare_queue(name, {"paused": paused})
    return Done(f"/queues/{name}", f"{name} {done}")


ACTIONS: Final[tuple[tuple[str, Action], ...]] = (
    ("/queues/{name}/pause", pause),
    ("/queues/{name}/resume", resume),
    ("/queues/{name}/purge", purge),
)
