"""The actions beside those on messages: breakers, redrives, workers, schedules, keys, backups."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from durableq.admin import schedules
from durableq.cli import rendering
from durableq.dashboard import redrives
from durableq.dashboard.actions import Action
from durableq.dashboard.errors import Refusal
from durableq.dashboard.visit import Done, Visit
from durableq.model.dead_letters import RECOVERY_ACTOR, RedriveState
from durableq.model.info import WorkerInfo
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.text import shown, visible
from durableq.model.units import span, to_ms
from durableq.store.core import Capability
from durableq.supervisor.liveness import may_be_alive

#: The longest key in the sentence about it.
_KEY_CHARS: Final = 80


# ---- breakers of queues


def open_breaker(visit: Visit) -> Done:
    """Open the breaker of a queue: no process receives from it."""
    name, seconds = visit.named("name"), visit.number("seconds", 0.001)
    open_ms = None if seconds is None else to_ms(seconds, "The time", MAX_DELAY_MS)
    control = visit.store.require(Capability.CONTROL)
    info = control.set_breaker(name, is_open=True, open_ms=open_ms, actor=visit.actor)
    return Done("/recovery", f"The breaker of {name} is open, and probes in {span(info.left_ms)}.")


def close_breaker(visit: Visit) -> Done:
    """Close the breaker of a queue, without waiting for probes."""
    name = visit.named("name")
    visit.store.require(Capability.CONTROL).set_breaker(name, is_open=False, actor=visit.actor)
    return Done("/recovery", f"The breaker of {name} is closed.")


# ---- redrive tasks


def set_rate(visit: Visit) -> Done:
    """Change the rate of a redrive task that runs."""
    task = visit.store.require(Capability.REDRIVE).set_redrive_rate(
        visit.named("id"), visit.number("rate")
    )
    rate = rendering.rate_words(task.rate)
    return Done(f"/redrives/{task.id}", f"The rate of redrive task {task.id} is now {rate}.")


def cancel_redrive(visit: Visit) -> Done:
    """Cancel a redrive task; messages that it moved stay moved."""
    task = visit.store.require(Capability.REDRIVE).cancel_redrive(visit.named("id"))
    done = f"{task.moved:,} of {task.total:,} done"
    return Done(f"/redrives/{task.id}", f"Redrive task {task.id} is {task.state}: {done}.")


def resume_redrive(visit: Visit) -> Done:
    """Carry out a redrive task that was interrupted.

    Raises:
        Refusal: it has ended.
    """
    task = visit.store.require(Capability.REDRIVE).redrive_task(visit.named("id"))
    if task.state is not RedriveState.RUNNING:
        raise Refusal(
            409, f"Redrive task {task.id} has ended ({task.state}).", "Start another one."
        )
    place = f"/redrives/{task.id}"
    if redrives.is_carried_out(visit.dq, task.id):
        return Done(place, f"This dashboard carries redrive task {task.id} out already.")
    redrives.carry_out(visit.dq, task)
    return Done(place, f"Redrive task {task.id} goes on.")


# ---- workers


def drain(visit: Visit) -> Done:
    """Let one worker finish its messages and end.

    Raises:
        Refusal: it has ended, or is a recovery process.
    """
    fleet, owner = visit.store.require(Capability.FLEET), visit.named("owner")
    worker = _living(fleet.workers(), owner)
    name = visible(worker.name, 80)
    if worker.name.startswith(RECOVERY_ACTOR):
        raise Refusal(409, f"{name} is a recovery process, not a worker.", "End it with SIGTERM.")
    if not fleet.drain(worker.owner_id):
        raise _ended()
    return Done(
        "/workers", f"{name} is asked to end. It finishes its messages, and is not replaced."
    )


def _living(workers: list[WorkerInfo], owner: str) -> WorkerInfo:
    found = next((worker for worker in workers if str(worker.owner_id) == owner), None)
    if found is None or not may_be_alive(found):
        raise _ended()
    return found


def _ended() -> Refusal:
    return Refusal(404, "This worker has ended.", "Its messages are with others, or will be soon.")


# ---- keys, and values of `once`


def forget_key(visit: Visit) -> Done:
    """Forget an idempotency key, so that its next message is handled again.

    Raises:
        Refusal: nothing is remembered of it.
    """
    queue, key = visit.query("queue"), visit.key()
    if not visit.store.require(Capability.IDEMPOTENCY).forget(queue, key):
        raise Refusal(404, f"Nothing is remembered of key {shown(key)} in queue {shown(queue)}.")
    said = f"Key {visible(key, _KEY_CHARS)} of queue {queue} is forgotten."
    return Done("/keys?" + urlencode({"queue": queue}), said)


def forget_value(visit: Visit) -> Done:
    """Forget a value of `once`, so that the next call computes it.

    Raises:
        Refusal: there is none, and no process computes it.
    """
    key = visit.key()
    if not visit.store.require(Capability.ONCE).once_forget(key):
        raise Refusal(404, f"There is no value of {shown(key)}, and no process computes it.")
    return Done("/values", f"The value of {visible(key, _KEY_CHARS)} is forgotten.")


# ---- schedules


def pause_schedule(visit: Visit) -> Done:
    """Pause a schedule for all processes."""
    name = _set_paused(visit, paused=True)
    return Done("/schedules", f"Schedule {name} is paused.")


def resume_schedule(visit: Visit) -> Done:
    """Let a paused schedule go on, with its next slot."""
    name = _set_paused(visit, paused=False)
    return Done("/schedules", f"Schedule {name} goes on.")


def run_schedule(visit: Visit) -> Done:
    """Send one message of a schedule now."""
    name = visit.named("name")
    _, message_id = schedules.run_now(visit.store, name, visit.actor)
    return Done(f"/messages/{message_id}", f"Schedule {name} has sent message {message_id}.")


def _set_paused(visit: Visit, *, paused: bool) -> str:
    of, name = visit.store.require(Capability.SCHEDULES), visit.named("name")
    return of.pause_schedule(name, paused=paused, actor=visit.actor).schedule.name


# ---- the database


def back_up(visit: Visit) -> Done:
    """Make a copy of the database while everything runs."""
    copied = visit.backups.make()
    size = f"{copied.size_bytes / (1 << 20):.1f} MiB"
    return Done("/health", f"{copied.path}: {size}, checked, a copy of {visit.look.address}.")


ACTIONS: Final[tuple[tuple[str, Action], ...]] = (
    ("/queues/{name}/breaker/open", open_breaker),
    ("/queues/{name}/breaker/close", close_breaker),
    ("/redrives/{id}/rate", set_rate),
    ("/redrives/{id}/cancel", cancel_redrive),
    ("/redrives/{id}/resume", resume_redrive),
    ("/workers/{owner}/drain", drain),
    ("/schedules/{name}/pause", pause_schedule),
    ("/schedules/{name}/resume", resume_schedule),
    ("/schedules/{name}/run", run_schedule),
    ("/keys/forget", forget_key),
    ("/values/forget", forget_value),
    ("/health/backup", back_up),
)
