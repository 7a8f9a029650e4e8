"""`once` in coroutines: operations of the store run in threads, the computation on the loop."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from durableq.client.computing import Call, Computing, decoded, lease_of, wait_for_end
from durableq.client.coroutines import in_thread
from durableq.model.errors import InvalidInput
from durableq.model.once import OnceAnswer, OnceEntry, OnceStep
from durableq.model.text import shown
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Store


async def run(begin: Callable[[], Call], compute: Callable[[], Awaitable[Any]]) -> Any:
    """Return the value: served, computed here, or computed by another caller.

    Args:
        begin: makes the call, which opens the store.
        compute: returns an awaitable.
    """
    call = await in_thread(begin)
    while True:
        answer = await in_thread(call.ask)
        if answer.step is OnceStep.SERVE:
            return decoded(answer)
        if answer.step is OnceStep.COMPUTE:
            return await _compute(call, compute, answer)
        entry = lease_of(answer)
        await _wait(call.store, entry, call.seconds_left(entry))


async def _compute(call: Call, compute: Callable[[], Awaitable[Any]], answer: OnceAnswer) -> Any:
    computing = call.computing()
    try:
        computing.begin()
        awaitable = compute()
        if not inspect.isawaitable(awaitable):
            raise InvalidInput(
                f"The computation of {shown(call.key)} returned {shown(awaitable)}, which cannot "
                "be awaited. Give once_async a coroutine function; for others there is dq.once."
            )
        value = await awaitable
    except BaseException as error:  # a cancelled coroutine gives its lease back, too
        await asyncio.shield(in_thread(computing.end))
        if not (answer.is_fresh and isinstance(error, Exception)):
            raise
        call.log_failed_refresh(error)
        return decoded(answer)
    return await asyncio.shield(in_thread(_finish, computing, value))


def _finish(computing: Computing, value: Any) -> Any:
    try:
        return computing.finish(value)
    finally:
        computing.end()


class _Wait:
    """A thread that waits for the end of one lease, for all coroutines of a loop that do."""

    def __init__(self, store: Store, entry: OnceEntry) -> None:
        self._store = store
        self._entry = entry
        self._loop = asyncio.get_running_loop()
        self._stopping = WakeupEvent()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        #: The number of coroutines that wait.
        self.waiting = 0
        threading.Thread(target=self._run, name="durableq-once-wait", daemon=True).start()

    async def wait(self, seconds: float) -> None:
        """Wait for the end of the lease; return at the end of the time, too."""
        self.waiting += 1
        try:
            limit = None if seconds == math.inf else seconds
            await asyncio.wait_for(asyncio.shield(self._ended), limit)
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._stopping.set()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            wait_for_end(self._store, self._entry, math.inf, self._stopping)
        except Exception as raised:  # noqa: BLE001 - it is raised in the coroutines
            error = raised
        try:
            self._loop.call_soon_threadsafe(self._tell, error)
        except RuntimeError:  # the loop is closed: no coroutine waits any more
            self._stopping.close()

    def _tell(self, error: BaseException | None) -> None:
        self._stopping.close()
        if self._ended.done():
            return
        if error is None or not self.waiting:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)


#: The waits of each loop, by the tokens of the leases.
_WAITS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes | None, _Wait]] = (
    WeakKeyDictionary()
)


async def _wait(store: Store, entry: OnceEntry, seconds: float) -> None:
    """Wait for the end of a lease: one thread waits for all coroutines of this loop."""
    waits = _WAITS.setdefault(asyncio.get_running_loop(), {})
    wait = waits.get(entry.token)
    if wait is None:
        wait = waits[entry.token] = _Wait(store, entry)
    try:
        await wait.wait(seconds)
    finally:
        if waits.get(entry.token) is wait and not wait.waiting:
            del waits[entry.token]
