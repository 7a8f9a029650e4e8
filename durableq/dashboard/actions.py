"""The actions: for each its path, and the function that makes one call of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durableq.dashboard import decisions
from durableq.dashboard.errors import Refusal
from durableq.dashboard.visit import Done, Visit
from durableq.model.control import check_refusals
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.units import to_ms
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


# ---- one message


def cancel(visit: Visit) -> Done:
    """Remove a message that waits."""
    ids = [visit.named("id")]
    control = visit.store.require(Capability.CONTROL)
    check_refusals(ids, control.cancel(ids, actor=visit.actor, note=visit.note))
    return Done(f"/messages/{ids[0]}", f"Message {ids[0]} is cancelled.")


def reschedule(visit: Visit) -> Done:
    """Delay a message until another time."""
    return _reschedule(visit, visit.number("delay") or 0, "is rescheduled.")


def run_now(visit: Visit) -> Done:
    """Make a message ready."""
    return _reschedule(visit, 0, "is ready.")


def _reschedule(visit: Visit, delay: float, done: str) -> Done:
    ids, delay_ms = [visit.named("id")], to_ms(delay, "The delay", MAX_DELAY_MS)
    control = visit.store.require(Capability.CONTROL)
    refused = control.reschedule(ids, delay_ms=delay_ms, actor=visit.actor, note=visit.note)
    check_refusals(ids, refused)
    return Done(f"/messages/{ids[0]}", f"Message {ids[0]} {done}")


ACTIONS: Final[tuple[tuple[str, Action], ...]] = (
    ("/queues/{name}/pause", pause),
    ("/queues/{name}/resume", resume),
    ("/queues/{name}/purge", purge),
    ("/messages/{id}/cancel", cancel),
    ("/messages/{id}/reschedule", reschedule),
    ("/messages/{id}/run-now", run_now),
    ("/messages/{id}/retry", decisions.retry),
    ("/dead-letters/redrive", decisions.redrive),
    ("/dead-letters/discard", decisions.discard),
    ("/dead-letters/hold", decisions.hold),
    ("/dead-letters/release", decisions.release),
)
