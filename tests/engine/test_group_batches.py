"""Handlers of batches of one group: `batch=N, group_by="group"`."""

from __future__ import annotations

from typing import Any

import pytest

from durableq import Batch, Delivery, DurableQ, InvalidInput, Queue
from durableq.store.core import Capability, QueueInfo
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders", group_concurrency=1, max_receives=2, backoff_base=0)


def work(dq: DurableQ) -> None:
    """Run one worker until nothing is left."""
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def info(dq: DurableQ) -> QueueInfo:
    return dq.store.require(Capability.INSPECT).queue("orders")


def test_each_call_gets_consecutive_messages_of_one_group(dq: DurableQ, orders: Queue) -> None:
    calls: list[list[Any]] = []

    @dq.handler("orders", batch=3, group_by="group")
    def handle(batch: Batch) -> None:
        calls.append([message.body for message in batch])

    for number in range(5):
        orders.send(f"a{number}", group="a")
        orders.send(f"b{number}", group="b")
    work(dq)
    assert sorted(calls) == [["a0", "a1", "a2"], ["a3", "a4"], ["b0", "b1", "b2"], ["b3", "b4"]]


def test_those_behind_the_first_that_fails_go_back_uncounted_and_in_order(
    dq: DurableQ, orders: Queue
) -> None:
    calls: list[list[tuple[Any, int]]] = []

    @dq.handler("orders", batch=4, group_by="group")
    def handle(batch: Batch) -> dict[str, Any] | None:
        calls.append([(message.body, message.receive_count) for message in batch])
        if len(calls) == 1:
            return {"batchItemFailures": [{"itemIdentifier": batch[1].id}]}
        return None

    for number in range(4):
        orders.send(number, group="a")
    work(dq)
    assert calls == [[(0, 1), (1, 1), (2, 1), (3, 1)], [(1, 2)], [(2, 1), (3, 1)]]
    assert info(dq).counters.completed == 4


def test_a_batch_that_raises_is_tried_again_one_by_one(dq: DurableQ, orders: Queue) -> None:
    calls: list[list[Any]] = []

    @dq.handler("orders", batch=3, group_by="group")
    def handle(batch: Batch) -> None:
        calls.append([message.body for message in batch])
        if "poison" in calls[-1]:
            raise ValueError("poison")

    for body in ("good", "poison", "fine"):
        orders.send(body, group="a")
    work(dq)
    assert calls == [["good", "poison", "fine"], ["good"], ["poison"], ["fine"]]
    assert info(dq).counters.completed == 2


def test_those_behind_a_failure_go_back_after_a_transaction_too(
    dq: DurableQ, orders: Queue
) -> None:
    calls: list[list[Any]] = []

    @dq.handler("orders", batch=3, group_by="group")
    def handle(batch: Batch) -> None:
        calls.append([message.body for message in batch])
        with batch.transaction():
            if len(calls) == 1:
                batch.fail(batch[0], "not yet")

    for number in range(3):
        orders.send(number, group="a")
    work(dq)
    assert calls == [[0, 1, 2], [0], [1, 2]]


def test_a_coroutine_gets_batches_of_one_group(dq: DurableQ, orders: Queue) -> None:
    calls: list[list[Any]] = []

    @dq.handler("orders", batch=2, group_by="group")
    async def handle(batch: Batch) -> None:
        calls.append([message.body for message in batch])

    for number in range(4):
        orders.send(number, group="a")
    work(dq)
    assert calls == [[0, 1], [2, 3]]


def test_a_worker_drains_although_a_dead_letter_holds_a_group(dq: DurableQ, orders: Queue) -> None:
    dq.queue("orders", group_concurrency=1, group_on_dead="hold", max_receives=1)

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        raise ValueError(message.id)

    orders.send(1, group="a")
    orders.send(2, group="a")
    work(dq)
    assert info(dq).counts.blocked == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"group_by": "group"}, "batch too"), ({"batch": 2, "group_by": "key"}, '"group" or None')],
)
def test_a_wrong_group_by_is_refused(dq: DurableQ, options: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        dq.handler("orders", **options)
