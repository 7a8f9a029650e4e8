"""message.transaction() in memory: rows of user code commit and roll back with the message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from durableq import (
    Batch,
    Conflict,
    Delivery,
    DurableQ,
    InvalidInput,
    InvalidResult,
    Queue,
    Transaction,
    UnknownQueue,
)
from durableq.store.core import OTHER_THREAD

CREATE = "CREATE TABLE ledger (order_id INTEGER PRIMARY KEY, paid INTEGER NOT NULL)"
PAY = "INSERT INTO ledger VALUES (:order, 120)"
#: Its constraint is checked at COMMIT.
LINE = "CREATE TABLE line (order_id INTEGER REFERENCES ledger DEFERRABLE INITIALLY DEFERRED)"


@pytest.fixture
def dq() -> Iterator[DurableQ]:
    with DurableQ("memory://") as dq:
        dq.queue("receipts")
        yield dq


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    with dq.engine.begin() as connection:
        connection.execute(sa.text(CREATE))
    orders = dq.queue("orders")
    orders.send({"order": 7}, key="order-7")
    return orders


def take(queue: Queue) -> Delivery:
    (message,) = queue.receive()
    return message


def ledger(dq: DurableQ) -> list[tuple[Any, ...]]:
    with dq.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT * FROM ledger"))]


def write_and(
    message: Delivery | Batch, then: Callable[[Transaction], object] = lambda _: None
) -> None:
    with message.transaction() as tx:
        tx.execute(PAY, {"order": 7})
        tx.send("receipts", {"order": 7})
        then(tx)


def check_nothing_was_written(dq: DurableQ) -> None:
    assert ledger(dq) == []
    assert dq.queue("receipts").info().counters.sent == 0
    assert dq.queue("orders").info().counts.in_flight == 1


def stumble(_: Transaction) -> None:
    raise RuntimeError("an accident")


def test_rows_and_the_message_commit_together(dq: DurableQ, orders: Queue) -> None:
    write_and(take(orders))
    assert ledger(dq) == [(7, 120)]
    assert dq.queue("receipts").info().counts.ready == 1
    assert orders.info().counters.completed == 1


def test_tables_are_made_in_the_transaction_too(dq: DurableQ, orders: Queue) -> None:
    def create_and_stumble(tx: Transaction) -> None:
        tx.execute("CREATE TABLE more (n)")
        stumble(tx)

    message = take(orders)
    with pytest.raises(RuntimeError):
        write_and(message, create_and_stumble)
    write_and(message, lambda tx: tx.execute("CREATE TABLE more (n)"))


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (stumble, RuntimeError),
        (lambda tx: tx.execute("INSERT INTO nowhere VALUES (1)"), sa.exc.DBAPIError),
        (lambda tx: tx.execute("INSERT INTO ledger VALUES (8, NULL)"), sa.exc.IntegrityError),
        (lambda tx: tx.execute(7), InvalidInput),
        (lambda tx: tx.execute("SELECT :a", {"a": "\ud800"}), InvalidInput),
        (lambda tx: tx.send("nowhere", 1), UnknownQueue),
        (lambda tx: setattr(tx, "result", {1, 2}), InvalidResult),
    ],
    ids=["handler", "no table", "constraint", "no statement", "surrogate", "no queue", "result"],
)
def test_an_error_undoes_rows_and_message(
    dq: DurableQ, orders: Queue, broken: Any, error: type[Exception]
) -> None:
    message = take(orders)
    with pytest.raises(error):
        write_and(message, broken)
    check_nothing_was_written(dq)
    write_and(message)  # it is still ours
    assert ledger(dq) == [(7, 120)]


def test_a_commit_that_fails_leaves_the_message(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with dq.engine.begin() as connection:
        connection.execute(sa.text(LINE))
    sa.event.listen(
        dq.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON").close()
    )
    with pytest.raises(sa.exc.IntegrityError):
        write_and(message, lambda tx: tx.execute("INSERT INTO line VALUES (1)"))
    check_nothing_was_written(dq)


@pytest.mark.parametrize("ending", ["ROLLBACK", "COMMIT"])
def test_a_statement_that_ends_the_transaction_settles_nothing(
    dq: DurableQ, orders: Queue, ending: str
) -> None:
    def end_it_and_go_on(tx: Transaction) -> None:
        tx.execute(ending)
        with pytest.raises(Conflict, match="ended this transaction"):
            tx.execute(PAY, {"order": 8})
        with pytest.raises(Conflict, match="ended this transaction"):
            tx.send("receipts", {})

    message = take(orders)
    with pytest.raises(Conflict, match="not settled"):
        write_and(message, end_it_and_go_on)
    assert len(ledger(dq)) == (1 if ending == "COMMIT" else 0)
    assert dq.queue("receipts").info().counters.sent == 0
    assert orders.info().counts.in_flight == 1


def test_a_transaction_that_is_over_runs_no_statement(dq: DurableQ, orders: Queue) -> None:
    with take(orders).transaction() as tx:
        pass
    with pytest.raises(Conflict, match="over"):
        tx.execute(PAY, {"order": 7})
    assert ledger(dq) == []


def test_another_thread_runs_no_statement_in_it(orders: Queue) -> None:
    refused: list[str] = []

    def write(tx: Transaction) -> None:
        try:
            tx.execute(PAY, {"order": 8})
        except Conflict as error:
            refused.append(str(error))

    def in_a_thread(tx: Transaction) -> None:
        other = threading.Thread(target=write, args=[tx])
        other.start()
        other.join(timeout=10)

    write_and(take(orders), in_a_thread)
    assert refused == [OTHER_THREAD]


@pytest.mark.parametrize("then", [lambda _: None, stumble], ids=["committed", "undone"])
def test_a_result_that_was_not_read_to_its_end_holds_nothing_back(
    dq: DurableQ, orders: Queue, then: Callable[[Transaction], None]
) -> None:
    half_read: list[Any] = []

    def read_one(tx: Transaction) -> None:
        half_read.append(tx.execute("SELECT 1 UNION ALL SELECT 2"))
        assert half_read[0].fetchone() == (1,)
        then(tx)

    with suppress(RuntimeError):
        write_and(take(orders), read_one)
    with dq.engine.begin() as connection:
        connection.execute(sa.text(PAY), {"order": 9})
    with pytest.raises(sa.exc.ResourceClosedError):
        half_read[0].fetchone()


def test_a_batch_commits_or_fails_as_one(dq: DurableQ, orders: Queue) -> None:
    orders.send({"order": 8})
    batch = Batch(orders.receive(2), dq.store)
    with pytest.raises(RuntimeError):
        write_and(batch, stumble)
    assert ledger(dq) == []
    write_and(batch)
    assert ledger(dq) == [(7, 120)]
    assert orders.info().counters.completed == 2


def test_each_store_in_memory_has_rows_of_its_own(dq: DurableQ, orders: Queue) -> None:
    write_and(take(orders))
    with DurableQ("memory://") as another, another.engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
