"""A worker's run over a file in this process: the file agrees with its handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from durableq import (
    Batch,
    Busy,
    Delivery,
    Discard,
    DurableQ,
    Queue,
    Reject,
    Requeue,
    RetryLater,
    Unavailable,
)
from durableq.model.limits import HOUR_MS
from durableq.model.message import Reason
from durableq.runtime.clock import SystemClock
from durableq.store.core import Answer, Call, Capability
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.testing import FakeClock
from durableq.worker import fetcher
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.support import scaled, wait_for

EFFECT = "CREATE TABLE effect (key)"


def work(dq: DurableQ) -> None:
    """Run one worker until nothing is left."""
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


@pytest.fixture
def orders(dq: DurableQ, db: Path) -> Queue:
    plain.script(db, EFFECT)
    return dq.queue("orders", max_receives=2, backoff_base=0)


def story(dq: DurableQ, message_id: str) -> list[tuple[str, str, str]]:
    events = dq.store.require(Capability.DEAD_LETTERS).history(message_id)
    return [(event.event.value, event.reason, event.error_type) for event in events]


def test_a_worker_is_ready_only_after_its_first_receive(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoreboard = Scoreboard()
    stages = []
    together = dq.store.together

    def first_busy(calls: Sequence[Call]) -> list[Answer]:
        stages.append(scoreboard.stage)
        if len(stages) == 1:
            raise Busy("another process is writing")
        return together(calls)

    @dq.handler("orders")
    def charge(_message: Delivery) -> None:
        stages.append(scoreboard.stage)

    monkeypatch.setattr(dq.store, "together", first_busy)
    monkeypatch.setattr(fetcher, "PAUSE_SECONDS", 0.01)
    orders.send("x")
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True), scoreboard).run()
    assert stages[:3] == [Stage.OPENING, Stage.OPENING, Stage.READY]
    assert scoreboard.stage is Stage.DRAINED


FAILED, BURIED = ("failed", "handler_error"), ("buried", "handler_error")


def test_a_returned_value_is_kept_and_given_to_duplicates(
    dq: DurableQ, orders: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    handled = []

    @dq.handler("orders")
    def charge(message: Delivery) -> Any:
        handled.append(message.id)
        return {"paid": message.body}

    sent = [orders.send(120, key="k"), orders.send(120, key="k"), orders.send(7)]
    with caplog.at_level(logging.DEBUG):
        work(dq)
    assert handled == [sent[0], sent[2]]
    record = orders.record("k")
    assert record is not None
    assert (record.result, record.message_id) == ('{"paid":120}', sent[0])
    assert f"message {sent[1]} of orders: duplicate of key k, skipped" in caplog.text
    assert dq.store.require(Capability.FLEET).workers() == []


@pytest.mark.parametrize("where", ["tx.result", "returned", "both"])
def test_a_transactions_result_is_kept_too(
    dq: DurableQ, orders: Queue, db: Path, where: str
) -> None:
    @dq.handler("orders")
    def charge(message: Delivery) -> Any:
        with message.transaction() as tx:
            tx.execute("INSERT INTO effect VALUES (:key)", {"key": message.key})
            if where != "returned":
                tx.result = "first"
        return "first" if where == "returned" else "later" if where == "both" else None

    orders.send({}, key="k")
    work(dq)
    orders.send({}, key="k")
    (duplicate,) = dq.store.receive("orders", 1).duplicates
    assert duplicate.result == '"first"'
    assert plain.column(db, "SELECT key FROM effect") == ["k"]


@pytest.mark.parametrize(
    ("result", "in_transaction"), [({1, 2}, False), (float("nan"), False), ({1, 2}, True)]
)
def test_a_result_that_json_cannot_hold_fails_the_message(
    dq: DurableQ, orders: Queue, db: Path, result: Any, in_transaction: bool
) -> None:
    @dq.handler("orders")
    def charge(message: Delivery) -> Any:
        if in_transaction:
            with message.transaction() as tx:
                tx.execute("INSERT INTO effect VALUES (1)")
        return result

    sent = orders.send({}, key="k")
    work(dq)
    if in_transaction:  # it had succeeded by then and stays completed
        assert (story(dq, sent), orders.info().counters.completed) == ([], 1)
        assert plain.one(db, "SELECT count(*) FROM effect") == 1
    else:
        failed = (*FAILED, "InvalidResult")
        assert story(dq, sent) == [failed, failed, (*BURIED, "InvalidResult")]
        assert dq.store.require(Capability.DEAD_LETTERS).dead_letter(sent) is not None
    plain.check_sound(db)


FAILURES: dict[str, tuple[BaseException, list[tuple[str, str, str]]]] = {
    "an exception": (KeyError("gone"), [(*FAILED, "KeyError")] * 2 + [(*BURIED, "KeyError")]),
    "retry later": (RetryLater(0), [(*FAILED, "RetryLater")] * 2 + [(*BURIED, "RetryLater")]),
    "unavailable": (
        Unavailable(retry_after=0),
        [("failed", "unavailable", "Unavailable")] * 2 + [("buried", "unavailable", "Unavailable")],
    ),
    "reject": (
        Reject("never"),
        [("failed", "rejected", "Reject"), ("buried", "rejected", "Reject")],
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_exception_is_recorded_and_the_other_messages_are_handled(
    dq: DurableQ, orders: Queue, name: str
) -> None:
    error, expected = FAILURES[name]

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        if message.body == "bad":
            raise error

    bad, good = orders.send("bad"), orders.send("good")
    work(dq)
    assert story(dq, bad) == expected
    assert story(dq, good) == []
    assert orders.info().counters.completed == 1


def test_sending_around_the_transaction_fails_the_message_and_sends_nothing(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    receipts = dq.queue("receipts")

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        with message.transaction() as tx:
            tx.execute("INSERT INTO effect VALUES (1)")
            receipts.send("around it")

    sent = orders.send({})
    work(dq)
    assert story(dq, sent)[0] == (*FAILED, "Conflict")
    assert receipts.info().counters.sent == 0
    assert plain.column(db, "SELECT key FROM effect") == []


def test_a_batch_handler_completes_some_and_fails_others_in_one_transaction(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    sizes = []

    @dq.handler("orders", batch=10)
    def post(batch: Batch) -> None:
        sizes.append(len(batch))
        with batch.transaction() as tx:
            for message in batch:
                if message.body % 2:
                    batch.fail(message, Reject("odd"))
                else:
                    tx.execute("INSERT INTO effect VALUES (:key)", {"key": message.key})
                    batch.set_result(message, message.body)

    for number in range(12):
        orders.send(number, key=f"k{number}")
    work(dq)
    assert sizes == [10, 2]
    assert plain.column(db, "SELECT key FROM effect") == [f"k{n}" for n in range(0, 12, 2)]
    assert plain.counters(db, "orders") | {"completed": 6, "moved_out": 6} == plain.counters(
        db, "orders"
    )
    record = orders.record("k4")
    assert record is not None
    assert record.result == "4"
    plain.check_sound(db)


UNREADABLE = {
    "not JSON": "'{\"cut off'",
    "not UTF-8": "CAST(x'22fffe22' AS TEXT)",
    "empty": "''",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_cannot_be_read_is_buried_unchanged_and_the_others_are_handled(
    dq: DurableQ, orders: Queue, db: Path, name: str
) -> None:
    handled = []

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        handled.append(message.body)

    bad = orders.send("bad", key="k")
    orders.send("good")
    plain.script(db, f"UPDATE durableq_message SET body = {UNREADABLE[name]} WHERE id = {bad}")
    stored = "SELECT hex(body) FROM durableq_message"
    before = plain.column(db, f"{stored} WHERE id = {bad}")
    work(dq)
    assert handled == ["good"]
    assert plain.column(db, stored) == before
    reasons = "SELECT event, reason FROM durableq_history ORDER BY id"
    assert plain.rows(db, reasons) == [("failed", "undecodable"), ("buried", "undecodable")]
    assert dq.queue("orders-dlq").info().counts.ready == 1
    plain.check_sound(db)


def test_a_key_that_cannot_be_read_is_buried_and_the_others_are_handled(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    """Only another program can have written it. It cannot be bound, so no record can guard it."""
    handled = []

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        handled.append(message.body)

    damaged = orders.send("damaged", key="k1")
    orders.send("sound", key="k2")
    plain.script(
        db, f"UPDATE durableq_message SET key = CAST(x'6bff' AS TEXT) WHERE id = {damaged}"
    )
    letters = dq.store.require(Capability.DEAD_LETTERS)
    for _ in range(2):  # again, when a person has sent it back
        work(dq)
        assert handled == ["sound"]
        assert letters.history(damaged)[-1].reason == Reason.UNDECODABLE
        assert letters.decide_by_id("orders-dlq", [damaged], Requeue()) == [damaged]
    work(dq)
    assert letters.decide_by_id("orders-dlq", [damaged], Discard("damaged")) == [damaged]
    plain.check_sound(db)


@pytest.mark.parametrize("end", [Delivery.complete, Delivery.release, lambda one: one.fail("no")])
def test_a_message_whose_key_is_damaged_while_it_is_in_flight_ends(
    orders: Queue, db: Path, end: Callable[[Delivery], object]
) -> None:
    orders.send(1, key="k")
    (message,) = orders.receive()
    plain.script(db, "UPDATE durableq_message SET key = CAST(x'6bff' AS TEXT)")
    end(message)
    assert orders.info().counts.in_flight == 0
    plain.check_sound(db)


def complete_late(message: Delivery) -> None:
    """Return, and let the worker complete it."""


def write_late(message: Delivery) -> None:
    with message.transaction() as tx:
        tx.execute("INSERT INTO effect VALUES ('late')")


def raise_late(message: Delivery) -> None:
    raise RuntimeError("an accident, after the lease was lost")


@pytest.mark.parametrize("then", [complete_late, write_late, raise_late])
def test_a_worker_whose_message_another_one_completed_is_refused_and_continues(
    dq: DurableQ,
    orders: Queue,
    db: Path,
    caplog: pytest.LogCaptureFixture,
    then: Callable[[Delivery], None],
) -> None:
    boot_id = plain.one(db, "SELECT value FROM durableq_meta WHERE name LIKE 'boot:%'")
    clock = FakeClock(
        lease_ms=SystemClock().lease_ms() + HOUR_MS
    )  # a process whose clock has passed every lease
    clock.boot_id = lambda: boot_id  # type: ignore[method-assign]
    handled = []

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        handled.append(message.body)
        if message.body == "first":
            with DurableQ(db, clock=clock) as other:
                (taken,) = other.queue("orders").receive()
                taken.complete()
            then(message)

    first = orders.send("first")
    orders.send("second", delay=0.01)
    work(dq)
    assert handled == ["first", "second"]
    assert orders.info().counters.completed == 2
    assert story(dq, first) == [("lease_expired", "lease_expired", "")]
    assert plain.column(db, "SELECT key FROM effect") == []
    assert "lease was lost" in caplog.text or "is stale" in caplog.text
    plain.check_sound(db)


def test_a_returned_value_without_a_key_is_named_once_and_fails_nothing(
    dq: DurableQ, orders: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    dq.handler("orders")(lambda message: {"paid": message.body})
    sent = orders.send_many([1, 2, 3])
    work(dq)
    said = [r.getMessage() for r in caplog.records if "returned a value" in r.getMessage()]
    assert len(said) == 1
    assert f"the handler of orders returned a value for message {sent[0]}" in said[0]
    assert "Send messages with a key, or return None" in said[0]
    assert orders.info().counters.completed == 3


def test_no_handler_is_called_with_a_message_whose_lease_was_lost_while_it_waited(
    dq: DurableQ, caplog: pytest.LogCaptureFixture
) -> None:
    queue = dq.queue("short", visibility_timeout=scaled(0.3))
    called = []

    @dq.handler("short", prefetch=3)
    def handle(message: Delivery) -> None:
        called.append(message.body)
        queue.purge()
        wait_for(lambda: caplog.text.count("lease was lost") == 3, what="all leases to be lost")

    queue.send_many([1, 2, 3])
    work(dq)
    assert called == [1]
    assert caplog.text.count("before its handler was called") == 2
