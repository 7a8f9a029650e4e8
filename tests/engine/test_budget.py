"""A budget of statements, prepares and Python calls for each operation; it fails when one grows.

Unlike a timing it is the same on each machine. A change that spends more says why here. The calls
of single operations without options are in test_calls.py.
Newer versions of Python make fewer calls: they inline comprehensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from durableq import Batch, Delivery, DurableQ, Queue
from durableq.engines.sql import sending
from durableq.engines.sql.definitions.messages import INSERT
from durableq.model.message import SendOptions, State, draft
from durableq.store.core import Capability
from durableq.supervisor.histograms import WorkerHistograms
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker.completer import Completer
from durableq.worker.execution import Execution
from durableq.worker.fetcher import Fetcher
from durableq.worker.options import WorkerOptions
from durableq.worker.state import WorkerState
from tests.engine.budget import spent

#: BEGIN, the queue with the revision, its counter, the message, COMMIT.
STATEMENTS_OF_A_SEND = 5
#: BEGIN, the queue with all else, ready messages, their leases (or the wait for the next), COMMIT.
STATEMENTS_OF_A_RECEIVE = 5
#: BEGIN, the queue with the revision, messages, the counter, COMMIT.
STATEMENTS_OF_A_COMPLETION = 5
BOTH = STATEMENTS_OF_A_RECEIVE + STATEMENTS_OF_A_COMPLETION


def test_one_send(dq: DurableQ, orders: Queue) -> None:
    cost = spent(dq, lambda: orders.send({"order": 7}))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND, cost.statements
    assert cost.prepares == []


def test_one_send_with_all_options(dq: DurableQ, orders: Queue) -> None:
    options: SendOptions = {"key": "k", "attributes": {"a": 1}, "delay": 60, "priority": 3}
    cost = spent(dq, lambda: orders.send({"order": 7}, **options))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 25, cost.calls


def test_a_send_of_a_hundred_adds_one_statement_a_message(dq: DurableQ, orders: Queue) -> None:
    bodies = [{"order": number} for number in range(100)]
    cost = spent(dq, lambda: orders.send_many(bodies))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND - 1 + len(bodies), cost.statements[:9]
    assert cost.prepares == []
    assert len(cost.calls) <= 120, cost.calls[:20]


def test_the_rows_of_a_send_are_in_the_order_of_its_statement() -> None:
    made = draft({"order": 7}, key="k", attributes={"a": 1}, delay=2, priority=3)
    (row,) = sending._rows(1_000, "orders", (5, 0, 100, 11), [made])
    assert INSERT.order is not None
    assert [*zip(INSERT.order, row, strict=True)] == [
        ("id", 12),
        ("queue_id", 5),
        ("state", State.DELAYED),
        ("rank", -3),
        ("priority", 3),
        ("delayed_until_ms", 3_000),
        ("now_ms", 1_000),
        ("retention_from_ms", 3_000),
        ("body_bytes", len('{"order":7}')),
        ("key", "k"),
        ("payload_hash", made.payload_hash),
        ("attributes", made.attributes),
        ("body", '{"order":7}'),
    ]


def receive_and_complete(orders: Queue, limit: int = 1) -> None:
    received = orders.receive(limit)
    assert len(received) == limit
    if limit == 1:
        received[0].complete()
        return
    assert Batch(received, received[0]._store).settle() == []


def keyed(orders: Queue, number: int) -> None:
    with orders.producer(batch_size=100, linger=None) as producer:
        for key in range(number):
            producer.send(key, key=f"order-{key}")


def test_a_receive_and_completion_of_one(dq: DurableQ, orders: Queue) -> None:
    orders.send_many(range(9))
    cost = spent(dq, lambda: receive_and_complete(orders))
    assert len(cost.statements) == BOTH, cost.statements
    assert cost.prepares == []


def test_a_receive_and_completion_of_one_with_a_key(dq: DurableQ, orders: Queue) -> None:
    """The key is taken, and completed; one look tells whether messages wait behind keys."""
    keyed(orders, 9)
    cost = spent(dq, lambda: receive_and_complete(orders))
    assert len(cost.statements) == BOTH + 3, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 53, cost.calls


def test_a_batch_takes_as_many_statements_as_one_message(dq: DurableQ, orders: Queue) -> None:
    keyed(orders, 300)
    cost = spent(dq, lambda: receive_and_complete(orders, 100))
    assert len(cost.statements) == BOTH + 3, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 468, len(cost.calls)


EFFECT = "INSERT INTO effect (number) VALUES (:number)"


@pytest.fixture
def effects(dq: DurableQ) -> None:
    with dq.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effect (number INTEGER)")


@pytest.mark.usefixtures("effects")
def test_a_transaction_of_one_message(dq: DurableQ, orders: Queue) -> None:
    """BEGIN, the lease, the effect, the queue, the message, its counter, COMMIT."""
    keyed(orders, 9)
    orders.send_many(range(9))
    keyed_ones, plain_ones = iter(orders.receive(9)), iter(orders.receive(9))

    def transact(messages: Iterator[Delivery]) -> None:
        with next(messages).transaction() as tx:
            tx.execute(EFFECT, {"number": 7})

    for messages, number, calls in ((plain_ones, 7, 64), (keyed_ones, 9, 68)):
        cost = spent(dq, partial(transact, messages))
        assert len(cost.statements) == number, cost.statements
        assert cost.prepares == []
        assert len(cost.calls) <= calls, cost.calls


@pytest.mark.usefixtures("effects")
def test_a_transaction_of_a_batch_adds_its_effects_alone(dq: DurableQ, orders: Queue) -> None:
    orders.send_many(range(250))

    def transact() -> None:
        batch = Batch(orders.receive(50), dq.store)
        with batch.transaction() as tx:
            tx.execute(EFFECT, [{"number": number} for number in range(len(batch))])

    cost = spent(dq, transact)
    assert len(cost.statements) == 5 + 6 + 50, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 620, len(cost.calls)


def test_an_empty_receive(dq: DurableQ, orders: Queue) -> None:
    cost = spent(dq, orders.receive)
    assert len(cost.statements) == STATEMENTS_OF_A_RECEIVE, cost.statements
    assert cost.prepares == []


def handling(dq: DurableQ, histograms: int = -1) -> Callable[[], None]:
    """Return an operation of a worker: receive 100 messages, settle the last 100, and handle."""
    state = WorkerState(
        dq, WorkerOptions("", dq.url, "worker", histograms=histograms), Scoreboard()
    )
    completer = Completer(state)  # its thread is not started: each receive settles
    fetcher = Fetcher(state, [*dq.handlers.values()], completer)
    execution = Execution(state, completer)

    def handle() -> None:
        work = fetcher.next()
        assert work is not None
        assert len(work.waiting) == 100
        execution.call(work)

    return handle


def test_a_look_at_many_polled_queues_is_one_statement(dq: DurableQ, orders: Queue) -> None:
    """Between BEGIN and ROLLBACK; one more for each queue with ready messages."""
    for number in range(20):
        dq.queue(f"polled-{number}")
    look = dq.store.require(Capability.ENDPOINT).readiness
    wanted = {f"polled-{number}": 10 for number in range(20)} | {"orders": 10}
    cost = spent(dq, lambda: look(wanted))
    assert len(cost.statements) == 3, cost.statements
    assert cost.prepares == []
    orders.send({"order": 7})
    assert len(spent(dq, lambda: look(wanted)).statements) == 4


def test_a_message_of_a_worker(dq: DurableQ, orders: Queue) -> None:
    """A few calls a message beside the engine's: the body is decoded, and the handler returns."""
    keyed(orders, 300)
    dq.handler("orders", prefetch=100)(lambda message: message.body and None)
    cost = spent(dq, handling(dq))
    ours = [call for call in cost.calls if not call[0].startswith(("engines/", "model/"))]
    assert len(cost.statements) <= 15, cost.statements
    assert cost.prepares == []
    assert len(ours) <= 1_750, Counter(ours)


def test_the_histograms_of_a_worker_add_five_calls_a_message(dq: DurableQ, orders: Queue) -> None:
    """The start and the end of its handler, each in its bucket; one reads when it began."""
    keyed(orders, 600)
    dq.handler("orders", prefetch=100)(lambda message: message.body and None)
    without = spent(dq, handling(dq))
    with closing(WorkerHistograms()) as histograms:
        cost = spent(dq, handling(dq, histograms=histograms.fileno))
        assert sum(histograms.read()["orders"].handler.buckets) == 300
    assert len(cost.statements) == len(without.statements)
    assert len(cost.calls) - len(without.calls) <= 500, Counter(cost.calls)
