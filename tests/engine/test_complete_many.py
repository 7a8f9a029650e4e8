"""Received messages are completed together, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, InvalidInput, InvalidResult, Queue, StaleReceipt


@pytest.fixture(params=["memory", "sqlite"])
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'queue.db'}"
    with DurableQ(url) as dq:
        dq.queue("other")
        yield dq.queue("orders")


def test_all_messages_of_a_receive_are_completed(orders: Queue) -> None:
    orders.send_many(range(3))
    received = orders.receive(3)
    orders.complete_many(received)
    assert all(message.settled for message in received)
    assert (orders.info().counters.completed, orders.info().counts.present) == (3, 0)


def test_results_are_kept_by_the_ids_of_their_messages(orders: Queue) -> None:
    ids = [orders.send(number, key=f"k{number}") for number in range(3)]
    orders.complete_many(orders.receive(3), results={ids[1]: {"paid": 1}, ids[2]: None})
    kept = [orders.record(f"k{number}") for number in range(3)]
    assert [record and record.result for record in kept] == [None, '{"paid":1}', None]


def test_stale_messages_are_named_after_the_others_are_completed(orders: Queue) -> None:
    orders.send_many(range(4))
    received = orders.receive(4)
    received[1].release()
    received[3].complete()
    with pytest.raises(StaleReceipt) as caught:
        orders.complete_many(received)
    assert caught.value.message_ids == (received[1].id, received[3].id)
    assert "The other 2 of 4 messages are completed; drop these 2." in str(caught.value)
    assert (received[0].settled, received[2].settled) == (True, True)
    assert (orders.info().counters.completed, orders.info().counts.ready) == (3, 1)


def test_completing_again_is_safe_with_keys(orders: Queue) -> None:
    orders.send(1, key="k")
    received = orders.receive()
    orders.complete_many([*received, *received])
    orders.complete_many(received)
    assert orders.info().counters.completed == 1


def test_a_message_of_another_queue_completes_nothing(orders: Queue) -> None:
    other = orders._app.queue("other")
    other.send(1)
    orders.send(1)
    mine = orders.receive()
    with pytest.raises(InvalidInput, match="received from queue 'other', not from 'orders'"):
        orders.complete_many([*mine, *other.receive()])
    orders.complete_many(mine)


def test_bad_arguments_complete_nothing(orders: Queue) -> None:
    sent = orders.send(1)
    received = orders.receive()
    with pytest.raises(InvalidInput, match="Give deliveries of queue 'orders', got 7"):
        orders.complete_many([*received, 7])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="a result for '999', which is not given"):
        orders.complete_many(received, results={"999": 1})
    with pytest.raises(InvalidResult, match="has no key"):
        orders.complete_many(received, results={sent: 1})
    assert orders.info().counts.in_flight == 1
    orders.complete_many([])
    orders.complete_many(received)
