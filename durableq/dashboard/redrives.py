"""Redrive tasks that the dashboard carries out, in threads of it."""

from __future__ import annotations

import threading

from durableq.admin.redriving import steps
from durableq.client.app import DurableQ
from durableq.dashboard.errors import log
from durableq.model.dead_letters import RedriveTask
from durableq.model.errors import DurableQError
from durableq.runtime.outage import describe


def carry_out(dq: DurableQ, started: RedriveTask) -> None:
    """Carry out a redrive task in a thread; `durableq dlq resume` continues it if this ends."""
    name, arguments = _name(dq, started.id), (dq, started)
    threading.Thread(target=_carry_out, args=arguments, name=name, daemon=True).start()


def is_carried_out(dq: DurableQ, task_id: str) -> bool:
    """Return whether a thread of this process carries out a redrive task."""
    return any(thread.name == _name(dq, task_id) for thread in threading.enumerate())


def _name(dq: DurableQ, task_id: str) -> str:
    return f"durableq redrive {task_id} of {dq.address}"


def _carry_out(dq: DurableQ, started: RedriveTask) -> None:
    try:
        for _ in steps(dq.store, started):
            pass
    except DurableQError as error:
        log.warning(
            "Redrive task %s was interrupted: %s. To continue: durableq dlq resume %s.",
            *(started.id, describe(error).rstrip("."), started.id),
        )
