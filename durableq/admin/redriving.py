"""Redrive tasks carried out step by step, with room for other writers between the steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from durableq.model.dead_letters import RedriveState, RedriveTask
from durableq.model.limits import PAUSE_MS, REDRIVE_STEP, REDRIVE_STEP_MS
from durableq.store.core import Capability, Store

#: A task that waits for its rate is looked at as often: another process may change or cancel it.
LONGEST_PAUSE_SECONDS: Final = 1.0


def steps(store: Store, task: RedriveTask) -> Iterator[RedriveTask]:
    """Carry out a redrive task to its end, at its rate; yield it after each step."""
    redrive = store.require(Capability.REDRIVE)
    while task.state is RedriveState.RUNNING:
        task = redrive.continue_redrive(task.id, REDRIVE_STEP, within_ms=REDRIVE_STEP_MS)
        yield task
        if task.state is RedriveState.RUNNING:
            time.sleep(min(max(task.wait_ms, PAUSE_MS) / 1000, LONGEST_PAUSE_SECONDS))
