"""Receives of coroutines, and the verbs that settle: no lease is left to one that is gone."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durableq import (
    Deliveries,
    Delivery,
    DurableQ,
    InvalidInput,
    InvalidResult,
    Outcome,
    Queue,
    StaleReceipt,
    Transaction,
)
from durableq.client import committing
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import loops, plain
from tests.support import scaled, wait_for


def in_flight(orders: Queue) -> int:
    return orders.info().counts.in_flight


@loops.ON_ALL
def test_each_verb_settles(orders: Queue) -> None:
    async def main() -> list[Any]:
        await orders.asend_many(range(5))
        done, failed, rejected, released, extended = await orders.areceive(10)
        answers = await asyncio.gather(
            done.acomplete(),
            failed.afail("later", retry_in=60),
            rejected.areject("never"),
            released.arelease(),
            extended.aextend(600),
        )
        (again,) = await orders.areceive(10)
        assert (again.id, again.receive_count) == (released.id, 1)
        assert [one.settled for one in (done, failed, rejected, released, extended)] == [
            *[True] * 4,
            False,
        ]
        return [*answers]

    assert loops.run(main()) == [None, Outcome.RETRY, Outcome.BURIED, None, None]
    counts = orders.info().counts
    assert (counts.in_flight, counts.delayed) == (2, 1)


@loops.ON_ALL
def test_a_refusal_reaches_its_caller_and_no_neighbour(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    """Two coroutines complete one message; another result cannot be kept."""

    async def main() -> list[Any]:
        await orders.asend_many(range(4))
        first, *others = await orders.areceive(4)
        with loops.writing(dq, db) as end:
            begun = asyncio.create_task(first.acomplete())
            await loops.until(lambda: loops.is_taken(dq))
            one, two, three = others
            verbs = loops.outcomes(
                *(one.acomplete(), two.acomplete(), two.acomplete(), three.acomplete("result")),
                *(three.acomplete(), orders.acomplete_many([first, three])),
            )
            settled = asyncio.ensure_future(verbs)
            await loops.turns()
            end()
            await begun
            return await settled

    one, first, again, result, three, many = loops.run(main())
    assert [one, three] == [None, None]
    assert sorted([type(first), type(again)], key=str) == [type(None), StaleReceipt]
    assert isinstance(result, InvalidResult)
    assert isinstance(many, StaleReceipt)
    assert orders.info().counters.completed == 4


@loops.ON_ALL
def test_a_batch_is_completed_in_one_commit_with_results(orders: Queue) -> None:
    async def main() -> None:
        for number in range(3):
            await orders.asend(number, key=f"k{number}")
        messages = await orders.areceive(3)
        await orders.acomplete_many(messages, results={messages[1].id: {"paid": 1}})
        await orders.acomplete_many([])
        with pytest.raises(InvalidInput):
            await orders.acomplete_many([1])  # type: ignore[list-item]
        with pytest.raises(InvalidInput, match="Give deliveries of queue 'orders', got 1"):
            await orders.acomplete_many(1)  # type: ignore[arg-type]

    loops.run(main())
    assert orders.result("k1") == {"paid": 1}
    assert orders.info().counters.completed == 3


@loops.ON_ALL
def test_a_receive_waits_for_a_send_while_the_event_loop_goes_on(orders: Queue) -> None:
    async def main() -> Deliveries:
        receive = asyncio.create_task(orders.areceive(wait=scaled(60)))
        await loops.turns(1000)
        assert not receive.done()
        await asyncio.to_thread(orders.send, "now")
        return await receive

    (message,) = loops.run(main())
    assert (message.body, message.receive_count) == ("now", 1)


@loops.ON_ALL
def test_a_receive_waits_for_a_message_that_is_delayed(orders: Queue) -> None:
    orders.send("later", delay=0.05)
    (message,) = loops.run(orders.areceive(wait=scaled(60)))
    assert message.body == "later"


@loops.ON_ALL
def test_a_wait_without_a_message_ends_empty(orders: Queue) -> None:
    async def main() -> list[Any]:
        return [*await asyncio.gather(orders.areceive(), orders.areceive(5, wait=0.05))]

    assert loops.run(main()) == [[], []]
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == "durableq-watch"])


@loops.ON_ALL
def test_each_message_goes_to_one_of_many_coroutines_that_wait(orders: Queue) -> None:
    async def consume() -> list[int]:
        found: list[int] = []
        while messages := await orders.areceive(3, wait=scaled(60)):
            for message in messages:
                if message.body is None:
                    await message.arelease()
                    return found
                found.append(message.body)
                await message.acomplete()
        return found

    async def main() -> list[list[int]]:
        consumers = [asyncio.create_task(consume()) for _ in range(5)]
        for start in range(0, 100, 10):
            await orders.asend_many(range(start, start + 10))
        await loops.until(lambda: orders.info().counters.completed == 100)
        await orders.asend(None)
        return await asyncio.gather(*consumers)

    found = [number for numbers in loops.run(main()) for number in numbers]
    assert sorted(found) == [*range(100)]


@loops.ON_ALL
def test_a_window_gathers_a_batch(orders: Queue) -> None:
    async def main() -> list[int]:
        batch = asyncio.create_task(orders.areceive(10, min=3, window=9))
        for number in range(3):
            await orders.asend(number)
            await loops.turns()
        return [one.body for one in await batch]

    assert loops.run(main()) == [0, 1, 2]
    assert loops.run(orders.areceive(10, min=2, window=0.05)) == []


def test_contradictions_are_refused(orders: Queue) -> None:
    for options in (
        {"min": 2},
        {"window": 1, "wait": 1},
        {"window": 1000},
        {"wait": -1},
        {"limit": 0},
        {"limit": "x"},
        {"visibility_timeout": -1},
    ):
        with pytest.raises(InvalidInput):
            loops.run(orders.areceive(**{"limit": 2} | options))


# ---- cancelled receives


@loops.ON_ALL
def test_messages_received_for_a_cancelled_coroutine_are_released_uncounted(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    orders.send_many([1, 2])

    async def main() -> None:
        with loops.writing(dq, db) as end:
            receive = asyncio.create_task(orders.areceive(10))
            await loops.until(lambda: loops.is_taken(dq))
            receive.cancel()
            await asyncio.wait([receive])
            assert receive.cancelled()
            end()

    loops.run(main())
    committing.finish(dq.store)  # the thread has released them
    assert in_flight(orders) == 0
    assert [one.receive_count for one in orders.receive(10)] == [1, 1]


@loops.ON_ALL
def test_messages_whose_coroutine_is_cancelled_as_they_come_are_released(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is there, and the coroutine has not gone on yet."""
    orders.send_many([1, 2])
    tasks: list[asyncio.Task[Any]] = []
    tell = committing._tell

    def tell_and_cancel(answered: Any) -> None:
        tell(answered)
        for task in tasks:
            task.cancel()

    monkeypatch.setattr(committing, "_tell", tell_and_cancel)

    async def main() -> None:
        tasks.append(asyncio.create_task(orders.areceive(10)))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        tasks.clear()

    loops.run(main())
    committing.finish(dq.store)
    assert in_flight(orders) == 0
    assert [one.receive_count for one in orders.receive(10)] == [1, 1]


@loops.ON_ALL
def test_messages_for_an_event_loop_that_is_closed_are_released(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    orders.send_many([1, 2])
    loop = asyncio.new_event_loop()
    with loops.writing(dq, db) as end:
        receive = orders.areceive(10)
        task = loop.create_task(receive)
        loop.run_until_complete(loops.turns())
        wait_for(lambda: loops.is_taken(dq))
        task.cancel()
        loop.close()  # as a program that stops its loop: the task makes no further step
        end()
        committing.finish(dq.store)
    assert in_flight(orders) == 0
    receive.close()
    setattr(task, "_log_destroy_pending", False)  # noqa: B010 - asyncio would warn


def test_a_coroutine_that_is_collected_while_its_thread_has_the_locks_waits_for_none(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    """The collection of garbage may come at any step; its messages are released, too."""
    orders.send_many([1, 2])

    async def main() -> None:
        with loops.writing(dq, db) as end:
            receive = orders.areceive(10)
            receive.send(None)
            await loops.until(lambda: loops.is_taken(dq))

            def collect() -> None:
                with committing._choosing, committing._committers[dq.store]._changing:
                    receive.close()

            thread = threading.Thread(target=collect, daemon=True)
            thread.start()
            await asyncio.to_thread(thread.join, scaled(20))
            assert not thread.is_alive(), "it waits for its own lock"
            end()

    loops.run(main())
    committing.finish(dq.store)
    assert in_flight(orders) == 0


@loops.ON_ALL
def test_receives_cancelled_at_any_moment_leave_no_lease(dq: DurableQ, orders: Queue) -> None:
    """Each message is delivered, or ready again."""
    orders.send_many(range(300))
    dice = random.Random(51)

    async def receive(received: list[Any]) -> None:
        received += await orders.areceive(dice.randint(1, 3))

    async def main() -> list[Any]:
        received: list[Any] = []
        for _ in range(30):
            tasks = [asyncio.create_task(receive(received)) for _ in range(5)]
            await loops.turns(dice.randint(0, 40))
            for task in dice.sample(tasks, 3):
                task.cancel()
            await asyncio.wait(tasks)
        return received

    received = loops.run(main())
    committing.finish(dq.store)
    assert in_flight(orders) == len(received)
    assert len({one.id for one in received}) == len(received) > 0
    assert {one.receive_count for one in orders.receive(300)} == {1}


@loops.ON_ALL
def test_a_cancelled_wait_ends_at_once_and_takes_no_message(orders: Queue) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await orders.areceive(wait=scaled(600))
        await orders.asend(1)

    loops.run(main())
    assert in_flight(orders) == 0
    assert [one.receive_count for one in orders.receive()] == [1]


# ---- transactions


@loops.ON_ALL
def test_a_function_writes_rows_in_the_transaction_that_ends_its_message(
    dq: DurableQ, orders: Queue
) -> None:
    """It runs in a thread; an error undoes it, and the message is still held."""
    mail = dq.queue("mail")
    mail.info()

    def write(fails: bool) -> Callable[[Transaction], int]:
        def of(tx: Transaction) -> int:
            assert threading.current_thread() is not threading.main_thread()
            tx.execute("CREATE TABLE IF NOT EXISTS ledger (amount INTEGER)")
            tx.execute("INSERT INTO ledger VALUES (5)")
            tx.send("mail", "paid")
            tx.result = "paid"
            if fails:
                raise KeyError("x")
            return len(tx.execute("SELECT * FROM ledger").fetchall())

        return of

    async def main() -> list[Any]:
        await orders.asend(1, key="k")
        (message,) = await orders.areceive()
        with pytest.raises(KeyError):
            await message.atransaction(write(fails=True))
        was_settled = message.settled
        rows = await message.atransaction(write(fails=False))
        return [was_settled, rows, message.settled]

    assert loops.run(main()) == [False, 1, True]
    assert orders.result("k") == "paid"
    assert [one.body for one in mail.receive(10)] == ["paid"]


def test_a_function_that_awaits_has_no_transaction(orders: Queue) -> None:
    async def wait(tx: Transaction) -> None:
        tx.send("orders", 2)

    async def main() -> None:
        await orders.asend(1)
        (message,) = await orders.areceive()
        with pytest.raises(InvalidInput, match="without `async`"):
            await message.atransaction(wait)  # type: ignore[unused-coroutine]
        with pytest.raises(InvalidInput, match="takes a function"):
            await message.atransaction(None)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"Give a function to .*atransaction"):
            await message.transaction().__aenter__()
        await message.acomplete()

    loops.run(main())
    assert orders.receive() == []


def test_a_handler_of_a_worker_sends_and_writes_without_blocking_its_loop(
    dq: DurableQ, orders: Queue
) -> None:
    mail = dq.queue("mail")

    @dq.handler("orders")
    async def handle(message: Delivery) -> str | None:
        await mail.asend(message.body)
        if message.body % 2:
            await message.atransaction(lambda tx: tx.send("mail", -message.body))
            return None
        return "sent"

    for number in range(20):
        orders.send(number, key=f"k{number}")
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()
    assert orders.info().counters.completed == 20
    assert orders.result("k2") == "sent"
    bodies = [one.body for one in mail.receive(100)]
    assert sorted(bodies) == sorted([*range(20), *range(-19, 0, 2)])
