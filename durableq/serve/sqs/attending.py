"""The work beside the requests of a server: move tasks, maintenance, the watch of receives."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.coroutines import read, write
from durableq.model.dead_letters import RedriveTask
from durableq.model.errors import PASSING, DurableQError, NotFound
from durableq.model.limits import REDRIVE_STEP, REDRIVE_STEP_MS
from durableq.runtime.outage import PAUSE_SECONDS, Outage, describe, logged
from durableq.serve.sqs.moves import running, started
from durableq.serve.sqs.polling import polls_of
from durableq.store.core import Capability, Store

log = logging.getLogger("durableq.serve")

#: Time between two looks for tasks of servers that have ended.
IDLE_SECONDS: Final = 30.0
#: Time between two slices of maintenance: there may be no worker that does it.
MAINTENANCE_SECONDS: Final = 5.0


class Mover:
    """Carries out the move tasks of a store, also those that another server has begun.

    Args:
        store: the engine.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started = started(store)
        self._outage = Outage(logged(log))

    async def run(self) -> None:
        """Carry out tasks until it is cancelled."""
        while True:
            self._started.clear()
            try:
                pause = await self._step()
                self._outage.end()
            except DurableQError as error:
                self._outage.report(error)
                pause = PAUSE_SECONDS
            if pause:
                try:
                    async with asyncio.timeout(pause):
                        await self._started.wait()
                except TimeoutError:
                    continue

    async def _step(self) -> float:
        """Carry out a step of each task that runs; return the seconds to the next one."""
        tasks = await read(self._store, running, self._store)
        return min([await self._continue(task) for task in tasks], default=IDLE_SECONDS)

    async def _continue(self, task: RedriveTask) -> float:
        """Carry out a step of a task; return the seconds to its next one."""
        redrive = self._store.require(Capability.REDRIVE)
        step = partial(redrive.continue_redrive, within_ms=REDRIVE_STEP_MS)
        try:
            task = await write(self._store, step, task.id, REDRIVE_STEP)
        except NotFound:  # its queue was deleted, and the task with it
            return IDLE_SECONDS
        except DurableQError as error:
            if isinstance(error, PASSING):
                raise
            log.warning("Move task %s cannot go on: %s", task.id, describe(error))
            return IDLE_SECONDS
        return task.wait_ms / 1000


async def maintain(store: Store) -> None:
    """Remove what has expired, a slice at a time, until it is cancelled."""
    outage = Outage(logged(log))
    while True:
        await asyncio.sleep(MAINTENANCE_SECONDS)
        try:
            await write(store, store.require(Capability.MAINTENANCE).maintain)
            outage.end()
        except DurableQError as error:
            outage.report(error, what="maintenance")


async def attend(app: DurableQ) -> None:
    """Run until it is cancelled, when the last request has been answered.

    Args:
        app: the application whose store is served; open.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Mover(app.store).run())
            if Capability.MAINTENANCE in app.store.capabilities:
                tasks.create_task(maintain(app.store))
    finally:
        await polls_of(app.store).close()
