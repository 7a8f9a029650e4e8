"""The actions: for each its path, and the function that makes one call of the store."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from durableq.dashboard import redrives
from durableq.dashboard.errors import Refusal
from durableq.dashboard.visit import Done, Visit
from durableq.model.control import check_refusals
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Decision, Discard, Hold, Requeue
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.message import DeadLetter, Reason
from durableq.model.text import shown
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
    check_refusals(ids, control.cancel(ids, actor=visit.actor))
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
    check_refusals(ids, control.reschedule(ids, delay_ms=delay_ms, actor=visit.actor))
    return Done(f"/messages/{ids[0]}", f"Message {ids[0]} {done}")


# ---- dead letters


def redrive(visit: Visit) -> Done:
    """Send dead letters back to their queues."""
    note = visit.form.get("note") or "redriven by hand"
    return _decide(visit, Requeue(note, visit.number("delay") or 0), "Redriven")


def discard(visit: Visit) -> Done:
    """Remove dead letters for good."""
    return _decide(visit, Discard(visit.form.get("note") or "discarded by hand"), "Discarded")


def hold(visit: Visit) -> Done:
    """Hold dead letters for a person."""
    return _decide(visit, Hold(visit.form.get("note") or "held by hand"), "Held")


def _decide(visit: Visit, decision: Decision, done: str) -> Done:
    """Apply a decision to the selected dead letters, or begin a redrive task for all that match.

    Raises:
        Refusal: none is selected, or the decision cannot be made about all at once.
    """
    if visit.form.get("scope") == "all":
        return _decide_all(visit, decision)
    found = [_dead_letter(visit, one) for one in dict.fromkeys(visit.ids)]
    if not found:
        raise Refusal(400, "No dead letter is selected.", "Go back, and select some.")
    decided: list[str] = []
    for queue, letters in itertools.groupby(found, lambda letter: letter.message.queue):
        decided += visit.store.require(Capability.DEAD_LETTERS).decide_by_id(
            queue, [letter.id for letter in letters], decision, actor=visit.actor
        )
    left = len(found) - len(decided)
    leased = f" {left} left, because a recovery process has leased them." if left else ""
    single = f"/messages/{found[0].id}" if "reason" not in visit.form else ""
    return Done(single or _back(visit), f"{done}: {len(decided):,}.{leased}")


def _decide_all(visit: Visit, decision: Decision) -> Done:
    if not isinstance(decision, Requeue | Discard):
        raise Refusal(400, "All that match cannot be held at once.", "Select them, page by page.")
    reason = visit.form.get("reason")
    if reason and reason not in set(Reason):  # without it all would match
        raise Refusal(400, f"There is no reason {shown(reason)}. Nothing was changed.")
    wanted = DeadLetterFilter(
        queue=visit.form.get("queue") or None,
        reason=Reason(reason) if reason else None,
        fingerprint=visit.form.get("group") or None,
    )
    rate = visit.number("rate") if isinstance(decision, Requeue) else None
    task = visit.store.require(Capability.REDRIVE).start_redrive(
        wanted, decision, actor=visit.actor, rate=rate
    )
    redrives.carry_out(visit.dq, task)
    return Done("/dead-letters", f"Redrive task {task.id} decides about {task.total:,} letters.")


def _dead_letter(visit: Visit, message_id: str) -> DeadLetter:
    found = visit.store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
    if found is None:
        raise Refusal(404, f"There is no dead letter {message_id} any more. Nothing was changed.")
    return found


def _back(visit: Visit) -> str:
    names = ("queue", "reason", "group")
    return "/dead-letters?" + urlencode({name: visit.form.get(name, "") for name in names})


ACTIONS: Final[tuple[tuple[str, Action], ...]] = (
    ("/queues/{name}/pause", pause),
    ("/queues/{name}/resume", resume),
    ("/queues/{name}/purge", purge),
    ("/messages/{id}/cancel", cancel),
    ("/messages/{id}/reschedule", reschedule),
    ("/messages/{id}/run-now", run_now),
    ("/dead-letters/redrive", redrive),
    ("/dead-letters/discard", discard),
    ("/dead-letters/hold", hold),
)
