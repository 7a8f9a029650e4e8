"""Workers that gather messages in a window before they lease a batch."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from durableq import Batch, DurableQ, InvalidInput, Queue
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.support import scaled

KINDS = pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])


def work(
    dq: DurableQ, orders: Queue, total: int, every: float, *, is_async: bool, **batch: Any
) -> list[list[int]]:
    """Send messages, one after another, until a worker has handled all; return its batches."""
    batches: list[list[int]] = []

    def function(messages: Batch) -> None:
        batches.append([message.body for message in messages])
        if sum(map(len, batches)) == total:
            worker.stopping.set()

    async def coroutine(messages: Batch) -> None:
        await asyncio.to_thread(lambda: None)
        function(messages)

    pace = threading.Event()  # never set

    def send() -> None:
        for number in range(total):
            orders.send(number)
            pace.wait(every)

    dq.handler("orders", **batch)(coroutine if is_async else function)
    worker = Worker(dq, WorkerOptions("", dq.url, "worker"))
    sender = threading.Thread(target=send)
    sender.start()
    worker.run()
    sender.join()
    assert sorted(itertools.chain(*batches)) == list(range(total))
    return batches


@KINDS
def test_batches_are_full_at_twice_the_rate_that_fills_them(
    dq: DurableQ, orders: Queue, is_async: bool
) -> None:
    """20 messages in a window fill a batch, and twice as many come."""
    window = scaled(1)
    dq.queue("orders", visibility_timeout=max(30, 4 * window))
    every = window / 40
    batches = work(dq, orders, 100, every, is_async=is_async, batch=20, window=window)
    assert sum(map(len, batches)) / (20 * len(batches)) >= 0.95, [*map(len, batches)]


@KINDS
def test_messages_that_trickle_in_do_not_hold_up_the_first(
    dq: DurableQ, orders: Queue, is_async: bool
) -> None:
    """Each message is a write, and each write is looked at; the window ends all the same."""
    window = scaled(0.3)
    dq.queue("orders", visibility_timeout=max(30, 4 * window))
    batches = work(dq, orders, 12, window / 3, is_async=is_async, batch=100, window=window)
    assert len(batches) >= 2, "the first waited for the last"


def test_a_window_is_over_before_a_queue_counts_as_drained(dq: DurableQ, orders: Queue) -> None:
    found: list[int] = []

    @dq.handler("orders", batch=10, window=0.1)
    def handle(messages: Batch) -> None:
        found.extend(message.body for message in messages)

    orders.send_many([1, 2])
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()
    assert found == [1, 2]


def test_other_queues_are_not_held_up_by_a_window(dq: DurableQ, orders: Queue) -> None:
    found: list[Any] = []

    @dq.handler("orders", batch=10, window=5)
    def gathered(messages: Batch) -> None:
        found.append([message.body for message in messages])

    @dq.handler("mail")
    def handle(message: Any) -> None:
        found.append(message.body)
        if len(found) == 3:
            orders.send_many(range(8))
        if len(found) == 4:
            worker.stopping.set()

    dq.queue("mail").send_many(["a", "b", "c"])
    orders.send_many([8, 9])
    worker = Worker(dq, WorkerOptions("", dq.url, "worker", max_messages=13))
    worker.run()
    assert found == ["a", "b", "c", [8, 9, *range(8)]]


def test_a_worker_with_a_window_beyond_its_lease_does_not_start(
    dq: DurableQ, orders: Queue
) -> None:
    @dq.handler("orders", batch=10, window=11)
    def handle(messages: Batch) -> None: ...

    with pytest.raises(InvalidInput, match=r"window of 11 s .*visibility_timeout.* \(30 s\)"):
        Worker(dq, WorkerOptions("", dq.url, "worker")).run()
