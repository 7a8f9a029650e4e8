"""Redrive tasks that the dashboard carries out, in threads of it."""

from __future__ import annotations

import threading
import time
from typing import Final

from durableq.client.app import DurableQ
from durableq.dashboard.errors import log
from durableq.model.dead_letters import RedriveState, RedriveTask
from durableq.model.errors import DurableQError
from durableq.model.limits import PAUSE_MS, REDRIVE_STEP, REDRIVE_STEP_MS
from durableq.runtime.outage import describe
from durableq.store.core import Capability

LONGEST_PAUSE_SECONDS: Final = 1.0


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
    current = started
    try:
        while current.state is RedriveState.RUNNING:
            redrive = dq.store.require(Capability.REDRIVE)
            current = redrive.continue_redrive(current.id, REDRIVE_STEP, within_ms=REDRIVE_STEP_MS)
            if current.state is RedriveState.RUNNING:
                pause_ms = max(current.wait_ms, PAUSE_MS)
                # another process may change the rate, or cancel it
                time.sleep(min(pause_ms / 1000, LONGEST_PAUSE_SECONDS))
    except DurableQError as error:
        log.warning(
            "Redrive task %s was interrupted: %s. To continue: durableq dlq resume %s.",
            *(started.id, describe(error).rstrip("."), started.id),
        )
