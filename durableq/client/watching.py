"""Waits of coroutines for writes: one thread watches a store for all of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing
from typing import Final
from weakref import WeakKeyDictionary

from durableq.client.committing import note
from durableq.runtime.wakeup import WRITES_SECONDS, WakeupEvent
from durableq.store.core import Store

#: Longest wait of the thread for a write.
LONGEST_SECONDS: Final = 3600.0

_Waiter = asyncio.Future[None]


class _Watcher:
    """A thread that watches a store, as long as there are coroutines that wait.

    Args:
        store: the engine.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changing = threading.RLock()
        self._stopping = WakeupEvent()
        self._waiters: set[_Waiter] = set()
        self._error: Exception | None = None
        self._ended: Future[None] = Future()
        #: The coroutines that use it.
        self.users = 0
        #: The writes that were seen; the first is the beginning of the watch.
        self.count = 0
        threading.Thread(target=self._run, name="durableq-watch", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        note(self._store, self._ended)
        self._stopping.set()

    async def wait(self, seen: int, seconds: float | None) -> int:
        """Wait until there was another write than those that were seen; return their number.

        Args:
            seen: the number that the caller has seen.
            seconds: the longest wait; None: without an end.
        """
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        with self._changing:
            if self._error is not None:
                raise self._error
            if self.count != seen:
                return self.count
            self._waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=seconds)
        finally:
            with self._changing:
                self._waiters.discard(waiter)
        if self._error is not None:
            raise self._error
        return self.count

    def _run(self) -> None:
        try:
            with closing(self._store.watch()) as watch:
                self._ring()
                while not self._stopping.is_set:
                    if watch.wait(LONGEST_SECONDS, self._stopping):
                        self._ring()
                        self._stopping.wait(WRITES_SECONDS)
        except Exception as error:  # noqa: BLE001 - it is raised in the coroutines
            self._error = error
            self._ring()
        finally:
            self._stopping.close()
            self._ended.set_result(None)

    def _ring(self) -> None:
        """Let all coroutines that wait go on."""
        with self._changing:
            self.count += 1
            waiters, self._waiters = self._waiters, set()
        by_loop: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        for waiter in waiters:
            by_loop.setdefault(waiter.get_loop(), []).append(waiter)
        for loop, some in by_loop.items():
            try:
                loop.call_soon_threadsafe(_wake, some)
            except RuntimeError:
                continue  # the loop is closed: no coroutine waits any more


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Writes:
    """The writes to a store, as a coroutine sees them.

    Args:
        watcher: of the store.
    """

    def __init__(self, watcher: _Watcher) -> None:
        self._watcher = watcher
        self._seen = 0

    async def wait(self, seconds: float | None = None) -> None:
        """Wait for a write after the last wait, or for the end of the time; it may be neither.

        The first wait ends when the watch has begun: a look after it misses nothing.
        """
        self._seen = await self._watcher.wait(self._seen, seconds)


_watchers: WeakKeyDictionary[Store, _Watcher] = WeakKeyDictionary()
_choosing = threading.RLock()


@asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Writes]:
    """Watch a store for the waits of one coroutine, in a block."""
    with _choosing:
        watcher = _watchers.get(store)
        if watcher is None:
            watcher = _watchers[store] = _Watcher(store)
        watcher.users += 1
    writes = Writes(watcher)
    try:
        await writes.wait()
        yield writes
    finally:
        with _choosing:
            watcher.users -= 1
            if not watcher.users:
                watcher.stop()
                if _watchers.get(store) is watcher:
                    del _watchers[store]


def _after_fork() -> None:
    """Forget the parent's threads: they are not in this process."""
    global _choosing  # noqa: PLW0603 - a thread of the parent may have had it
    _choosing = threading.RLock()
    _watchers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
