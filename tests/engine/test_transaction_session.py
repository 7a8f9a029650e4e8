"""tx.session: an ORM Session in message.transaction(), whose effects are part of its commit."""
# ruff: noqa: PT012 - an error at the end of a transaction needs the transaction in the block

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from durableq import Conflict, Delivery, DurableQ, Queue, StaleReceipt, StorageFull
from tests.engine import plain
from tests.engine.plain import Place
from tests.support import scaled


class Base(orm.DeclarativeBase):
    """The application's classes."""


class Payment(Base):
    """A row of an application."""

    __tablename__ = "payment"
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    amount: orm.Mapped[int] = orm.mapped_column(default=0)


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def dq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableQ]:
    """An application on each engine."""
    url = "memory://" if request.param == "memory" else str(tmp_path / "queue.db")
    if request.param == "postgres":
        server, _, name = request.getfixturevalue("postgres_url").rpartition("schema=")
        url = f"{server}options=-csearch_path%3D{name}&schema={name}"
    with DurableQ(url) as dq:
        dq.init()
        Base.metadata.create_all(dq.engine)
        yield dq


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    orders = dq.queue("orders", backoff_base=0)
    dq.queue("receipts")
    orders.send({"order": 7}, key="order-7")
    return orders


def take(queue: Queue) -> Delivery:
    (message,) = queue.receive()
    return message


def payments(dq: DurableQ) -> list[tuple[int, int]]:
    with dq.engine.connect() as connection:
        rows = connection.execute(sa.select(Payment.number, Payment.amount))
        return sorted((number, amount) for number, amount in rows)


def test_pending_objects_commit_with_the_message(dq: DurableQ, orders: Queue) -> None:
    with take(orders).transaction() as tx:
        payment = Payment(number=7, amount=120)
        tx.session.add(payment)
        tx.send("receipts", {"order": 7})
        tx.execute("INSERT INTO payment VALUES (8, 5)")
        assert tx.session is tx.session
        assert tx.session.get(Payment, 8).amount == 5
    assert payments(dq) == [(7, 120), (8, 5)]
    assert (payment.number, payment.amount) == (7, 120), "detached, with its loaded values"
    assert [message.body for message in dq.queue("receipts").receive()] == [{"order": 7}]
    assert orders.info().counters.completed == 1


def test_an_exception_undoes_the_flushed_rows_and_the_message(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with pytest.raises(ZeroDivisionError), message.transaction() as tx:
        tx.session.add(Payment(number=7))
        tx.session.flush()
        tx.session.add(Payment(number=8))
        _ = 1 / 0
    assert payments(dq) == []
    with message.transaction() as tx, tx.session as session:
        session.add(Payment(number=7, amount=1))
    assert payments(dq) == [(7, 1)]


def test_a_flush_that_fails_at_the_end_undoes_everything(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with pytest.raises(sa.exc.IntegrityError), message.transaction() as tx:
        tx.execute("INSERT INTO payment VALUES (7, 1)")
        tx.session.add(Payment(number=7))
    assert payments(dq) == []
    assert orders.info().counters.completed == 0
    message.complete()


def test_a_failed_flush_that_user_code_ignores_commits_nothing(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    says = r"A flush of tx\.session has failed"
    with pytest.raises(Conflict, match=says), message.transaction() as tx:
        tx.session.add(Payment(number=6))
        tx.session.flush()
        tx.session.expunge_all()
        tx.session.add(Payment(number=6))
        with pytest.raises(sa.exc.IntegrityError):
            tx.session.flush()
    assert payments(dq) == []
    assert orders.info().counters.completed == 0


def test_a_savepoint_lets_a_flush_fail(dq: DurableQ, orders: Queue) -> None:
    with take(orders).transaction() as tx:
        tx.session.add(Payment(number=7, amount=1))
        with pytest.raises(sa.exc.IntegrityError), tx.session.begin_nested():
            tx.session.execute(sa.insert(Payment).values(number=7, amount=2))
        tx.session.add(Payment(number=8))
    assert payments(dq) == [(7, 1), (8, 0)]
    assert orders.info().counters.completed == 1


def test_savepoints_that_are_left_open_are_kept(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with message.transaction() as tx:
        tx.session.begin_nested()
        tx.session.add(Payment(number=7))
        tx.session.begin_nested()
        tx.session.add(Payment(number=8))
        tx.execute("INSERT INTO payment VALUES (9, 5)")
        tx.send("receipts", {"order": 7})
    assert payments(dq) == [(7, 0), (8, 0), (9, 5)]
    assert dq.queue("receipts").info().counts.ready == 1
    assert message.settled


def test_a_flush_that_fails_in_an_open_savepoint_undoes_everything(
    dq: DurableQ, orders: Queue
) -> None:
    message = take(orders)
    with pytest.raises(sa.exc.IntegrityError), message.transaction() as tx:
        tx.execute("INSERT INTO payment VALUES (7, 1)")
        tx.session.begin_nested()
        tx.session.add(Payment(number=7))
    assert payments(dq) == []
    assert not message.settled
    message.complete()


ENDS: dict[str, Callable[[orm.Session], object]] = {
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "begin": lambda session: session.begin(),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_session_cannot_end_the_transaction(dq: DurableQ, orders: Queue, name: str) -> None:
    with take(orders).transaction() as tx:
        tx.session.add(Payment(number=7))
        with pytest.raises(Conflict, match=rf"Leave out {name}\(\)"):
            ENDS[name](tx.session)
    assert payments(dq) == [(7, 0)]


def test_a_session_that_is_kept_writes_nothing_later(dq: DurableQ, orders: Queue) -> None:
    with take(orders).transaction() as tx:
        kept = tx.session
    with pytest.raises(Conflict, match="over"):
        _ = tx.session
    orders.send({"order": 8})
    with take(orders).transaction() as other:
        other.session.add(Payment(number=8))
        with pytest.raises(sa.exc.InvalidRequestError, match="permanently closed"):
            kept.add(Payment(number=7))
        with pytest.raises((sa.exc.InvalidRequestError, Conflict)):
            kept.execute(sa.insert(Payment).values(number=7))
    assert payments(dq) == [(8, 0)]


def test_another_thread_writes_nothing_in_it(dq: DurableQ, orders: Queue) -> None:
    refused: list[Exception] = []

    def write(session: orm.Session) -> None:
        try:
            session.execute(sa.insert(Payment).values(number=1))
        except Conflict as error:
            refused.append(error)

    with take(orders).transaction() as tx:
        thread = threading.Thread(target=write, args=(tx.session,))
        thread.start()
        thread.join(scaled(60))
    assert len(refused) == 1
    assert payments(dq) == []


def test_a_statement_that_ends_the_transaction_is_noticed(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with pytest.raises(Conflict, match="ended"), message.transaction() as tx:
        tx.session.execute(sa.text("ROLLBACK"))
        tx.session.add(Payment(number=7))
    assert payments(dq) == []
    assert orders.info().counters.completed == 0


def test_a_stale_receipt_undoes_the_rows_of_the_session(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    message.complete()
    with pytest.raises(StaleReceipt), message.transaction() as tx:
        tx.session.add(Payment(number=7))
    assert payments(dq) == []


@pytest.mark.parametrize("dq", ["sqlite"], indirect=True)
def test_a_full_disk_is_not_the_fault_of_a_flush(dq: DurableQ, orders: Queue) -> None:
    message = take(orders)
    with pytest.raises(StorageFull), message.transaction() as tx:
        raw: Any = tx.session.connection().connection.driver_connection
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count = {pages}")
        tx.session.add_all([Payment(number=number) for number in range(10_000)])
    assert payments(dq) == []


@plain.ON_BOTH
def test_the_applications_own_errors_on_the_engine_are_sqlalchemys(db: Place) -> None:
    with DurableQ(db) as dq, dq.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.close()
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT 1"))
