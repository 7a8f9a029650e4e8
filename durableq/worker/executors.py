"""Executors: loops that take messages from the fetcher and have them handled."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Final

from durableq.client.delivery import Delivery
from durableq.model.errors import PASSING, DurableQError
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.worker.execution import Execution
from durableq.worker.fetcher import Fetcher, Work
from durableq.worker.state import WorkerState

log = logging.getLogger("durableq.worker")

#: Largest number of coroutines of one worker; a batch is one.
ASYNC_AT_ONCE: Final = 100


class ThreadExecutor:
    """Calls functions, one at a time, on the thread that runs it."""

    def __init__(self, state: WorkerState, fetcher: Fetcher, execution: Execution) -> None:
        self._state = state
        self._fetcher = fetcher
        self._execution = execution
        self._outage = Outage(logged(log))

    def run(self) -> None:
        """Take messages and have them handled until there are none any more."""
        while (work := self._fetcher.next()) is not None:
            try:
                self._execution.call(*work)
            except PASSING as error:
                self._outage.report(error)
                self._state.stopping.wait(PAUSE_SECONDS)
            else:
                self._outage.end()


class AsyncExecutor:
    """Runs coroutines, many at a time, on one event loop."""

    def __init__(self, state: WorkerState, fetcher: Fetcher, execution: Execution) -> None:
        self._state = state
        self._fetcher = fetcher
        self._execution = execution
        self._slots = threading.BoundedSemaphore(ASYNC_AT_ONCE)
        self._outage = Outage(logged(log))
        self._loop = asyncio.new_event_loop()
        self._ending = False

    def run(self) -> None:
        """Take messages and have them handled until there are none any more."""
        thread = threading.Thread(target=self._run_loop, name="coroutines", daemon=True)
        thread.start()
        running: set[Future[None]] = set()
        try:
            while (slots := self._acquire_slots()) and (work := self._fetcher.next(slots)):
                futures = self._submit(work)
                for _ in range(slots - len(futures)):
                    self._slots.release()
                running = {future for future in running if not future.done()} | set(futures)
        finally:
            wait(running)
            self._ending = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _run_loop(self) -> None:
        """Run the event loop until the executor ends, even if a handler stops the loop."""
        while not self._ending:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - SystemExit of a coroutine's own
                text = "a coroutine that a handler started raised %s"
                log.warning(text, type(error).__qualname__, extra=logs.facts("raised_aside"))

    def _acquire_slots(self) -> int:
        """Wait for a free slot; return the number of slots taken, at most one receive's worth."""
        self._slots.acquire()
        slots = 1
        while slots < MAX_RECEIVE_BATCH and self._slots.acquire(blocking=False):
            slots += 1
        return slots

    def _submit(self, work: Work) -> list[Future[None]]:
        """Start a coroutine for each message, or one for a batch."""
        handler, deliveries = work
        groups = [deliveries] if handler.batch is not None else [[one] for one in deliveries]
        futures = []
        for group in groups:
            coroutine = self._execution.call_async(handler, group)
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            future.add_done_callback(partial(self._ended, group))
            futures.append(future)
        return futures

    def _ended(self, group: Sequence[Delivery], future: Future[None]) -> None:
        self._slots.release()
        error = None if future.cancelled() else future.exception()
        if future.cancelled():  # before its first step, by another handler
            try:
                self._execution.release_unstarted(group)
            except DurableQError as trouble:
                error = trouble
        if isinstance(error, PASSING):
            self._outage.report(error)
        elif error is not None:
            self._state.give_up(error)
        else:
            self._outage.end()
