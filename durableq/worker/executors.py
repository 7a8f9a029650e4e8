"""Executors: loops that take messages from the fetcher and have them handled."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextvars import Context, copy_context
from typing import Any, Final

from durableq.model.errors import PASSING
from durableq.model.limits import MAX_RECEIVE_BATCH
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, logged
from durableq.worker.execution import Execution
from durableq.worker.fetcher import Fetcher
from durableq.worker.in_flight import Work
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
                self._execution.call(work)
            except PASSING as error:
                self._outage.report(error)
                self._state.stopping.wait(PAUSE_SECONDS)
            else:
                self._outage.end()


class _Started:
    """The messages of a receive whose coroutines have started, on the event loop."""

    __slots__ = ("running", "slots", "work")

    def __init__(self, work: Work, slots: int) -> None:
        self.work = work
        #: The number of slots that it has.
        self.slots = slots
        #: The number of tasks that run its handler.
        self.running = 0


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
        #: The calls of `_go_on`, which runs after the first step of new tasks. So it has changed
        #: when a coroutine that has suspended goes on.
        self._turn = 0
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
            started = _Started(work, len(work.waiting) if work.handler.batch is None else 1)
            unused -= started.slots
            self._loop.call_soon_threadsafe(self._start, started, 1)
            return True
        finally:
            self._slots.give(unused)

    def _start(self, started: _Started, number: int) -> None:
        """Start tasks that take messages, on the event loop.

        One task serves all messages whose coroutines never suspend: a task for each would double
        the time of a message. Where they suspend, the number of tasks is doubled until each message
        has its own.
        """
        for _ in range(min(number, len(started.work.waiting))):
            task = self._loop.create_task(self._run(started))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._loop.call_soon(self._go_on, started, 2 * number)

    def _go_on(self, started: _Started, number: int) -> None:
        """Start more tasks if messages still wait when those before have made their first step."""
        self._turn += 1
        if self._state.stopping.is_set:
            self._release(started.work)
        if started.work.waiting:
            self._start(started, number)
        self._give_slots(started)

    async def _run(self, started: _Started) -> None:
        """Take messages and handle them, in one task."""
        work, started.running = started.work, started.running + 1
        try:
            if work.handler.batch is None:
                await self._handle_each(work)
            else:
                await self._handle_batch(work)
        except BaseException as error:  # noqa: BLE001 - the worker ends by it, not the loop
            self._report(error)
            self._release(work)
        else:
            self._outage.end()
        finally:
            started.running -= 1
            self._give_slots(started)

    async def _handle_each(self, work: Work) -> None:
        """Handle messages, one after another, until a coroutine leaves traces in the task.

        It does if it suspends, changes the context, or cancels the task: the next message gets
        another task, and is handled as if each had its own.
        """
        execution, function = self._execution, work.handler.function
        turn, context = self._turn, copy_context()
        task, now_ns = asyncio.current_task(), time.monotonic_ns()
        stopping = self._state.stopping
        while not stopping.is_set and (delivery := work.take()) is not None:
            if not execution.begin(work, delivery, now_ns):
                continue
            try:
                result = await function(delivery)
            except BaseException as error:  # noqa: BLE001 - a handler may raise anything
                now_ns = execution.fail(work, delivery, error, now_ns)
            else:
                now_ns = execution.complete(work, delivery, result, now_ns)
            if self._turn != turn or _is_cancelled(task) or not _is_current(context):
                return

    async def _handle_batch(self, work: Work) -> None:
        batch = self._execution.begin_batch(work)
        try:
            if not batch:
                return
            try:
                answer, failed = await work.handler.function(batch), None
            except BaseException as error:  # noqa: BLE001 - a handler may raise anything
                answer, failed = None, error
            self._execution.end_batch(work, batch, answer, failed)
        finally:
            self._execution.release_waiting(work)

    def _release(self, work: Work) -> None:
        try:
            self._execution.release_waiting(work)
        except BaseException as error:  # noqa: BLE001 - as in `_run`
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Log a transient error of the file; end the worker because of any other."""
        if isinstance(error, PASSING):
            self._outage.report(error)
        else:
            self._state.give_up(error)

    def _give_slots(self, started: _Started) -> None:
        """Give back the slots of messages that are handled or released."""
        left = min(started.slots, len(started.work.waiting) + started.running)
        self._slots.give(started.slots - left)
        started.slots = left


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Return whether the next suspension of a task would be cancelled.

    Before Python 3.13, `uncancel` takes back the request, but not the cancellation.
    """
    return task is None or task.cancelling() > 0 or bool(getattr(task, "_must_cancel", False))


def _is_current(context: Context) -> bool:
    """Return whether no variable was set since a context was copied."""
    now = copy_context()
    if not now:
        return not context
    return len(now) == len(context) and all(
        context.get(variable, context) is value for variable, value in now.items()
    )


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
