"""Executors: loops that take messages from the fetcher and have them handled."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Final

from durableq.client.delivery import Delivery
from durableq.client.handlers import Handler
from durableq.model.errors import PASSING, DurableQError
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.worker.execution import Execution
from durableq.worker.fetcher import Fetcher
from durableq.worker.state import WorkerState

log = logging.getLogger("durableq.worker")

#: Largest number of coroutines of one worker; a batch is one.
ASYNC_AT_ONCE: Final = 100
#: Longest wait for more than one slot: the next receive serves many coroutines or few.
SLOTS_SECONDS: Final = 0.005


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
        self._slots = _Slots(ASYNC_AT_ONCE)
        self._outage = Outage(logged(log))
        self._loop = asyncio.new_event_loop()
        #: The event loop itself has weak references only.
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def run(self) -> None:
        """Take messages and have them handled until there are none any more."""
        thread = threading.Thread(target=self._run_loop, name="coroutines", daemon=True)
        thread.start()
        try:
            while self._take_messages():
                pass
        finally:
            self._slots.wait_until_all_are_free()
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

    def _take_messages(self) -> bool:
        """Wait for slots and messages, and start their coroutines; return False at the end."""
        unused = self._slots.take()
        try:
            work = self._fetcher.next(unused)
            if work is None:
                return False
            handler, deliveries = work
            groups = [deliveries] if handler.batch is not None else [[one] for one in deliveries]
            unused -= len(groups)
            self._loop.call_soon_threadsafe(self._start, handler, groups)
            return True
        finally:
            self._slots.give(unused)

    def _start(self, handler: Handler, groups: Sequence[Sequence[Delivery]]) -> None:
        """Start a coroutine for each group, on the event loop."""
        for group in groups:
            task = self._loop.create_task(self._execution.call_async(handler, group))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, group))

    def _ended(self, group: Sequence[Delivery], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():  # before its first step, by another handler
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
        self._slots.give(1)


class _Slots:
    """Free slots for coroutines. Thread-safe."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = number
        #: The number that a thread waits for.
        self._wanted = 0
        self._changed = threading.Condition()

    def take(self) -> int:
        """Wait for a slot; take all that are free, at most one receive's worth.

        A receive for one message takes as long as for many. So if all slots were taken, it waits a
        moment for half of them.
        """
        with self._changed:
            if not self._free:
                self._wait_for(1)
                self._wait_for(self._number // 2, SLOTS_SECONDS)
            taken = min(self._free, MAX_RECEIVE_BATCH)
            self._free -= taken
        return taken

    def give(self, number: int) -> None:
        """Add free slots."""
        with self._changed:
            self._free += number
            if self._free >= self._wanted:
                self._changed.notify()

    def wait_until_all_are_free(self) -> None:
        """Wait until nothing runs any more."""
        with self._changed:
            self._wait_for(self._number)

    def _wait_for(self, number: int, seconds: float | None = None) -> None:
        self._wanted = number
        self._changed.wait_for(lambda: self._free >= number, seconds)
