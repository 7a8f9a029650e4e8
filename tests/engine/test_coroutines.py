"""Coroutines share an event loop and, if they leave no traces in it, a task: each is on its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

import pytest

from durableq import Delivery, DurableQ, Queue
from durableq.worker.executors import ASYNC_AT_ONCE
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain

NUMBER = 60
request: ContextVar[str] = ContextVar("request", default="none")


def work(dq: DurableQ) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def suspend(turns: int = 1) -> None:
    """Let other coroutines run, for some turns of the event loop."""
    for _ in range(turns):
        reached = asyncio.Event()
        asyncio.get_running_loop().call_soon(reached.set)
        await reached.wait()


@pytest.mark.parametrize("suspends", [False, True])
def test_a_context_variable_of_one_message_is_not_seen_by_another(
    dq: DurableQ, orders: Queue, suspends: bool
) -> None:
    seen = []

    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        seen.append(request.get())
        if message.body % 3 == 0:
            request.set(message.id)
        if suspends and message.body % 2:
            await suspend()
            assert request.get() in {"none", message.id}

    orders.send_many(list(range(NUMBER)))
    work(dq)
    assert Counter(seen) == {"none": NUMBER}


@pytest.mark.parametrize("takes_back", [False, True])
def test_a_coroutine_that_cancels_its_task_and_returns_does_not_cancel_the_next(
    dq: DurableQ, orders: Queue, db: Path, takes_back: bool
) -> None:
    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        if message.body == 0:
            current_task().cancel()
            if takes_back:
                current_task().uncancel()
        else:
            await suspend()

    orders.send_many(list(range(NUMBER)))
    work(dq)
    assert orders.info().counters.completed == NUMBER
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [0]


@pytest.mark.parametrize("turns", [1, 9])
def test_a_coroutine_that_suspends_has_a_task_of_its_own_to_its_end(
    dq: DurableQ, orders: Queue, turns: int
) -> None:
    """Some suspend for less time than it takes to start the last of them."""
    tasks: list[asyncio.Task[object]] = []

    @dq.handler("orders")
    async def handle(_: Delivery) -> None:
        tasks.append(current_task())
        async with asyncio.timeout(60):
            await suspend(turns)
        assert current_task() in tasks
        tasks.append(current_task())

    orders.send_many(list(range(NUMBER)))
    work(dq)
    assert orders.info().counters.completed == NUMBER
    assert set(Counter(tasks).values()) == {2}
    assert len(set(tasks)) == NUMBER


def test_a_coroutine_that_waits_for_a_later_message_gets_it(dq: DurableQ, orders: Queue) -> None:
    """All messages of a receive are started although the first ones are suspended."""
    last = asyncio.Event()

    @dq.handler("orders", prefetch=ASYNC_AT_ONCE)
    async def handle(message: Delivery) -> None:
        if message.body == ASYNC_AT_ONCE - 1:
            last.set()
        async with asyncio.timeout(60):
            await last.wait()

    orders.send_many(list(range(ASYNC_AT_ONCE)))
    work(dq)
    assert orders.info().counters.completed == ASYNC_AT_ONCE


def test_coroutines_of_both_kinds_are_all_handled(dq: DurableQ, orders: Queue) -> None:
    running = Counter[str]()

    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        if message.body % 7 == 0:
            await suspend(message.body)
        running["now"] -= 1

    orders.send_many(list(range(1_000)))
    work(dq)
    assert orders.info().counters.completed == 1_000
    assert running["now"] == 0
    assert running["most"] <= ASYNC_AT_ONCE


def test_a_cancelled_task_that_has_not_begun_costs_no_message(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    """A coroutine cancels all tasks: those that are suspended fail, no other message is lost."""
    handled = Counter[int]()

    @dq.handler("orders", prefetch=NUMBER)
    async def handle(message: Delivery) -> None:
        handled[message.body] += 1
        await suspend()
        if message.body == 0 and message.receive_count == 1:
            for task in asyncio.all_tasks():
                task.cancel()
            await suspend()

    dq.queue("orders", max_receives=3, backoff_base=0)
    orders.send_many(list(range(NUMBER)))
    work(dq)
    assert orders.info().counters.completed == NUMBER
    assert set(handled) == set(range(NUMBER))
    plain.check_sound(db)
