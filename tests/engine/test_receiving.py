"""Receiving without a worker, from a queue whose first messages are not to be delivered."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from durableq import Deliveries, Delivery, DurableQ, InvalidBody, Queue
from durableq.client import queue
from durableq.engines.sql import receiving
from durableq.engines.sqlite import statements
from durableq.model.limits import MAX_SET_ASIDE
from durableq.model.message import Received, draft
from durableq.store.core import Receive
from durableq.worker.fetcher import Fetcher
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain


def duplicates(orders: Queue, number: int) -> None:
    """Send a message, complete it, and send `number` duplicates of it."""
    orders.send("first", key="k")
    orders.receive()[0].complete()
    orders._app.store.send("orders", [draft("first", key="k") for _ in range(number)])


@pytest.mark.parametrize("number", [15, 5 * MAX_SET_ASIDE])
def test_a_loop_over_receive_ends_only_when_nothing_is_ready(orders: Queue, number: int) -> None:
    duplicates(orders, number)
    orders.send("fresh")
    bodies = []
    while messages := orders.receive():
        bodies += [message.body for message in messages]
        messages[0].complete()
    assert bodies == ["fresh"]
    info = orders.info()
    assert (info.counters.duplicates, info.counts.present) == (number, 0)


def test_a_receive_reports_whether_there_may_be_more(orders: Queue) -> None:
    orders.send_many([1, 2])
    first = orders.receive()
    assert isinstance(first, list)
    assert ([message.body for message in first], first.more) == ([1], True)
    rest = orders.receive(10)
    assert ([message.body for message in rest], rest.more) == ([2], False)
    assert (orders.receive(), orders.receive().more) == ([], False)
    assert Deliveries().more is False


def test_a_receive_ends_although_duplicates_are_left_and_says_so(
    orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_SET_ASIDE", 10)
    monkeypatch.setattr(queue, "MAX_STORE_RECEIVES", 3)
    duplicates(orders, 30)
    orders.send("fresh")
    nothing = orders.receive()
    assert (nothing, nothing.more) == ([], True)
    assert [message.body for message in orders.receive()] == ["fresh"]


def test_others_write_while_a_receive_works_through_duplicates(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is a transaction of its own: another process can send between two of them."""
    monkeypatch.setattr(receiving, "MAX_SET_ASIDE", 10)
    duplicates(orders, 20)
    receive = dq.store.receive
    with DurableQ(dq.url) as other:

        def receive_and_let_send(*arguments: object, **options: object) -> object:
            received = receive(*arguments, **options)  # type: ignore[arg-type]
            if not received.messages:
                other.queue("orders").send("sent meanwhile")
            return received

        monkeypatch.setattr(dq.store, "receive", receive_and_let_send)
        [message] = orders.receive()
    assert message.body == "sent meanwhile"


def test_the_bodies_that_are_set_aside_do_not_stay_in_memory(orders: Queue) -> None:
    body = "x" * 200_000
    orders.send(body, key="k")
    orders.receive()[0].complete()
    orders._app.store.send("orders", [draft(body, key="k") for _ in range(50)])
    tracemalloc.start()
    try:
        assert orders.receive(10) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(body)


def test_a_receive_reads_the_ready_messages_in_order_of_their_index(
    db: Path, orders: Queue
) -> None:
    """The receive stops half way: a sort would read all of their bodies first."""
    orders.send("one")
    text = re.sub(r"\?\d", "1", statements.READY)
    plan = [row[3] for row in plain.rows(db, f"EXPLAIN QUERY PLAN {text}")]
    assert any("durableq_message" in step and "INDEX" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


@pytest.mark.parametrize("together", [False, True])
def test_texts_that_are_not_utf_8_are_received_beside_others(
    dq: DurableQ, orders: Queue, db: Path, together: bool
) -> None:
    """The driver's own decoder fails the statement; the operation is run again with another one."""
    orders.send_many(["damaged", "sound"])
    orders.send("later", attributes={"a": "b"})
    plain.script(
        db,
        "UPDATE durableq_message SET body = CAST(x'22ff22' AS TEXT) WHERE id = 1;"
        """UPDATE durableq_message SET attributes = CAST('{"a":"' || x'ff' || '"}' AS TEXT)
        WHERE id = 3""",
    )
    if together:
        (received,) = dq.store.together([Receive("orders", 10)])
        assert isinstance(received, Received)
        messages = [Delivery(message, dq.store) for message in received.messages]
    else:
        messages = [*orders.receive(10)]
    damaged, sound, later = messages
    with pytest.raises(InvalidBody):
        _ = damaged.body
    assert (sound.body, later.body, later.attributes) == ("sound", "later", {"a": "\udcff"})
    assert [message.receive_count for message in messages] == [1, 1, 1]
    damaged.reject("no text")
    sound.complete()
    assert (orders.info().counts.in_flight, orders.info().counters.completed) == (1, 1)


def test_a_worker_receives_again_at_once_where_there_may_be_more(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_SET_ASIDE", 10)
    duplicates(orders, 95)
    orders.send("fresh")
    handled = []

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        handled.append(message.body)
        worker.stopping.set()

    waits = []
    wait = Fetcher._wait
    monkeypatch.setattr(
        Fetcher,
        "_wait",
        lambda self: waits.append(list(handled)) or wait(self),  # type: ignore[func-returns-value]
    )
    worker = Worker(dq, WorkerOptions("", dq.url, "worker"))
    worker.run()
    assert handled == ["fresh"]
    assert [] not in waits, "it waited before it had received the message"
