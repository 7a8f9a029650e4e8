"""Operations of a store in coroutines, and the bound of those that wait in one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from durableq.client import tracing
from durableq.client.committing import Operation, abandon, note, submit
from durableq.client.watching import watching
from durableq.model.errors import InvalidInput, QueueFull
from durableq.model.limits import MAX_PENDING, MAX_PENDING_BYTES
from durableq.model.message import Draft
from durableq.store.core import Call, Send, Store

if TYPE_CHECKING:
    from durableq.client.app import DurableQ

T = TypeVar("T")

#: Threads of this process for reads, and for operations of `once`. None waits for a computation.
THREADS: Final = 4
#: Threads of this process for transactions, in which user code runs for as long as it likes.
WRITERS: Final = 32


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        InvalidInput: asyncio runs none in this thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise InvalidInput(
            "This call is for coroutines of asyncio, and asyncio runs no event loop in this "
            "thread. Under trio, call the function without the `a` in a thread: "
            "await trio.to_thread.run_sync(orders.send, body)."
        ) from error


def in_thread(operation: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Run an operation that is not written in a group in a thread; the future is there at once."""
    return running_loop().run_in_executor(_readers(), partial(operation, *arguments))


def read(store: Store, look: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Look at a store in a thread, which a closing waits for; the future is there at once."""
    return _noted(store, _readers(), look, *arguments)


def write(store: Store, operation: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Run user code that writes to a store, as `read` does, in its caller's context."""
    writers = _threads(os.getpid(), "transactions", WRITERS)
    return _noted(store, writers, contextvars.copy_context().run, operation, *arguments)


def _noted(
    store: Store, threads: ThreadPoolExecutor, operation: Callable[..., T], *arguments: Any
) -> asyncio.Future[T]:
    loop = running_loop()
    future = threads.submit(operation, *arguments)
    note(store, future)
    return asyncio.wrap_future(future, loop=loop)


def _readers() -> ThreadPoolExecutor:
    """Return the threads for reads.

    The loop's own are not used: they may all wait for a computation, in `dq.once`.
    """
    return _threads(os.getpid(), "coroutines", THREADS)


@functools.lru_cache(maxsize=2)
def _threads(pid: int, use: str, number: int) -> ThreadPoolExecutor:
    """Return threads of this process: a forked child has none of its parent's."""
    return ThreadPoolExecutor(number, thread_name_prefix=f"durableq-{use}-{pid}")


async def opened(app: DurableQ) -> Store:
    """Return the store of an application; the first use opens it, in a thread."""
    if app.opened is not None:
        return app.opened
    store: Store = await in_thread(lambda: app.store)
    return store


async def commit(store: Store, call: Call) -> Any:
    """Run an operation in a group, and return its answer.

    If the coroutine is cancelled before its group is taken, nothing happens. Afterwards the
    operation goes on, except that messages which it has received are released, uncounted.

    Raises:
        DurableQError: as the operation.
    """
    operation = Operation(call, running_loop().create_future())
    committer = submit(store, operation)
    assert operation.future is not None  # noqa: S101 - it was given
    try:
        return await operation.future
    except BaseException:  # a coroutine that is thrown away ends by a GeneratorExit
        abandon(store, committer, operation)
        raise


class _Pending:
    """The sends of one event loop that wait for their commit: at most MAX_PENDING messages.

    The last one that is let in may be a batch, which exceeds this.
    """

    def __init__(self) -> None:
        self._messages = self._bytes = 0
        self._queued: deque[asyncio.Future[None]] = deque()
        #: Whether a send was let in, and is not made yet, so that its size is not known.
        self._is_entering = False
        #: Of the sends that wait for room in a queue one looks for it, by store and queue.
        self.turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def send(self, store: Store, queue: str, make: Callable[[], list[Draft]]) -> list[str]:
        """Make the drafts of a send as soon as there is room for them, and store them."""
        await self._enter()
        with ExitStack() as counted:
            made = self._make(make, counted)
            if tracing.active is None:
                return await self._store(store, queue, counted, made)
            storing = partial(self._store, store, queue, counted)
            return await tracing.active.send_async(queue, made, storing)

    def _make(self, make: Callable[[], list[Draft]], counted: ExitStack) -> list[Draft]:
        """Make drafts, and count them before the next send is let in."""
        made: list[Draft] = []
        try:
            made = make()
            return made
        finally:
            size = sum(len(one.body) for one in made)
            counted.callback(self._count, -len(made), -size)
            self._entered(len(made), size)

    async def _store(
        self, store: Store, queue: str, counted: ExitStack, made: list[Draft]
    ) -> list[str]:
        """Store drafts, which are counted until then; wait for room in a full queue."""
        try:
            ids: list[str] = await commit(store, Send(queue, made))
            return ids
        except QueueFull as error:
            if not error.block_ms:
                raise
            full = error
        finally:
            counted.close()
        turn = self.turns.setdefault((id(store), queue), asyncio.Lock())
        return await _send_when_room(store, Send(queue, made), full, turn)

    @property
    def _is_full(self) -> bool:
        return self._messages >= MAX_PENDING or self._bytes >= MAX_PENDING_BYTES

    async def _enter(self) -> None:
        """Wait for room, in the order of coming."""
        if not (self._is_full or self._is_entering):
            self._is_entering = True
            return
        turn = running_loop().create_future()
        self._queued.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # its turn had come
                self._entered(0, 0)
            raise

    def _entered(self, messages: int, size: int) -> None:
        """Count the send that was let in, whose size is known now."""
        self._is_entering = False
        self._count(messages, size)

    def _count(self, messages: int, size: int) -> None:
        """Add to the count, or subtract, and let the next send in if there is room."""
        self._messages += messages
        self._bytes += size
        while self._queued and not (self._is_full or self._is_entering):
            turn = self._queued.popleft()
            if not turn.done():
                turn.set_result(None)
                self._is_entering = True


async def _send_when_room(
    store: Store, call: Send, full: QueueFull, turn: asyncio.Lock
) -> list[str]:
    """Wait until a queue has room, and send, for a queue whose `on_full` is block.

    Raises:
        QueueFull: there was no room in the queue's `block_timeout`.
    """
    deadline = running_loop().time() + full.block_ms / 1000
    try:
        async with asyncio.timeout_at(deadline):
            await turn.acquire()
    except TimeoutError as error:
        raise _waited(full) from error
    try:
        async with watching(store) as writes:
            while True:
                if await read(store, store.has_room, full):
                    try:
                        ids: list[str] = await commit(store, call)
                        return ids
                    except QueueFull as again:
                        if not again.block_ms:
                            raise
                        full = again
                left_seconds = deadline - running_loop().time()
                if left_seconds <= 0:
                    raise _waited(full)
                await writes.wait(left_seconds)
    finally:
        turn.release()


def _waited(full: QueueFull) -> QueueFull:
    return QueueFull(full.queue, full.why, full.needs, block_ms=full.block_ms, waited=True)


#: The pending sends of each event loop.
_pending: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pending] = WeakKeyDictionary()


async def send(store: Store, queue: str, make: Callable[[], list[Draft]]) -> list[str]:
    """Store messages, in a commit that other coroutines share, and return their ids in order.

    Args:
        store: the engine.
        queue: the target.
        make: encodes the messages, as soon as there is room for them.
    """
    loop = running_loop()
    pending = _pending.get(loop)
    if pending is None:
        pending = _pending[loop] = _Pending()
    return await pending.send(store, queue, make)
