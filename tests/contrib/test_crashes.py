"""crash_at: after each crash the effect of a message is applied exactly once."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest

from durableq import Conflict, Delivery, InvalidInput, StaleReceipt
from durableq.contrib.pytest import Clock, Crashed, Point, Ran, crash_at, fresh, run_pending, sent
from durableq.contrib.pytest.crashes import check_alive
from tests.contrib.shop import Shop

#: The rows that the handler's transaction has written when it crashes at each point of it.
POINTS = [("before handler", 0), ("after handler", 1), ("before commit", 0), ("after commit", 1)]


@pytest.mark.parametrize(("point", "rows"), POINTS)
@pytest.mark.parametrize("reclaim", [False, True], ids=["lease ends", "reclaimed"])
def test_the_effect_of_a_message_is_applied_once(
    shop: Shop, clock: Clock, point: Point, rows: int, reclaim: bool
) -> None:
    shop.orders.send({"order": 7}, key="order-7")
    with crash_at(point, reclaim=reclaim):
        run_pending(shop.dq)
        pytest.fail("The run went on behind its crash.")
    assert shop.ledger() == [7] * rows
    assert len(sent(shop.receipts)) == rows
    if not reclaim:
        assert shop.orders.info().counts.in_flight == 1 - rows
        clock.advance(minutes=1)
    run_pending(shop.dq)
    assert shop.ledger() == [7]
    assert len(sent(shop.receipts)) == 1
    assert shop.orders.info().counters.completed == 1
    assert shop.orders.info().counts.present == 0


def test_a_handler_without_a_transaction_is_called_again(shop: Shop, clock: Clock) -> None:
    calls: list[int] = []
    shop.dq.handler("calls")(lambda message: calls.append(message.receive_count))
    queue = shop.dq.queue("calls", visibility_timeout=30)
    queue.send(1)
    with crash_at("after handler"):
        run_pending(shop.dq)
    assert run_pending(shop.dq) == Ran()
    clock.advance(30)
    assert run_pending(shop.dq) == Ran(completed=1)
    assert calls == [1, 2]


def test_a_reclaimed_message_is_ready_at_once_and_has_a_failure(shop: Shop, clock: Clock) -> None:
    shop.orders.send({"order": 7})
    for receive in (1, 2):
        with crash_at("before commit", reclaim=True):
            run_pending(shop.dq)
        assert shop.orders.info().counts.ready == 1, receive
    with crash_at("before handler", reclaim=True):
        run_pending(shop.dq)
    assert shop.dq.queue("orders-dlq").info().counts.ready == 1, "max_receives is 3"


@pytest.mark.parametrize(("point", "there"), [("before send", 0), ("after send", 1)])
@pytest.mark.usefixtures("clock")
def test_a_send_crashes_before_or_after_its_commit(shop: Shop, point: Point, there: int) -> None:
    with crash_at(point):
        shop.orders.send({"order": 7}, key="order-7")
        pytest.fail("The send went on behind its crash.")
    assert shop.orders.info().counts.ready == there
    assert len(sent(shop.orders)) == there
    shop.orders.send({"order": 7}, key="order-7")  # as the caller's own caller would repeat it
    run_pending(shop.dq)
    assert shop.ledger() == [7]


@pytest.mark.parametrize("point", ["before handler", "after handler", "before commit"])
def test_a_batch_crashes_as_one(shop: Shop, clock: Clock, point: Point) -> None:
    def write(batch: Any) -> None:
        with batch.transaction() as tx:
            for message in batch:
                tx.execute("INSERT INTO ledger VALUES (:n)", {"n": message.body})

    shop.dq.queue("rows", visibility_timeout=60).send_many([1, 2])
    shop.dq.handler("rows", batch=5)(write)
    with crash_at(point):
        run_pending(shop.dq)
    clock.advance(60)
    run_pending(shop.dq)
    assert sorted(shop.ledger()) == [1, 2]


@pytest.mark.usefixtures("clock")
def test_nothing_that_a_handler_does_after_the_crash_reaches_the_store(shop: Shop) -> None:
    """A killed process runs no `finally`; code that runs here all the same changes nothing."""
    refused: list[str] = []

    @shop.dq.handler("stubborn")
    def go_on(message: Delivery) -> str:
        try:
            with message.transaction() as tx:
                tx.execute("INSERT INTO ledger VALUES (1)")
        except BaseException:  # noqa: BLE001 - as a stubborn user writes it
            for attempt in (
                lambda: shop.orders.send({"order": 1}),
                message.complete,
                shop.orders.receive,
                lambda: message.transaction().__enter__(),
                check_alive,
            ):
                try:
                    attempt()
                except Crashed:
                    refused.append("refused")
        return "as if nothing had happened"

    queue = shop.dq.queue("stubborn")
    queue.send(1, key="k")
    with crash_at("before commit"):
        run_pending(shop.dq)
    assert refused == ["refused"] * 5
    assert shop.ledger() == []
    assert shop.orders.info().counters.sent == 0
    assert queue.info().counts.in_flight == 1


def test_a_late_process_finds_its_receipt_stale(shop: Shop, clock: Clock) -> None:
    shop.orders.send({"order": 7})
    (late,) = shop.orders.receive()
    clock.advance(minutes=1)
    run_pending(shop.dq)
    with pytest.raises(StaleReceipt):
        shop.charge(late)
    assert shop.ledger() == [7]


@pytest.mark.usefixtures("clock")
def test_messages_before_the_crash_stay_completed(shop: Shop) -> None:
    handled: list[int] = []

    @shop.dq.handler("many", prefetch=3)
    def crash_at_the_second(message: Delivery) -> None:
        handled.append(message.body)
        if message.body == 2:
            shop.orders.send({"order": 2})

    queue = shop.dq.queue("many")
    queue.send_many([1, 2, 3])
    with crash_at("before send", reclaim=True):
        run_pending(shop.dq)
    assert handled == [1, 2]
    assert queue.info().counters.completed == 1
    run_pending(shop.dq)
    assert sorted(handled) == [1, 2, 2, 3]


def test_an_unknown_point_is_refused_with_all_names() -> None:
    with pytest.raises(InvalidInput, match="no crash point 'commit'") as refused:
        crash_at("commit")  # type: ignore[arg-type]
    named = set(re.findall('"(.*?)"', str(refused.value)))
    assert named == {*(point for point, _ in POINTS), "before send", "after send"}


@pytest.mark.usefixtures("clock")
def test_a_point_that_is_not_reached_fails_the_test(shop: Shop) -> None:
    shop.orders.send({"fail": "x"})
    with pytest.raises(AssertionError, match="without reaching the crash point 'after handler'"):
        with crash_at("after handler"):
            run_pending(shop.dq)
    with pytest.raises(ZeroDivisionError), crash_at("after send"):
        _ = 1 / 0  # an error of the test stays its own


def test_one_crash_is_planned_at_a_time(shop: Shop) -> None:
    with suppress(AssertionError), crash_at("before send"):
        with pytest.raises(Conflict, match="planned already, at 'before send'"):
            with crash_at("after send"):
                pytest.fail("two crashes")
    with fresh(shop.dq):
        shop.orders.send({"order": 1})  # none is planned any more


@pytest.mark.parametrize("point", ["before handler", "before send", "after send", "after handler"])
def test_a_coroutine_crashes(shop: Shop, clock: Clock, point: Point) -> None:
    steps: list[str] = []

    @shop.dq.handler("async")
    async def handle(message: Delivery) -> None:
        steps.append("begun")
        with suppress(Exception):
            shop.receipts.send(1, key=message.key)
        steps.append("sent")

    shop.dq.queue("async", visibility_timeout=60).send(1, key="k")
    with crash_at(point):
        run_pending(shop.dq)
    expected = {"before handler": [], "after handler": ["begun", "sent"]}
    assert steps == expected.get(point, ["begun"])
    clock.advance(minutes=1)
    run_pending(shop.dq)
    assert shop.receipts.info().counters.completed == 1
