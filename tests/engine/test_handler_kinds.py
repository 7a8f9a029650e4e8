"""Every kind of handler, function or coroutine, single or batch, keeps the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durableq import (
    Batch,
    Delivery,
    DurableQ,
    ForeignDatabase,
    InvalidBody,
    Queue,
    Reject,
    RetryLater,
    StaleReceipt,
    Unavailable,
)
from durableq.model.limits import HOUR_MS
from durableq.runtime.clock import SystemClock
from durableq.store.core import Capability
from durableq.testing import FakeClock
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain

KINDS = pytest.mark.parametrize("kind", ["function", "coroutine", "batch", "coroutine batch"])
Body = Callable[[Delivery], Any]


def work(dq: DurableQ, **options: Any) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True, **options)).run()


def register(dq: DurableQ, kind: str, handle: Body) -> None:
    """Register a handler of that kind that calls a function with each message."""

    def function(message: Delivery) -> Any:
        return handle(message)

    async def coroutine(message: Delivery) -> Any:
        await asyncio.to_thread(lambda: None)
        return handle(message)

    def batch(deliveries: Batch) -> None:
        for message in deliveries:
            deliveries.set_result(message, handle(message))

    async def coroutine_batch(deliveries: Batch) -> None:
        await asyncio.to_thread(lambda: None)
        batch(deliveries)

    functions = {"function": function, "coroutine": coroutine}
    batches = {"batch": batch, "coroutine batch": coroutine_batch}
    if kind in functions:
        dq.handler("orders")(functions[kind])
    else:
        dq.handler("orders", batch=10)(batches[kind])


def failures(db: Path) -> list[Any]:
    told = "SELECT reason, error_type FROM durableq_history WHERE event = 'failed' ORDER BY id"
    return plain.rows(db, told)


@KINDS
def test_a_returned_value_is_kept_for_duplicates(dq: DurableQ, orders: Queue, kind: str) -> None:
    register(dq, kind, lambda message: {"paid": message.body})
    for number in range(25):
        orders.send(number, key=f"k{number}")
    work(dq)
    record = orders.record("k7")
    assert record is not None
    assert (orders.info().counters.completed, record.result) == (25, '{"paid":7}')


@KINDS
@pytest.mark.parametrize(
    ("error", "reason", "receives"),
    [
        (KeyError("gone"), "handler_error", 2),
        (RetryLater(0), "handler_error", 2),
        (Unavailable(retry_after=0), "unavailable", 2),
        (Reject("never"), "rejected", 1),
        (SystemExit(1), "handler_error", 2),
        (asyncio.CancelledError(), "handler_error", 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_exception_fails_the_message(
    dq: DurableQ,
    orders: Queue,
    db: Path,
    kind: str,
    error: BaseException,
    reason: str,
    receives: int,
) -> None:
    def handle(_: Delivery) -> None:
        raise error

    dq.queue("orders", max_receives=2)
    register(dq, kind, handle)
    orders.send({})
    work(dq)
    assert failures(db) == [(reason, type(error).__name__)] * receives
    assert dq.queue("orders-dlq").info().counts.ready == 1
    plain.check_sound(db)


@KINDS
def test_a_body_that_cannot_be_read_is_buried_alone_and_as_it_is(
    dq: DurableQ, orders: Queue, db: Path, kind: str
) -> None:
    handled = []
    register(dq, kind, lambda message: handled.append(message.body))
    for number in range(5):
        orders.send(number, key=f"k{number}")
    plain.script(db, "UPDATE durableq_message SET body = CAST(x'7bff' AS TEXT) WHERE id = 3")
    work(dq)
    assert sorted(handled) == [0, 1, 3, 4]
    assert failures(db) == [("undecodable", InvalidBody.__name__)]
    assert plain.column(db, "SELECT hex(CAST(body AS BLOB)) FROM durableq_message") == ["7BFF"]
    assert orders.info().counters.completed == 4
    plain.check_sound(db)


@KINDS
@pytest.mark.parametrize("stored", [7, 1.5])
def test_a_body_of_a_type_that_no_sender_stores_is_buried(
    dq: DurableQ, orders: Queue, db: Path, kind: str, stored: float
) -> None:
    handled = []
    register(dq, kind, lambda message: handled.append(message.body))
    for number in range(2):
        orders.send(number, key=f"k{number}")
    plain.script(db, f"UPDATE durableq_message SET body = {stored} WHERE id = 1")
    work(dq)
    assert (handled, failures(db)) == ([1], [("undecodable", InvalidBody.__name__)])
    assert plain.column(db, "SELECT body FROM durableq_message") == [stored]
    plain.check_sound(db)


@KINDS
@pytest.mark.parametrize("then", ["return", "raise", "settle"])
def test_a_message_that_another_process_completed_is_not_settled_again(
    dq: DurableQ,
    orders: Queue,
    db: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    then: str,
) -> None:
    boot_id = plain.one(db, "SELECT value FROM durableq_meta WHERE name LIKE 'boot:%'")
    clock = FakeClock(
        lease_ms=SystemClock().lease_ms() + HOUR_MS
    )  # a process whose clock has passed every lease
    clock.boot_id = lambda: boot_id  # type: ignore[method-assign]

    def handle(message: Delivery) -> None:
        if message.body == "first":
            with DurableQ(db, clock=clock) as other:
                (taken,) = other.queue("orders").receive()
                taken.complete()
            if then == "raise":
                raise RuntimeError("after the lease was lost")
            if then == "settle":
                message.complete()

    register(dq, kind, handle)
    for body in ("first", "second"):
        orders.send(body)
        work(dq)
    assert orders.info().counters.completed == 2
    assert plain.column(db, "SELECT event FROM durableq_history") == ["lease_expired"]
    assert "lease was lost" in caplog.text or "is stale" in caplog.text
    plain.check_sound(db)


def test_a_plain_function_that_makes_a_coroutine_fails_its_message(
    dq: DurableQ, orders: Queue, db: Path, recwarn: pytest.WarningsRecorder
) -> None:
    async def charge() -> None:
        raise AssertionError("never awaited")

    dq.queue("orders", max_receives=1)
    made = charge()
    register(dq, "function", lambda _: made)
    orders.send({})
    work(dq)
    made.close()
    assert failures(db) == [("handler_error", "InvalidResult")]


BATCHES = pytest.mark.parametrize("kind", ["batch", "coroutine batch"])


def register_answer(dq: DurableQ, kind: str, answer: Callable[[Batch], Any]) -> None:
    """Register a batch handler with this return value."""

    def batch(deliveries: Batch) -> Any:
        return answer(deliveries)

    async def coroutine_batch(deliveries: Batch) -> Any:
        await asyncio.to_thread(lambda: None)
        return answer(deliveries)

    dq.handler("orders", batch=10)(batch if kind == "batch" else coroutine_batch)


def ended(dq: DurableQ) -> tuple[list[str], int]:
    """Return the bodies of the dead letters, and the number of completed messages."""
    dead = dq.store.require(Capability.INSPECT).peek("orders-dlq", 100)
    return sorted(str(dead_letter.body) for dead_letter in dead), dq.queue(
        "orders"
    ).info().counters.completed


@BATCHES
def test_the_messages_that_a_batchs_answer_names_fail_and_the_others_complete(
    dq: DurableQ, orders: Queue, db: Path, kind: str
) -> None:
    def answer(batch: Batch) -> Any:
        odd = [message for message in batch if message.body % 2]
        batch.fail(odd[0], Reject("told already"))
        return {"batchItemFailures": [{"itemIdentifier": message.id} for message in odd]}

    dq.queue("orders", max_receives=1)
    orders.send_many([1, 2, 3, 4])
    register_answer(dq, kind, answer)
    work(dq)
    assert ended(dq) == (["1", "3"], 2)
    assert failures(db) == [("rejected", "Reject"), ("handler_error", "")]
    plain.check_sound(db)


@BATCHES
@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": "no such id"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailure": []},
        ["1"],
        {1, 2},
    ],
    ids=str,
)
def test_any_other_answer_of_a_batch_fails_all_of_it(
    dq: DurableQ, orders: Queue, db: Path, kind: str, answer: Any
) -> None:
    dq.queue("orders", max_receives=1)
    orders.send_many([1, 2, 3])
    register_answer(dq, kind, lambda _: answer)
    work(dq)
    assert ended(dq) == (["1", "2", "3"], 0)
    assert failures(db) == [("handler_error", "InvalidResult")] * 3


@BATCHES
def test_an_answer_after_the_batchs_transaction_changes_nothing_and_is_logged(
    dq: DurableQ, orders: Queue, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(batch: Batch) -> Any:
        with batch.transaction():
            pass
        return {"batchItemFailures": [{"itemIdentifier": batch[0].id}]}

    orders.send_many([1, 2])
    register_answer(dq, kind, answer)
    work(dq)
    assert ended(dq) == ([], 2)
    assert "so it stays settled" in caplog.text


def test_a_result_that_differs_from_the_transactions_own_is_logged(
    dq: DurableQ, orders: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(message: Delivery) -> Any:
        with message.transaction() as tx:
            tx.result = message.body
        return "other" if message.body == "differs" else message.body

    register(dq, "function", handle)
    orders.send("the same", key="a")
    different = orders.send("differs", key="b")
    work(dq)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"message {different} of orders: the returned value was not kept, "
                    "for tx.result was"]  # fmt: skip


@KINDS
def test_another_messages_stale_receipt_fails_this_one(
    dq: DurableQ, orders: Queue, db: Path, kind: str
) -> None:
    def handle(_: Delivery) -> None:
        raise StaleReceipt("another", "its lease was taken over")

    dq.queue("orders", max_receives=1)
    register(dq, kind, handle)
    orders.send({})
    work(dq)
    assert failures(db) == [("handler_error", "StaleReceipt")]


@KINDS
def test_a_handlers_own_unusable_database_fails_the_message_and_not_the_worker(
    dq: DurableQ, orders: Queue, db: Path, kind: str
) -> None:
    def handle(_: Delivery) -> None:
        raise ForeignDatabase("another file")

    dq.queue("orders", max_receives=1)
    register(dq, kind, handle)
    orders.send({})
    work(dq)
    assert failures(db) == [("handler_error", "ForeignDatabase")]
