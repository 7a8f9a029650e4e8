"""Every kind of handler, function or coroutine, single or batch, keeps the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durableq import Batch, Delivery, DurableQ, InvalidBody, Queue, Reject, RetryLater
from durableq.testing import FakeClock
from durableq.worker.options import WorkerOptions
from durableq.worker.process import Worker
from tests.engine import plain

KINDS = pytest.mark.parametrize("kind", ["function", "coroutine", "batch", "coroutine batch"])
Body = Callable[[Delivery], Any]


def work(dq: DurableQ, **options: Any) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True, **options)).run()


def register(dq: DurableQ, kind: str, handle: Body) -> None:
    """Register a handler of that kind that does this to each message."""

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
def test_what_is_returned_is_kept_for_duplicates(dq: DurableQ, orders: Queue, kind: str) -> None:
    register(dq, kind, lambda message: {"paid": message.body})
    for number in range(25):
        orders.send(number, key=f"k{number}")
    work(dq)
    record = orders.record("k7")
    assert record is not None
    assert (orders.info().totals.completed, record.result) == (25, '{"paid":7}')


@KINDS
@pytest.mark.parametrize(
    ("error", "reason", "receives"),
    [
        (KeyError("gone"), "handler_error", 2),
        (RetryLater(0), "handler_error", 2),
        (Reject("never"), "rejected", 1),
        (SystemExit(1), "handler_error", 2),
        (asyncio.CancelledError(), "handler_error", 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_is_raised_fails_the_message(
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
    assert orders.info().totals.completed == 4
    plain.check_sound(db)


@KINDS
@pytest.mark.parametrize("stored", [7, 1.5])
def test_a_body_of_a_type_that_no_sender_stores_is_buried_and_stops_nobody(
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
    boot_id = plain.one(db, "SELECT value FROM durableq_meta WHERE name = 'boot_id'")
    clock = FakeClock(lease_ms=1 << 40)  # a process for which every lease has ended
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
    assert orders.info().totals.completed == 2
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
