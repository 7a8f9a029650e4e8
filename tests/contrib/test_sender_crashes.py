"""crash_at in code that sends outside of a run: web applications, producers."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from durableq import QueueFull
from durableq.contrib.pytest import Point, crash_at, sent
from durableq.contrib.pytest.crashes import SenderCrashed
from tests.contrib.shop import Shop
from tests.support import scaled

pytestmark = pytest.mark.usefixtures("clock")


@pytest.mark.parametrize("path", ["/function", "/coroutine"])
def test_a_web_application_crashes_in_a_send(shop: Shop, path: str) -> None:
    app = FastAPI()
    app.post("/function")(lambda: shop.orders.send({"order": 7}))

    @app.post("/coroutine")
    async def send() -> str:
        return shop.orders.send({"order": 7})

    with TestClient(app) as client:
        points: list[tuple[Point, int]] = [("before send", 0), ("after send", 1)]
        for point, there in points:
            with crash_at(point):
                client.post(path)
                pytest.fail("The answer came behind the crash.")
            assert len(sent(shop.orders)) == there
        assert client.post(path).status_code == 200


def test_a_send_of_a_coroutine_that_is_refused_does_not_crash_behind_itself(shop: Shop) -> None:
    small = shop.dq.queue("small", max_backlog=1)

    async def main() -> None:
        await small.asend(1)
        with crash_at("after send"):
            with pytest.raises(QueueFull):
                await small.asend(2)
            await shop.orders.asend({"order": 7})
            pytest.fail("The send went on behind its crash.")

    asyncio.run(main())
    assert len(sent(shop.orders)) == 1


def test_a_producer_crashes_in_its_thread(shop: Shop) -> None:
    with crash_at("before send"), shop.orders.producer(linger=0.001) as producer:
        future = producer.send({"order": 7})
        with pytest.raises(SenderCrashed):
            future.result(scaled(10))
    assert sent(shop.orders) == []
