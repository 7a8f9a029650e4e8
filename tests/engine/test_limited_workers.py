"""Workers of queues with limits: they sleep until a limit lets more through, and do not spin."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from durableq import Batch, Delivery, DurableQ, Queue
from durableq.model.errors import AppError
from durableq.store.core import Answer, Call, Receive
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.support import wait_for

#: Between two tokens.
SECONDS = 0.25


def options(dq: DurableQ, **more: object) -> WorkerOptions:
    return WorkerOptions("", dq.url, "worker", drain=True).changed(**more)


class Counter:
    """Counts the receives of a store."""

    def __init__(self, dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> None:
        self.receives = 0
        together: Callable[[Sequence[Call]], list[Answer]] = dq.store.together

        def counted(calls: Sequence[Call]) -> list[Answer]:
            self.receives += any(isinstance(call, Receive) for call in calls)
            return together(calls)

        monkeypatch.setattr(dq.store, "together", counted)


def test_a_worker_sleeps_until_the_next_token(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, times = Counter(dq, monkeypatch), []
    dq.queue("orders", rate=1 / SECONDS, burst=1)

    @dq.handler("orders")
    def charge(_message: Delivery) -> None:
        times.append(time.monotonic())

    orders.send_many(range(4))
    Worker(dq, options(dq)).run()
    assert len(times) == 4
    assert times[-1] - times[0] >= 3 * SECONDS - 0.02
    # For each message one receive that brings it, and one that says how long to wait.
    assert counter.receives <= 2 * 4 + 2


def test_workers_of_a_full_queue_sleep_until_a_message_is_settled(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, gate, running = Counter(dq, monkeypatch), threading.Event(), []
    dq.queue("orders", max_in_flight=1)

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        running.append(message.id)
        gate.wait(60)

    orders.send_many(range(2))
    workers = [threading.Thread(target=Worker(dq, options(dq)).run) for _ in range(2)]
    for worker in workers:
        worker.start()
    wait_for(lambda: running, what="one message to run")
    before = counter.receives
    threading.Event().wait(4 * SECONDS)  # in which nothing may happen
    assert counter.receives - before <= 4
    assert len(running) == 1
    gate.set()
    for worker in workers:
        worker.join()
    assert len(running) == 2


@pytest.mark.parametrize("wanted", [{"batch": 9}, {"prefetch": 9}])
def test_a_handler_that_takes_more_than_may_be_in_flight_is_refused(
    dq: DurableQ, wanted: dict[str, Any]
) -> None:
    dq.queue("orders", max_in_flight=8)

    @dq.handler("orders", **wanted)
    def charge(_messages: Delivery | Batch) -> None:
        raise AssertionError

    (option,) = wanted
    with pytest.raises(AppError, match=rf"9 messages .* \({option}\), more .* \(max_in_flight\)"):
        Worker(dq, options(dq)).run()


def test_a_batch_is_as_large_as_a_limit_lowered_later_allows(dq: DurableQ, orders: Queue) -> None:
    sizes = []

    @dq.handler("orders", batch=5)
    def charge(batch: Batch) -> None:
        sizes.append(len(batch))
        dq.queue("orders", max_in_flight=2)

    orders.send_many(range(9))
    Worker(dq, options(dq)).run()
    assert sizes == [5, 2, 2]
