"""Operations of a store in coroutines, and the bound of those that wait in one event loop."""

from __future__ import annotations

import asyncio
import functools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    return running_loop().run_in_executor(_threads(os.getpid()), partial(operation, *arguments))


def read(store: Store, look: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Look at a store in a thread, which a closing waits for; the future is there at once."""
    loop = running_loop()
    looking = _threads(os.getpid()).submit(look, *arguments)
    note(store, looking)
    return asyncio.wrap_future(looking, loop=loop)


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> ThreadPoolExecutor:
    """Return the threads of this process: a forked child has none of its parent's.

    The loop's own are not used: they may all wait for a computation, in `dq.once`.
    """
    return ThreadPoolExecutor(THREADS, thread_name_prefix=f"durableq-coroutines-{pid}")


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
    """The sends of one event loop that wait for their commit: at most MAX_PENDING messages."""

    def __init__(self) -> None:
        self._messages = self._bytes = 0
        self._queued: deque[asyncio.Future[None]] = deque()
        #: A send that was let in, and has not said yet how large it is.
        self._is_entering = False
        #: Of the sends that wait for room in a queue one looks for it, by store and queue.
        self.turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def send(self, store: Store, queue: str, make: Callable[[], list[Draft]]) -> list[str]:
        """Make the drafts of a send as soon as there is room for them, and store them."""
        await self._enter()
        try:
            made = make()
        finally:
            self._count(0, 0)
        if tracing.active is None:
            return await self.store(store, queue, made)
        storing = partial(self.store, store, queue)
        return await tracing.active.send_async(queue, made, storing)

    async def store(self, store: Store, queue: str, made: list[Draft]) -> list[str]:
        """Store drafts, which are counted as long as they wait; wait for room in a full queue."""
        messages, size = len(made), sum(len(one.body) for one in made)
        self._count(messages, size)
        try:
            ids: list[str] = await commit(store, Send(queue, made))
            return ids
        except QueueFull as error:
            if not error.block_ms:
                raise
            full = error
        finally:
            self._count(-messages, -size)
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
                self._count(0, 0)
            raise

    def _count(self, messages: int, size: int) -> None:
        """Count a send that has entered, or left, and let the next one in if there is room."""
        self._messages += messages
        self._bytes += size
        if messages >= 0:
            self._is_entering = False
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
