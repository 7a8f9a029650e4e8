"""Ctrl-C in a transaction: the thread can use the queue afterwards, and its counters reconcile."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
from sqlalchemy import Transaction, event

from durableq import Conflict, Delivery, DurableQ, Queue
from durableq.client.transaction import Transaction as OfMessages
from durableq.engines.sqlite.open_transaction import UserWrite
from durableq.engines.sqlite.session import Session
from scripts.count_calls import ROOT
from tests.support import observing_calls, scaled


def check_usable(orders: Queue) -> None:
    """One message is in flight and one more is sent: the counters reconcile with the messages."""
    orders.send("after")
    info = orders.info()
    assert (info.counts.ready, info.counts.in_flight) == (1, 1)
    counters = info.counters
    assert (counters.sent, counters.completed, counters.moved_out) == (2, 0, 0)


def test_after_an_interrupted_statement_the_thread_has_a_new_connection(
    dq: DurableQ, orders: Queue
) -> None:
    """SQLAlchemy closes a connection whose statement ends in a KeyboardInterrupt."""
    orders.send("interrupted")
    (message,) = orders.receive()

    def interrupt(*_: object) -> None:
        event.remove(dq.engine, "after_cursor_execute", interrupt)
        signal.raise_signal(signal.SIGINT)

    event.listen(dq.engine, "after_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt), message.transaction() as tx:
        tx.execute("CREATE TABLE effect (x INTEGER)")
    check_usable(orders)


def in_a_transaction(message: Delivery) -> None:
    with message.transaction():
        pass


@pytest.mark.parametrize("settle", [in_a_transaction, lambda message: message.reject("no")])
def test_the_counts_of_an_interrupted_transaction_are_not_written_by_the_next(
    orders: Queue, settle: Callable[[Delivery], object]
) -> None:
    """The signal is handled at the first line of the session's exit, before any try."""
    orders.send("interrupted")
    (message,) = orders.receive()

    def interrupt(frame: FrameType, _: str, __: object) -> None:
        if frame.f_code is Session.__exit__.__code__:
            sys.settrace(None)
            raise KeyboardInterrupt

    with observing_calls():
        sys.settrace(interrupt)
        with pytest.raises(KeyboardInterrupt):
            settle(message)
    check_usable(orders)


def test_a_signal_as_soon_as_begin_returns_leaves_no_transaction(orders: Queue) -> None:
    def interrupt(_: FrameType, event: str, function: object) -> None:
        if event == "c_return" and getattr(function, "__name__", "") == "execute":
            sys.setprofile(None)
            raise KeyboardInterrupt

    with observing_calls():
        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            orders.send("interrupted")
    orders.send("after")
    assert orders.info().counts.ready == 1


def test_a_signal_before_sqlalchemy_ends_its_transaction_leaves_the_thread_usable(
    orders: Queue,
) -> None:
    orders.send_many(["interrupted", "next"])
    first, second = orders.receive(2)

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Transaction.close.__code__:
            sys.setprofile(None)
            raise KeyboardInterrupt

    with (  # noqa: PT012
        observing_calls(),
        pytest.raises(KeyboardInterrupt),
        first.transaction() as tx,
    ):
        tx.execute("SELECT 1")
        sys.setprofile(interrupt)  # it is raised at the end of the block
    with second.transaction() as tx:
        tx.execute("SELECT 1")
    assert orders.info().counters.completed == 2


def begin_and_interrupt(message: Delivery) -> None:
    """Open a transaction, and handle a signal at the first line of its end."""

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is OfMessages.__exit__.__code__:
            sys.setprofile(None)
            raise KeyboardInterrupt

    with message.transaction() as tx:
        tx.execute("CREATE TABLE effect (x INTEGER)")
        sys.setprofile(interrupt)


@pytest.mark.parametrize("then", [in_a_transaction, Delivery.complete, lambda _: None])
def test_after_ctrl_c_in_the_finalizer_too_the_thread_can_use_the_queue(
    orders: Queue, monkeypatch: pytest.MonkeyPatch, then: Callable[[Delivery], object]
) -> None:
    """Python drops an exception of a finalizer, here one at its first line."""
    orders.send_many(["interrupted", "next"])
    first, second = orders.receive(2)
    dropped = []

    def finalize(_: UserWrite) -> None:
        raise KeyboardInterrupt

    with observing_calls(), monkeypatch.context() as patch:
        patch.setattr(UserWrite, "__del__", finalize)
        patch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))
        with pytest.raises(KeyboardInterrupt):
            begin_and_interrupt(first)
    assert dropped == [KeyboardInterrupt]
    then(second)
    info = orders.info()
    assert info.counts.in_flight == 2 - info.counters.completed
    with ThreadPoolExecutor() as pool:
        assert pool.submit(orders.send, "of another thread").result(timeout=scaled(60))
    with first.transaction() as tx:
        tx.execute("CREATE TABLE effect (x INTEGER)")  # the first one was undone


def test_a_refused_transaction_inside_another_does_not_end_that(orders: Queue) -> None:
    orders.send_many(["outer", "inner"])
    outer, inner = orders.receive(2)
    with outer.transaction() as tx:
        tx.execute("CREATE TABLE effect (x INTEGER)")
        for _ in range(2):
            with pytest.raises(Conflict):
                inner.transaction().__enter__()
            assert orders.info().counts.in_flight == 2
    with inner.transaction() as tx:
        tx.execute("INSERT INTO effect VALUES (1)")


def transact_with_ctrl_c(message: Delivery, number: int) -> bool:
    """Run a transaction, with Ctrl-C at one of its calls; return whether it came.

    Python handles a signal as a function begins, and as one of C returns.
    """
    left = number

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event in {"call", "c_return"} and frame.f_code.co_filename.startswith(ROOT):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    before = sys.getprofile()
    with observing_calls():
        try:
            sys.setprofile(interrupt)
            with message.transaction() as tx:
                tx.execute("SELECT 1")
            sys.setprofile(before)
        except KeyboardInterrupt:
            return True
    return False


def test_ctrl_c_at_any_call_of_a_transaction_leaves_the_thread_usable(orders: Queue) -> None:
    number = 0
    is_interrupted = True
    while is_interrupted:
        orders.send(number)
        (message,) = orders.receive()
        is_interrupted = transact_with_ctrl_c(message, number)
        number += 1
        info = orders.info()
        assert info.counts.in_flight + info.counters.completed == number
    assert number > 50
    orders.send_many(range(3))
    assert orders.info().counts.ready == 3
