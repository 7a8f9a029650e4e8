"""Coroutines in tests, on each engine, and a process that keeps writers waiting."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from durableq import DurableQ, Queue
from durableq.client import committing
from durableq.engines.memory.store import MemoryStore
from tests.engine import plain
from tests.support import scaled, wait_for

T = TypeVar("T")

MEMORY = "memory://"
#: The mark of tests that run on each engine, that in memory too.
ON_ALL = pytest.mark.parametrize("db", [*plain.ENGINES, "memory"], indirect=True)

HOLDER = """
import sys
from durableq.engines.sqlite.driver import driver
raw = driver.connect(sys.argv[1], isolation_level=None, timeout=20)
raw.execute("BEGIN IMMEDIATE")
print("holding", flush=True)
sys.stdin.readline()
"""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, which comes in time."""

    async def limited() -> T:
        async with asyncio.timeout(scaled(60)):
            return await main

    return asyncio.run(limited())


async def turns(number: int = 20) -> None:
    """Let other coroutines run, for some turns of the event loop."""
    for _ in range(number):
        reached = asyncio.Event()
        asyncio.get_running_loop().call_soon(reached.set)
        await reached.wait()


async def until(fact: Callable[[], Any], what: str = "a fact") -> None:
    """Wait for a fact while the event loop goes on."""
    await asyncio.to_thread(wait_for, fact, what=what)


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """Return the answer or the exception of each call."""
    return await asyncio.gather(*calls, return_exceptions=True)


@contextmanager
def writing(dq: DurableQ, db: plain.Place) -> Iterator[Callable[[], object]]:
    """Hold the write lock of a store in another process; the function that is given ends it.

    Args:
        dq: the application.
        db: its file, or the URL of its schema, or MEMORY, where a thread holds the lock.
    """
    if db == MEMORY:
        with _thread_holding(dq) as end:
            yield end
    elif isinstance(db, Path):
        command = [sys.executable, "-c", HOLDER, str(db)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) as holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == b"holding\n"
            try:
                # A line, not the end of the pipe: a forked child has the pipe, too.
                yield partial(os.write, holder.stdin.fileno(), b"\n")
            finally:
                holder.kill()
    else:
        with plain.connection(db) as raw:
            database: Any = getattr(dq.store, "_database")  # noqa: B009 - of its engine
            raw.execute("BEGIN")
            raw.execute(f"SELECT pg_advisory_xact_lock({database.key})")
            yield lambda: raw.execute("ROLLBACK")


@contextmanager
def _thread_holding(dq: DurableQ) -> Iterator[Callable[[], object]]:
    store = dq.store
    assert isinstance(store, MemoryStore)
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock:
            begun.set()
            ended.wait(scaled(120))

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    try:
        yield ended.set
    finally:
        ended.set()
        thread.join()


def is_taken(dq: DurableQ) -> bool:
    """Return whether the thread of the store has taken all operations, and runs them."""
    committer = committing._committers.get(dq.store)
    return committer is not None and committer._is_running and not committer._waiting


def stored(queue: Queue) -> list[Any]:
    """Receive all messages of a queue, and return their bodies in order."""
    messages = queue.receive(10_000)
    return [one.body for one in sorted(messages, key=lambda one: int(one.id))]
