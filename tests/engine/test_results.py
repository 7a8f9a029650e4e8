"""The result of the success under a key, and the wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from durableq import DurableQ, InvalidInput, NoResult, Queue
from tests.engine import loops
from tests.support import scaled, wait_for


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders", visibility_timeout=300)


def test_a_result_is_returned_as_the_handler_returned_it(orders: Queue) -> None:
    orders.send(1, key="a")
    orders.send(2, key="b")
    first, second = orders.receive(2)
    first.complete({"n": [1, None]})
    second.complete()
    assert orders.result("a") == {"n": [1, None]}
    assert orders.result("b") is None


def test_without_a_success_there_is_none_and_the_error_says_how_far_it_is(orders: Queue) -> None:
    orders.send(1, key="a")
    with pytest.raises(NoResult, match=r"message \d+ is ready. Wait longer.") as refused:
        orders.result("a")
    assert (refused.value.queue, refused.value.key) == ("orders", "a")
    orders.receive()
    began = time.monotonic()
    with pytest.raises(NoResult, match=r"is in flight[.] Wait longer[.]"):
        orders.result("a", wait=timedelta(milliseconds=200))
    assert time.monotonic() - began >= 0.2
    with pytest.raises(NoResult, match="no message has this key"):
        orders.result("b")


def test_a_wait_ends_when_the_message_dies_and_says_why(orders: Queue) -> None:
    message_id = orders.send(1, key="a")
    (message,) = orders.receive()
    caught: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(NoResult) as refused:
            orders.result("a", wait=scaled(60))
        caught.append(refused.value)

    waiter = threading.Thread(target=wait)
    waiter.start()
    message.reject("no such card")
    waiter.join(scaled(30))
    (error,) = caught
    assert isinstance(error, NoResult)
    assert (error.message_id, error.is_dead) == (message_id, True)
    assert f"message {message_id} is dead (Reject: no such card)" in str(error)


def test_a_later_message_with_the_key_of_a_dead_letter_is_waited_for(orders: Queue) -> None:
    orders.send(1, key="a")
    orders.receive()[0].reject("no such card")
    orders.send(2, key="a")
    with pytest.raises(NoResult, match=r"is ready[.] Wait longer[.]"):
        orders.result("a", wait=0.1)
    orders.receive()[0].complete("done")
    assert orders.result("a") == "done"


def test_a_wait_ends_with_the_completion(dq: DurableQ, orders: Queue) -> None:
    orders.send(1, key="a")
    (message,) = orders.receive()
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.append(orders.result("a", wait=scaled(60))))
    waiter.start()
    orders.send(2, key="b")  # a write that it does not wait for
    assert not found
    message.complete("done")
    wait_for(lambda: found == ["done"], what="the result")
    waiter.join()


@pytest.mark.parametrize(("key", "wait"), [("", 0), ("k", -1), ("k" * 513, 1), ("k", 1e15)])
def test_bad_arguments_are_refused(orders: Queue, key: str, wait: float) -> None:
    with pytest.raises(InvalidInput):
        orders.result(key, wait=wait)


# ---- in coroutines


@loops.ON_ALL
def test_a_coroutine_waits_for_a_result_while_the_event_loop_goes_on(orders: Queue) -> None:
    async def main() -> list[Any]:
        waits = [asyncio.create_task(orders.aresult("k", wait=scaled(60))) for _ in range(5)]
        await loops.turns(100)
        assert not any(wait.done() for wait in waits)
        await orders.asend(1, key="k")
        (message,) = await orders.areceive()
        await message.acomplete({"paid": True})
        return [await orders.aresult("k"), *await asyncio.gather(*waits)]

    assert loops.run(main()) == [{"paid": True}] * 6


@loops.ON_ALL
def test_a_coroutine_learns_why_there_is_no_result(orders: Queue) -> None:
    async def main() -> list[Any]:
        await orders.asend(1, key="dies")
        waits = asyncio.create_task(orders.aresult("dies", wait=scaled(60)))
        (message,) = await orders.areceive()
        await message.areject("no such card")
        await orders.asend(1, key="ready")
        return await loops.outcomes(
            waits, orders.aresult("ready", wait=0.05), orders.aresult("none"), orders.aresult("")
        )

    dead, ready, none, bad = loops.run(main())
    assert [type(one) for one in (dead, ready, none, bad)] == [*[NoResult] * 3, InvalidInput]
    assert dead.is_dead
    assert "no such card" in str(dead)
    assert "is ready. Wait longer." in str(ready)
    assert "no message has this key" in str(none)
