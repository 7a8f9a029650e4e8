"""`message.progress`: reports that a thread of its own stores, the newest of each message."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from durableq import Batch, Busy, Delivery, DurableQ, InvalidInput, Queue, StaleReceipt
from durableq.client import progress as reports
from durableq.model.progress import Progress, ProgressReport
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.support import wait_for

Written = list[list[tuple[str, float]]]


@pytest.fixture
def written(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> Written:
    """The writes of the application: of each, the messages and their fractions."""
    writes: Written = []
    store: Any = dq.store
    report = store.report_progress

    def listen(given: Sequence[ProgressReport]) -> Any:
        writes.append([(one.receipt.message_id, one.fraction) for one in given])
        return report(given)

    monkeypatch.setattr(store, "report_progress", listen)
    return writes


def take(orders: Queue, number: int = 1) -> list[Delivery]:
    """Send messages and receive them."""
    orders.send_many(range(number))
    return orders.receive(number)


def seen(orders: Queue, message: Delivery) -> tuple[float, str] | None:
    """Return the last report about a message, as others see it."""
    found = orders.progress(message.id)
    return None if found is None else (found.fraction, found.text)


def nothing_is_being_written() -> bool:
    """Return whether the thread that writes reports waits for its next second, or has ended."""
    frames = sys._current_frames()
    writers = [thread for thread in threading.enumerate() if thread.name == "progress"]
    codes = [frames[one.ident].f_code for one in writers if one.ident in frames]
    return codes == [threading.Condition.wait.__code__] * len(writers)


def work(dq: DurableQ) -> None:
    """Run a worker until nothing is left."""
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


@plain.ON_BOTH
def test_a_report_is_seen_by_others(dq: DurableQ, db: plain.Place, orders: Queue) -> None:
    (message,) = take(orders)
    message.progress(0.4, "page 4 of 10")
    with DurableQ(db) as other:
        theirs = other.queue("orders")
        wait_for(lambda: theirs.progress(message.id) is not None)
        found = theirs.progress(message.id)
        assert isinstance(found, Progress)
        assert (found.fraction, found.percent, found.text) == (0.4, 40, "page 4 of 10")
        assert other.queue("mail").progress(message.id) is None
    message.complete()
    assert orders.progress(message.id) is None


@pytest.mark.usefixtures("dq")
def test_of_many_reports_the_first_is_stored_at_once_and_the_newest_a_second_later(
    orders: Queue, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 3600.0)
    (message,) = take(orders)
    message.progress(0.01)
    wait_for(lambda: seen(orders, message) == (0.01, ""))
    for number in range(2, 100):
        message.progress(number / 100)
    wait_for(nothing_is_being_written)
    assert written == [[(message.id, 0.01)]]
    monkeypatch.setattr(reports, "EVERY_SECONDS", 0.01)
    message.progress(0.995)
    assert len(written) == 1  # the second is not over


def test_the_newest_report_is_stored_without_another_one(
    orders: Queue, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 0.2)
    (message,) = take(orders)
    for number in range(1, 50):
        message.progress(number / 100)
    wait_for(lambda: seen(orders, message) == (0.49, ""))
    assert len(written) < 49
    wait_for(lambda: "progress" not in {thread.name for thread in threading.enumerate()})
    message.progress(0.5)  # with another thread
    wait_for(lambda: seen(orders, message) == (0.5, ""))


def test_reports_that_wait_are_stored_when_the_application_is_closed(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 3600.0)
    (message,) = take(orders)
    message.progress(0.1)
    wait_for(lambda: seen(orders, message) is not None)
    message.progress(0.9, "nearly")
    dq.close()
    assert seen(orders, message) == (0.9, "nearly")


def test_the_messages_of_a_second_share_one_write(
    dq: DurableQ, orders: Queue, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 3600.0)
    first, *others = take(orders, 20)
    first.progress(0)
    wait_for(lambda: len(written) == 1)
    for message in others:
        message.progress(0.5)
    dq.close()
    assert list(map(len, written)) == [1, 19]


def test_a_report_that_meets_a_busy_store_is_stored_later(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 0.01)
    store: Any = dq.store
    report, calls = store.report_progress, []

    def refuse_twice(given: Any) -> Any:
        calls.append(given)
        if len(calls) <= 2:
            raise Busy
        return report(given)

    monkeypatch.setattr(store, "report_progress", refuse_twice)
    (message,) = take(orders)
    message.progress(0.4)
    wait_for(lambda: len(calls) >= 3, what="the third attempt")
    wait_for(lambda: seen(orders, message) == (0.4, ""), what="the report")
    assert len(calls) == 3


def test_an_error_of_the_store_is_no_error_of_the_handler(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise InvalidInput("no such thing")

    monkeypatch.setattr(dq.store, "report_progress", fail)
    (message,) = take(orders)
    message.progress(0.4)
    wait_for(lambda: "not stored: no such thing" in caplog.text)
    message.complete()
    assert message.settled


@pytest.mark.parametrize("end", ["complete", "release", "lost"])
def test_the_report_of_a_message_that_is_no_longer_ours_is_refused(orders: Queue, end: str) -> None:
    (message,) = take(orders)
    if end == "lost":
        message.lost = True
    else:
        getattr(message, end)()
    with pytest.raises(StaleReceipt, match=f"receipt for message {message.id} is stale"):
        message.progress(0.5)


def test_a_report_that_is_wrong_is_refused_in_the_handler(orders: Queue) -> None:
    (message,) = take(orders)
    with pytest.raises(InvalidInput, match="Progress is a number from 0 to 1, got 40"):
        message.progress(40)


def test_a_report_of_a_lease_that_another_has_is_dropped(dq: DurableQ, orders: Queue) -> None:
    (late,) = take(orders)
    dq.store.release([late.receipt])
    (owner,) = orders.receive()
    assert owner.id == late.id
    late.progress(0.9, "late")
    owner.progress(0.1, "mine")
    wait_for(lambda: seen(orders, owner) == (0.1, "mine"))
    owner.fail("no", retry_in=0)
    (again,) = orders.receive()
    assert seen(orders, again) is None


@pytest.mark.parametrize("url", ["", "memory://"])
def test_a_report_inside_a_transaction_waits_for_its_end(dq: DurableQ, url: str) -> None:
    orders = (DurableQ(url) if url else dq).queue("orders")
    first, second = take(orders, 2)
    with first.transaction():
        first.progress(0.5)
        second.progress(0.6)
    wait_for(lambda: seen(orders, second) == (0.6, ""))
    assert seen(orders, first) is None


def test_a_handler_a_coroutine_and_a_batch_report_while_they_run(dq: DurableQ) -> None:
    for name in ("plain", "async", "batch"):
        dq.queue(name)
    found = dict[str, list[float]]()

    def look(queue: str, number: int) -> None:
        progress = dq.store.require(Capability.PROGRESS)
        wait_for(lambda: len(progress.progress_in(queue, 10)) == number)
        found[queue] = [one.fraction for one in progress.progress_in(queue, 10)]

    @dq.handler("plain")
    def of_one(message: Delivery) -> None:
        message.progress(0.1)
        look("plain", 1)

    @dq.handler("async")
    async def of_a_coroutine(message: Delivery) -> None:
        message.progress(0.2)
        await asyncio.to_thread(look, "async", 1)

    @dq.handler("batch", batch=2)
    def of_a_batch(batch: Batch) -> None:
        for number, message in enumerate(batch):
            message.progress(number / 4, f"{number} of 4")
        look("batch", 2)

    dq.queue("plain").send(1)
    dq.queue("async").send(1)
    dq.queue("batch").send_many([1, 2])
    work(dq)
    assert found == {"plain": [0.1], "async": [0.2], "batch": [0, 0.25]}
    assert dq.store.require(Capability.PROGRESS).progress_in(None, 10) == []


def test_an_application_whose_handlers_report_nothing_has_no_thread_for_it(
    dq: DurableQ, orders: Queue
) -> None:
    dq.handler("orders")(lambda _: None)
    orders.send_many(range(10))
    work(dq)
    assert dq.store not in reports._writers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reports_by_itself(orders: Queue) -> None:
    (message,) = take(orders)
    message.progress(0.1)
    wait_for(lambda: seen(orders, message) == (0.1, ""))
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            message.progress(0.2)
            wait_for(lambda: seen(orders, message) == (0.2, ""))
        os._exit(0)
    os.waitpid(child, 0)
    assert seen(orders, message) == (0.2, "")
