"""run_pending and run_one: handlers run in the calling thread, as a worker runs them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from durableq import (
    AppError,
    Conflict,
    Delivery,
    DurableQ,
    InvalidBody,
    InvalidInput,
    Progress,
    Unavailable,
)
from durableq.contrib.pytest import Clock, Ran, fresh, run_one, run_pending
from tests.contrib.shop import Shop
from tests.support import wait_for


@pytest.mark.usefixtures("clock")
def test_all_that_is_due_is_handled_and_messages_of_handlers_too(shop: Shop) -> None:
    shop.orders.send_many([{"order": 1}, {"order": 2}])
    assert run_pending(shop.dq) == Ran(completed=4)
    assert shop.ledger() == [1, 2]
    assert shop.handled == [{"order": 1}, [{"order": 1}], {"order": 2}, [{"order": 2}]]
    assert run_pending(shop.dq) == Ran()


def test_slots_that_a_full_queue_refuses_are_sent_by_the_next_run(shop: Shop, clock: Clock) -> None:
    shop.dq.queue("orders", max_backlog=1)
    shop.dq.every("@hourly", "tidy", queue="orders", body={"order": 9})
    shop.orders.send({"order": 1})
    clock.advance(hours=1)
    assert run_pending(shop.dq).completed == 2
    assert shop.ledger() == [1]
    assert run_pending(shop.dq).completed == 2
    assert sorted(shop.ledger()) == [1, 9]


@pytest.mark.usefixtures("clock")
def test_one_message_is_handled(shop: Shop) -> None:
    shop.orders.send_many([{"order": 1}, {"order": 2}])
    assert run_one(shop.dq) == Ran(completed=1)
    assert shop.orders.info().counts.ready == 1
    assert shop.orders.receive()[0].receive_count == 1


def test_a_failure_is_recorded_and_retried_after_its_backoff(shop: Shop, clock: Clock) -> None:
    shop.orders.send({"fail": "no such card"})
    ran = run_pending(shop.dq)
    assert ran == Ran(failed=1)
    assert [repr(error) for error in ran.errors] == ["ValueError('no such card')"]
    assert run_pending(shop.dq) == Ran()
    clock.advance(10)
    assert run_pending(shop.dq) == Ran(failed=1)
    clock.advance(seconds=20)
    assert run_pending(shop.dq) == Ran(dead=1)
    assert shop.dq.queue("orders-dlq").info().counts.ready == 1


@pytest.mark.usefixtures("clock")
def test_a_rejected_message_is_dead_at_once(shop: Shop) -> None:
    shop.orders.send({"reject": "no order"})
    shop.orders.send({"order": 1})
    assert run_pending(shop.dq) == Ran(completed=2, dead=1)


def test_the_error_of_a_handler_is_raised_after_it_was_recorded(shop: Shop, clock: Clock) -> None:
    shop.orders.send({"fail": "no such card"})
    shop.orders.send({"order": 2})
    with pytest.raises(ValueError, match="no such card") as caught:
        run_pending(shop.dq, raises=True)
    assert caught.traceback[-1].name == "charge"
    assert shop.orders.info().counts.delayed == 1
    assert run_pending(shop.dq) == Ran(completed=2)
    clock.advance(10)
    with pytest.raises(ValueError, match="no such card"):
        run_one(shop.dq, raises=True)


@pytest.mark.usefixtures("clock")
def test_a_duplicate_is_skipped(shop: Shop) -> None:
    shop.orders.send({"order": 1}, key="order-1")
    run_pending(shop.dq)
    shop.orders.send({"order": 1}, key="order-1")
    assert run_pending(shop.dq) == Ran(duplicates=1)


@pytest.mark.usefixtures("clock")
def test_another_payload_under_a_key_is_dead_and_not_a_failure(shop: Shop) -> None:
    shop.orders.send({"order": 1}, key="order-1")
    run_pending(shop.dq)
    shop.orders.send({"order": 2}, key="order-1")
    assert run_pending(shop.dq) == Ran(dead=1)


def test_times_to_live_delays_and_expiry_follow_the_clock(shop: Shop, clock: Clock) -> None:
    shop.receipts.send(1, key="k")
    assert run_pending(shop.dq) == Ran(completed=1)
    clock.advance(hours=1, seconds=1)
    shop.receipts.send(1, key="k")  # the record is forgotten by now
    assert run_pending(shop.dq) == Ran(completed=1)
    shop.receipts.send(2, delay=300)
    shop.receipts.send(3, expires_in=30)
    shop.dq.queue("receipts", paused=True)
    clock.advance(minutes=5)
    shop.dq.queue("receipts", paused=False)
    assert run_pending(shop.dq) == Ran(completed=1)
    assert shop.handled == [[1], [1], [2]]


@pytest.mark.usefixtures("clock")
def test_handlers_that_send_without_end_are_stopped(shop: Shop) -> None:
    shop.dq.handler("echo")(lambda message: shop.dq.queue("echo").send(message.body))
    shop.dq.queue("echo").send(1)
    with pytest.raises(AssertionError, match="has handled 50 messages, and more are ready"):
        run_pending(shop.dq, limit=50)
    shop.dq.queue("echo").purge()
    shop.dq.queue("receipts").send_many(range(3))
    assert run_pending(shop.dq, limit=3) == Ran(completed=3)


@pytest.mark.usefixtures("clock")
def test_handlers_run_in_the_calling_thread(shop: Shop) -> None:
    seen: list[Any] = []

    @shop.dq.handler("sync")
    def note(_: Delivery) -> None:
        seen.append(threading.current_thread())

    @shop.dq.handler("async")
    async def note_later(message: Delivery) -> str:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001) if message.body else None
        seen.append(threading.current_thread())
        return "done"

    shop.dq.queue("sync").send(1)
    shop.dq.queue("async").send(0, key="k")
    assert run_pending(shop.dq) == Ran(completed=2)
    assert seen == [threading.current_thread()] * 2
    record = shop.dq.queue("async").record("k")
    assert record is not None
    assert record.result == '"done"'
    shop.dq.queue("async").send(1)
    with pytest.raises(TimeoutError):
        run_pending(shop.dq, raises=True)


@pytest.mark.usefixtures("clock")
def test_coroutines_inside_a_running_loop_are_refused_with_the_way_out(shop: Shop) -> None:
    @shop.dq.handler("async")
    async def note(message: Delivery) -> None:
        shop.handled.append(message.body)

    async def test() -> Ran:
        with pytest.raises(Conflict, match=r"asyncio\.to_thread\(run_pending, dq\)"):
            run_pending(shop.dq)
        return await asyncio.to_thread(run_pending, shop.dq)

    shop.dq.queue("async").send("here")
    assert asyncio.run(test()) == Ran(completed=1)
    assert shop.handled == ["here"]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.fail.Exception, pytest.skip.Exception])
@pytest.mark.parametrize("batch", [None, 2])
def test_ctrl_c_and_pytests_own_exceptions_pass_and_count_for_nothing(
    shop: Shop, error: type[BaseException], batch: int | None
) -> None:
    def stop(_: Any) -> None:
        raise error("not the handler's")

    shop.dq.handler("stopped", batch=batch)(stop)
    stopped = shop.dq.queue("stopped")
    stopped.send(1)
    with pytest.raises(error, match="not the handler's"):
        run_pending(shop.dq)
    (message,) = stopped.receive()
    assert message.receive_count == 1


@pytest.mark.usefixtures("clock")
def test_a_batch_fails_in_part_and_its_error_is_raised(shop: Shop) -> None:
    @shop.dq.handler("parts", batch=5)
    def parts(batch: Any) -> None:
        batch.fail(batch[1], "this one")
        if len(batch) == 2:
            raise ValueError("both")

    queue = shop.dq.queue("parts")
    queue.send_many(range(3))
    assert run_pending(shop.dq) == Ran(completed=2, failed=1)
    queue.purge()
    queue.send_many(range(2))
    with pytest.raises(ValueError, match="both"):
        run_pending(shop.dq, raises=True)
    assert queue.info().counts.delayed == 2


@dataclass
class Parcel:
    """The body of a message."""

    weight: int


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("batch", [None, 5])
def test_a_body_that_does_not_fit_is_dead_and_its_error_is_raised(
    shop: Shop, batch: int | None
) -> None:
    if batch is None:

        @shop.dq.handler("parcels")
        def weigh(parcel: Parcel) -> None:
            shop.handled.append(parcel.weight)

    else:

        @shop.dq.handler("parcels", batch=batch)
        def weigh_all(parcels: list[Parcel]) -> None:
            shop.handled.extend(parcel.weight for parcel in parcels)

    parcels = shop.dq.queue("parcels")
    parcels.send_many([{"weight": 1}, {"weight": "heavy"}, {"weight": 2}])
    ran = run_pending(shop.dq)
    assert ran == Ran(completed=2, dead=1)
    assert [type(error) for error in ran.errors] == [InvalidBody]
    parcels.send_many([{"weight": 3}, {"weight": None}])
    with pytest.raises(InvalidBody, match="weight"):
        run_pending(shop.dq, raises=True)
    assert shop.handled == [1, 2, 3]
    assert parcels.info().counts.present == 0


def test_a_breaker_opens_and_probes_by_the_clock(shop: Shop, clock: Clock) -> None:
    def call(message: Delivery) -> None:
        if message.receive_count == 1 and not shop.handled:
            shop.handled.append("down")
            raise Unavailable("503", retry_after=30)

    shop.dq.queue("calls", breaker=True).send(1)
    shop.dq.handler("calls")(call)
    assert run_pending(shop.dq) == Ran(failed=1)
    assert run_pending(shop.dq) == Ran()
    clock.advance(minutes=1)
    assert run_pending(shop.dq) == Ran(completed=1)


@pytest.mark.usefixtures("clock")
def test_a_run_leaves_no_worker_and_no_lease(shop: Shop) -> None:
    from durableq.store.core import Capability

    shop.orders.send_many([{"order": 1}, {"fail": "x"}])
    run_pending(shop.dq)
    assert shop.dq.store.require(Capability.FLEET).workers() == []
    assert shop.orders.info().counts.in_flight == 0


def test_only_an_application_with_a_fresh_store_is_run(shop: Shop) -> None:
    for run in (run_pending, run_one):
        with pytest.raises(InvalidInput, match=r"uses /nowhere/of-the-user\.db, not a store of"):
            run(shop.dq)
        with pytest.raises(InvalidInput, match="Give the application"):
            run("shop:dq")  # type: ignore[arg-type]
    empty = DurableQ()
    with fresh(empty), pytest.raises(AppError, match="holds no handler"):
        run_pending(empty)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "many"])
def test_a_limit_is_a_number_of_messages(shop: Shop, limit: Any) -> None:
    with fresh(shop.dq), pytest.raises(InvalidInput, match="limit is a number of messages"):
        run_pending(shop.dq, limit=limit)


def test_a_handler_reports_its_progress(durableq_app: Any) -> None:
    dq = DurableQ("memory://")
    orders = dq.queue("orders")
    seen: list[Progress | None] = []

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        message.progress(0.4, "half")
        wait_for(lambda: orders.progress(message.id) is not None)
        seen.append(orders.progress(message.id))

    durableq_app(dq)
    orders.send(1)
    assert run_one(dq) == Ran(completed=1)
    (found,) = seen
    assert found is not None
    assert (found.fraction, found.text) == (0.4, "half")
