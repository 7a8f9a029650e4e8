"""Coroutines and the end of their store: closing, the end of the interpreter, forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durableq import Conflict, Delivery, DurableQ, Queue, Transaction
from durableq.client import committing, coroutines
from tests.engine import loops, plain
from tests.support import scaled, wait_for


@loops.ON_ALL
def test_closing_loses_no_send_that_was_accepted(db: plain.Place) -> None:
    """Also those of tasks that were cancelled after their commit had begun, or not awaited."""

    async def main(dq: DurableQ) -> None:
        async with dq:
            orders = dq.queue("orders")
            await orders.asend("first")
            with loops.writing(dq, db) as end:
                sends = [asyncio.create_task(orders.asend(number)) for number in range(500)]
                await loops.turns(3)
                closing = asyncio.create_task(dq.aclose())
                await loops.turns()
                assert not closing.done()
                end()
                await closing
            assert all(send.done() for send in sends)
            if db != loops.MEMORY:
                assert dq.opened is None

    with DurableQ(db) as dq:
        loops.run(main(dq))
        if db != loops.MEMORY:  # there the messages live as long as the store
            assert loops.stored(dq.queue("orders")) == ["first", *range(500)]


@loops.ON_ALL
def test_closing_waits_for_a_transaction_whose_coroutine_was_cancelled(
    dq: DurableQ, orders: Queue
) -> None:
    began, may_end = threading.Event(), threading.Event()

    def write(tx: Transaction) -> None:
        began.set()
        may_end.wait(scaled(60))
        tx.execute("CREATE TABLE ledger (amount INTEGER)")
        tx.result = "paid"

    async def main() -> Delivery:
        orders.send(1, key="k")
        (message,) = await orders.areceive()
        writing = asyncio.create_task(message.atransaction(write))
        await loops.until(began.is_set)
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        try:
            assert committing._others.get(dq.store), "closing does not know of it"
            closing = asyncio.create_task(asyncio.to_thread(committing.finish, dq.store))
            await loops.until(lambda: dq.store not in committing._others)
            assert not closing.done()
        finally:
            may_end.set()
        await closing
        return message

    assert loops.run(main()).settled, "before the store is closed"
    assert orders.result("k") == "paid"


def test_a_transaction_that_is_cancelled_before_it_has_a_thread_does_nothing(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end = threading.Event(), threading.Event()
    monkeypatch.setattr(coroutines, "WRITERS", 1)

    def write(_tx: Transaction) -> None:
        began.set()
        may_end.wait(scaled(60))

    async def main() -> list[bool]:
        orders.send_many([1, 2])
        messages = await orders.areceive(2)
        tasks = [asyncio.create_task(one.atransaction(write)) for one in messages]
        await loops.until(began.is_set)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        await loops.turns()
        may_end.set()
        await dq.aclose()
        await tasks[0]
        return [one.settled for one in messages]

    assert loops.run(main()) == [True, False]
    assert orders.info().counters.completed == 1


def test_the_end_of_the_interpreter_waits_for_a_send_that_was_taken(db: Path) -> None:
    program = f"""
import asyncio
from durableq import DurableQ

orders = DurableQ({str(db)!r}).queue("orders")

async def main():
    await orders.asend(1)
    left = asyncio.create_task(orders.asend(2))
    await asyncio.sleep(0)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=scaled(60))
    assert plain.column(db, "SELECT body FROM durableq_message ORDER BY id")[0] == "1"
    plain.check_sound(db)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12
def test_a_forked_child_sends_although_its_parent_waits(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    async def main() -> None:
        with loops.writing(dq, db) as end:
            send = asyncio.create_task(orders.asend("parent"))
            await loops.until(lambda: loops.is_taken(dq))
            child = await asyncio.to_thread(fork, lambda: in_child(orders))
            end()
            await send
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0

    loops.run(main())
    assert sorted(plain.column(db, "SELECT body FROM durableq_message")) == ['"child"', '"parent"']
    plain.check_sound(db)


def in_child(orders: Queue) -> None:
    asyncio.run(asyncio.wait_for(orders.asend("child"), scaled(10)))


def fork(then: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        then()
    except BaseException:  # noqa: BLE001 - it must not return into the test
        os._exit(1)
    os._exit(0)


def test_the_store_is_opened_by_the_first_send_and_again_after_a_close(db: Path) -> None:
    async def main() -> None:
        async with DurableQ(db) as dq:
            orders = dq.queue("orders")
            await asyncio.gather(*(orders.asend(number) for number in range(10)))
            await dq.aclose()
            await orders.asend("again")
        assert dq.opened is None

    loops.run(main())
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("durableq-commit")])
    assert len(plain.rows(db, "SELECT id FROM durableq_message")) == 11


def test_a_store_that_cannot_be_opened_fails_each_send(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database")
    orders = DurableQ(tmp_path / "file").queue("orders")

    async def main() -> list[Any]:
        return await loops.outcomes(orders.asend(1), orders.asend(2))

    first, second = loops.run(main())
    assert "no database" in (tmp_path / "file").read_text()
    assert type(first) is type(second)
    assert isinstance(first, Exception)
    assert not isinstance(first, Conflict)
