"""Running handlers in a test: in the calling thread, by the worker's own code."""

from __future__ import annotations

import asyncio
import bdb
import dataclasses
from contextlib import ExitStack, suppress
from typing import Any, Final

import pytest

from durableq.client import tracing
from durableq.client.app import DurableQ
from durableq.client.delivery import Batch, Delivery
from durableq.client.handlers import Handler
from durableq.contrib.pytest import crashes
from durableq.contrib.pytest.recording import RecordingStore, recorded
from durableq.model.errors import Conflict, InvalidBody, InvalidInput, QueueFull
from durableq.model.text import shown
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import this_process
from durableq.supervisor.reclaim import ExitReason, reclaim_messages
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker.completer import Completer
from durableq.worker.execution import Execution
from durableq.worker.fetcher import Fetcher
from durableq.worker.in_flight import Work
from durableq.worker.options import WorkerOptions, check_handlers, chosen_handlers
from durableq.worker.state import WorkerState

#: Messages that one run may handle, unless the caller gives another number.
LIMIT: Final = 1000
#: These are for the person or the tool that runs the test, and no failures of a message.
_FOR_THE_TESTER: Final = (
    KeyboardInterrupt,
    bdb.BdbQuit,
    crashes.Crashed,
    pytest.exit.Exception,
    pytest.fail.Exception,
    pytest.skip.Exception,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a run: numbers of messages, and the errors of handlers."""

    completed: int = 0
    #: Failed, to be retried.
    failed: int = 0
    #: Moved to a dead-letter queue.
    dead: int = 0
    #: Skipped: their key has succeeded already.
    duplicates: int = 0
    #: The exceptions of handlers, and of bodies that do not fit their types, in order.
    errors: tuple[BaseException, ...] = dataclasses.field(default=(), compare=False)


def run_pending(dq: DurableQ, *, raises: bool = False, limit: int = LIMIT) -> Ran:
    """Run the handlers of all messages that are due, until none is ready, in this thread.

    It receives, decodes, calls, settles, retries and buries as a worker does. Messages that
    handlers send are handled too. Delayed ones are not: advance the clock, and run again. Slots of
    schedules that are due are sent first; those that a full queue refuses stay due for the next
    run.

    Args:
        dq: an application with a fresh store.
        raises: raise the first error of a handler, after it was recorded as a failure.
        limit: the largest number of messages.

    Returns:
        What was done, for assertions: `run_pending(dq) == Ran(completed=1)`.

    Raises:
        InvalidInput: no application, no fresh store, or no number.
        AppError: the application has no handler.
        AssertionError: more messages are ready after `limit` of them.
        BaseException: the error of a handler, with `raises`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidInput(f"limit is a number of messages, 1 or more, got {shown(limit)}.")
    with _Run(dq, raises=raises, limit=limit) as run:
        ran = run.work()
        if run.is_cut_short:
            raise AssertionError(
                f"run_pending has handled {limit} messages, and more are ready. Do handlers send "
                "messages to each other, or to themselves, without end? If not, raise limit=."
            )
        return ran


def run_one(dq: DurableQ, *, raises: bool = False) -> Ran:
    """Run one handler with one message, or one batch; see run_pending. None may be ready."""
    with _Run(dq, raises=raises, limit=1) as run:
        return run.work()


class _Execution(Execution):
    """Settles each message at once, and raises the errors of handlers if that is wanted."""

    def __init__(self, state: WorkerState, completer: Completer, *, raises: bool) -> None:
        super().__init__(state, completer)
        self._raises = raises
        self.errors: list[BaseException] = []

    def begin(self, work: Work, delivery: Delivery, now_ns: int) -> bool:
        if begun := super().begin(work, delivery, now_ns):
            crashes.reach("before handler")
        else:
            self._completer.flush()
            self._record_unreadable(work, delivery)
        return begun

    def begin_batch(self, work: Work) -> Batch:
        if batch := super().begin_batch(work):
            crashes.reach("before handler")
        return batch

    def complete(self, work: Work, delivery: Delivery, result: Any, began_ns: int) -> int:
        crashes.reach("after handler")
        now_ns = super().complete(work, delivery, result, began_ns)
        self._completer.flush()
        return now_ns

    def fail(self, work: Work, delivery: Delivery, error: BaseException, began_ns: int) -> int:
        crashes.check_alive()
        if isinstance(error, _FOR_THE_TESTER):
            self._in_flight.reset(work, [delivery])
            raise error
        now_ns = super().fail(work, delivery, error, began_ns)
        self._completer.flush()
        self._record(error)
        return now_ns

    def end_batch(self, work: Work, batch: Batch, answer: Any, error: BaseException | None) -> None:
        crashes.check_alive()
        if error is None:
            crashes.reach("after handler")
        elif isinstance(error, _FOR_THE_TESTER):
            self._in_flight.reset(work, batch)
            raise error
        super().end_batch(work, batch, answer, error)
        self._completer.flush()
        if error is not None:
            self._record(error)

    def _record(self, error: BaseException) -> None:
        self.errors.append(error)
        if self._raises:
            raise error

    def _record_unreadable(self, work: Work, delivery: Delivery) -> None:
        """Record why a body cannot be read. The others of a batch are handled before it raises."""
        try:
            delivery.read(work.handler.reader)
        except InvalidBody as error:
            self.errors.append(error)
        if work.handler.batch is None:
            self.raise_first()

    def raise_first(self) -> None:
        """Raise the first error, if that is wanted and there is one."""
        if self._raises and self.errors:
            raise self.errors[0]


class _Run:
    """A worker without threads, for one run."""

    def __init__(self, dq: DurableQ, *, raises: bool, limit: int) -> None:
        self._recording: RecordingStore = recorded(dq)
        self._store: Store = dq.store
        self._handlers = chosen_handlers(dq, ())
        check_handlers(self._store, self._handlers)
        self._queues = [handler.queue for handler in self._handlers]
        self._stack = ExitStack()
        self._scoreboard = Scoreboard()
        self._stack.callback(self._scoreboard.close)
        options = WorkerOptions(app="", url=dq.url, name="test", max_messages=limit)
        self._state = WorkerState(dq, options, self._scoreboard)
        self._stack.callback(self._state.close)
        completer = Completer(self._state)
        self._execution = _Execution(self._state, completer, raises=raises)
        self._fetcher = Fetcher(self._state, self._synchronous(), completer)
        #: Messages that receives moved to dead-letter queues.
        self._buried = 0

    def _synchronous(self) -> list[Handler]:
        """Return the handlers as functions, each with one message at a time by default."""
        handlers = self._handlers
        if tracing.active is not None:
            handlers = [*map(tracing.active.traced, handlers)]
        if any(handler.is_async for handler in handlers):
            runner = asyncio.Runner()
            self._stack.callback(runner.close)
            handlers = [_in_loop(handler, runner) for handler in handlers]
        replace = dataclasses.replace
        return [replace(handler, prefetch=handler.prefetch or 1) for handler in handlers]

    def __enter__(self) -> _Run:
        try:
            if any(handler.is_async for handler in self._handlers):
                _check_no_loop()
            me = dataclasses.replace(this_process(self._state.name), queues=tuple(self._queues))
            owner_id = self._store.require(Capability.FLEET).register(me).owner_id
            self._scoreboard.register(owner_id)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if crashes.is_dead():
            crashes.leave(self._end_after_crash)
            return
        with self._stack:
            self._store.require(Capability.FLEET).unregister(self._scoreboard.owner_id)

    def work(self) -> Ran:
        """Handle what is ready, up to the limit."""
        before = self._counts()
        with crashes.running():
            for name in self._state.schedules:
                with suppress(QueueFull):  # the slot stays due, as in a worker
                    self._store.require(Capability.SCHEDULES).fire_schedule(name)
            while not self._state.stopping.is_set and (work := self._poll()) is not None:
                self._execution.call(work)
                self._execution.raise_first()
        after = self._counts()
        completed, dead, duplicates = (now - then for now, then in zip(after, before, strict=True))
        failed = self._state.in_flight.failed - (dead - self._buried)
        return Ran(completed, failed, dead, duplicates, tuple(self._execution.errors))

    @property
    def is_cut_short(self) -> bool:
        """Whether messages are ready after the last one that was allowed."""
        return self._state.is_used_up and self._store.ready_in_ms(self._queues) == 0

    def _poll(self) -> Work | None:
        before = self._dead()
        try:
            return self._fetcher.poll()
        finally:
            with suppress(crashes.Crashed):
                self._buried += self._dead() - before

    def _counts(self) -> tuple[int, int, int]:
        """Return the numbers of messages completed, dead, and found to be duplicates, so far."""
        counters = [info.counters for info in self._infos()]
        completed, duplicates = (
            sum(getattr(one, name) for one in counters) for name in ("completed", "duplicates")
        )
        return completed, self._dead(), duplicates

    def _dead(self) -> int:
        infos = self._infos()
        dead = {info.dead_letter_queue for info in infos}
        return sum(info.counters.moved_in for info in infos if info.name in dead)

    def _infos(self) -> Any:
        return self._store.require(Capability.INSPECT).queues()

    def _end_after_crash(self, reclaim: bool) -> None:
        """Free what a killed process does not hold; reclaim its messages as a supervisor would."""
        with self._stack:
            if reclaim:
                inner, actor = self._recording.inner, self._state.name
                reclaim_messages(inner, self._scoreboard, actor, ExitReason.DEATH, "SIGKILL")


def _in_loop(handler: Handler, runner: asyncio.Runner) -> Handler:
    """Return a handler whose coroutine runs to its end in the calling thread."""
    if not handler.is_async:
        return handler
    function = handler.function

    async def wait(given: Any) -> Any:
        return await function(given)

    return dataclasses.replace(handler, function=lambda given: runner.run(wait(given)))


def _check_no_loop() -> None:
    """Refuse to run coroutines where an event loop runs already.

    Raises:
        Conflict: one does.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise Conflict(
            "An event loop runs in this thread, so the `async def` handlers cannot run here. "
            "Write: await asyncio.to_thread(run_pending, dq)."
        )
