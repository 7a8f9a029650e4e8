"""A write lock of this process is not blamed on others, nor waited for in vain."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from durableq import Busy, Conflict, DurableQ, Queue
from tests.engine import plain
from tests.process.child import Nursery
from tests.support import scaled

OWN = r"This thread has an open write transaction on .*queue\.db: inside it pass connection="


def test_a_send_inside_ones_own_transaction_is_refused_at_once(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    with DurableQ(db) as again, dq.engine.begin() as connection:
        calls: list[Callable[[], object]] = [
            lambda: orders.send(1),
            orders.receive,
            lambda: dq.engine.connect().begin(),
            lambda: again.queue("orders").send(1),
        ]
        started = time.monotonic()
        for call in calls:
            with pytest.raises(Conflict, match=OWN):
                call()
        assert time.monotonic() - started < scaled(5), "it waited"
        orders.send("inside", connection=connection)
    orders.send("after")
    bodies = plain.column(db, "SELECT body FROM durableq_message ORDER BY id")
    assert bodies == ['"inside"', '"after"']


def test_another_transaction_inside_that_of_a_message_is_refused_at_once(
    dq: DurableQ, orders: Queue
) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        with pytest.raises(Conflict, match=OWN), dq.engine.begin():
            pass
        tx.send("orders", "inside")
    assert orders.info().counts.ready == 1


def test_a_lock_of_another_thread_is_waited_for(dq: DurableQ, orders: Queue) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with dq.engine.begin():
            held.set()
            assert done.wait(scaled(60))

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    assert held.wait(scaled(60))
    threading.Timer(0.3, done.set).start()
    orders.send(1)
    thread.join()


def test_a_lock_of_another_thread_is_named_after_the_wait(db: Path) -> None:
    held, done = threading.Event(), threading.Event()
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.2") as dq:
        orders = dq.queue("orders")
        orders.info()

        def hold() -> None:
            with dq.engine.begin():
                held.set()
                assert done.wait(scaled(60))

        thread = threading.Thread(target=hold, name="holder")
        thread.start()
        assert held.wait(scaled(60))
        try:
            with pytest.raises(Busy, match=r"this process itself .*\(holder\)\."):
                orders.send(1)
        finally:
            done.set()
            thread.join()


def test_a_lock_of_the_applications_connection_is_named(db: Path) -> None:
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.2") as dq:
        orders = dq.queue("orders")
        orders.info()
        other_thread = threading.Event()
        waiting = threading.Thread(target=other_thread.wait)
        waiting.start()
        with plain.connection(db) as own:
            own.execute("BEGIN IMMEDIATE")
            try:
                with pytest.raises(Busy, match=r"this process itself .* durableq did not open"):
                    orders.send(1)
            finally:
                other_thread.set()
                waiting.join()


ALONE = """
import sys, time
from durableq import Conflict, DurableQ
from durableq.engines.sqlite.driver import driver
orders = DurableQ(sys.argv[1]).queue("orders")
orders.info()
own = driver.connect(sys.argv[1], isolation_level=None)
own.execute("BEGIN IMMEDIATE")
started = time.monotonic()
try:
    orders.send(1)
except Conflict as error:
    assert "no other thread to end it" in str(error), error
    assert time.monotonic() - started < 9  # the busy timeout is 10 seconds
    orders.send("inside", connection=own)
    own.execute("COMMIT")
    orders.send("after")
"""


def test_a_process_of_one_thread_does_not_wait_for_itself(db: Path) -> None:
    subprocess.run([sys.executable, "-c", ALONE, db], check=True, timeout=scaled(60))
    bodies = plain.column(db, "SELECT body FROM durableq_message ORDER BY id")
    assert bodies == ['"inside"', '"after"']


def test_another_process_that_holds_the_lock_is_named(db: Path, nursery: Nursery) -> None:
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.2") as dq:
        orders = dq.queue("orders")
        orders.info()
        owner_id = nursery.start("lock", db)
        owner_id.wait_line("READY")
        with pytest.raises(Busy, match=r"is busy: process (\d+) \(.*\) is writing") as caught:
            orders.send(1)
        assert f"process {os.getpid()} " not in str(caught.value)
        owner_id.kill()
