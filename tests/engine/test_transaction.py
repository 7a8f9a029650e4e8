"""message.transaction() on a file: effect, record, acknowledgement and sends are one commit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from durableq import (
    Batch,
    Conflict,
    Delivery,
    DurableQ,
    InvalidResult,
    Queue,
    StaleReceipt,
    StorageFull,
    Transaction,
    UnknownQueue,
)
from durableq.engines.sqlite.driver import driver
from durableq.store.core import Capability
from tests.engine import plain
from tests.engine.plain import Place
from tests.support import wait_for

ledger = sa.Table(
    "ledger",
    sa.MetaData(),
    sa.Column("order_id", sa.Integer, nullable=False),
    sa.Column("paid", sa.Integer),
)
MANY = {"many": json.dumps([0] * 20_000)}
PAID = sa.insert(ledger).values(order_id=7, paid=120)


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    ledger.metadata.create_all(dq.engine)
    dq.queue("receipts")
    orders = dq.queue("orders")
    orders.send({"order": 7}, key="order-7")
    return orders


def take(queue: Queue) -> Delivery:
    (message,) = queue.receive()
    return message


def write_and(message: Delivery | Batch, then: Callable[[Transaction], object]) -> None:
    """Write an effect and a follow-up message, then call a function before the commit."""
    with message.transaction() as tx:
        tx.execute(PAID)
        tx.send("receipts", {"order": 7})
        then(tx)


def stumble(_: Transaction) -> None:
    raise RuntimeError("an accident")


def write(message: Delivery) -> str:
    """Everything a handler can write."""
    with message.transaction() as tx:
        tx.execute(PAID)
        tx.execute("INSERT INTO ledger VALUES (:order, 0)", {"order": 8})
        tx.result = {"paid": 120}
        return tx.send("receipts", {"order": 7}, key="r-7")


def written(db: Place) -> dict[str, Any]:
    """Return the content of the file as a plain connection sees it."""
    return {
        "ledger": plain.rows(db, "SELECT order_id, paid FROM ledger ORDER BY order_id"),
        "orders": plain.counters(db, "orders")["completed"],
        "receipts": plain.counters(db, "receipts")["sent"],
        "record": plain.rows(db, "SELECT status, result FROM durableq_idempotency"),
        "messages": plain.column(db, "SELECT body FROM durableq_message ORDER BY id"),
    }


ORDER, RECEIPT = '{"order":7}', '{"order":7}'
BEFORE = {
    "ledger": [],
    "orders": 0,
    "receipts": 0,
    "record": [(0, None)],
    "messages": [ORDER],
}
AFTER = {
    "ledger": [(7, 120), (8, 0)],
    "orders": 1,
    "receipts": 1,
    "record": [(1, '{"paid":120}')],
    "messages": [RECEIPT],
}


@plain.ON_BOTH
def test_all_of_it_commits_together(dq: DurableQ, orders: Queue, db: Place) -> None:
    message = take(orders)
    sent = write(message)
    assert message.settled
    assert written(db) == AFTER
    assert take(dq.queue("receipts")).id == sent
    plain.check_sound(db)


@plain.ON_BOTH
def test_nothing_is_seen_before_the_commit(orders: Queue, db: Place) -> None:
    message = take(orders)
    with message.transaction() as tx:
        tx.execute(PAID)
        tx.send("receipts", {})
        assert written(db) == BEFORE
        assert not message.settled


@plain.ON_BOTH
def test_an_exception_inside_undoes_all_of_it(orders: Queue, db: Place) -> None:
    message = take(orders)
    with pytest.raises(RuntimeError):
        write_and(message, stumble)
    assert written(db) == BEFORE
    assert not message.settled
    write(message)  # it is still ours
    assert written(db) == AFTER


@plain.ON_BOTH
@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (lambda tx: tx.execute("INSERT INTO nowhere VALUES (1)"), sa.exc.DBAPIError),
        (lambda tx: tx.execute("INSERT INTO ledger VALUES (NULL, 1)"), sa.exc.IntegrityError),
        (lambda tx: tx.send("nowhere", 1), UnknownQueue),
        (lambda tx: setattr(tx, "result", {1, 2}), InvalidResult),
    ],
    ids=["no such table", "constraint", "no such queue", "result"],
)
def test_a_statement_that_fails_undoes_all_of_it(
    orders: Queue, db: Place, broken: Any, error: type[Exception]
) -> None:
    message = take(orders)
    with pytest.raises(error):
        write_and(message, broken)
    assert written(db) == BEFORE
    write(message)
    assert written(db) == AFTER


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("SELECT 1 AS one, 'x' AS \"a.b\"", None),
        ("SELECT :a, :b, :a", {"a": 1, "b": None, "unused": 2}),
        ("SELECT :only", {"only": b"bytes"}),
        ("SELECT '\\:x', ':x', \"order_id\" FROM ledger WHERE paid = :paid", {"paid": 1, "x": 7}),
        ("SELECT :a", None),
        ("SELECT :a", {}),
        ("SELECT :a", {"b": 1}),
        ("SELECT :a", ["b"]),
        ("SELECT ?", (1,)),
        ("SELECT :a", [{"a": 1}]),
        ("SELECT :a", {"a": object()}),
        ("INSERT INTO ledger VALUES (:o, :p)", [{"o": 1, "p": 2}, {"o": 3, "p": 4}]),
        ("INSERT INTO ledger VALUES (:o, :p)", [{"o": 1, "p": 2}, {"o": 3}]),
        ("INSERT INTO ledger VALUES (:o, :p)", [{"o": 1, "p": 2}, "op"]),
        ("INSERT INTO ledger VALUES (1, 2), (3, 4) RETURNING paid", {}),
        ("UPDATE ledger SET paid = paid + :more", {"more": 1}),
        ("", None),
        ("INSERT INTO ledger VALUES (1, 2)", [(1,), (2,)]),
        ("INSERT INTO ledger VALUES (1, 2)", ["a", "b"]),
    ],
)
def test_sql_text_has_the_meaning_that_sqlalchemy_gives_it(
    dq: DurableQ, orders: Queue, text: str, parameters: Any
) -> None:
    """The values of a text go to the driver without SQLAlchemy's compilation."""

    def seen(execute: Callable[..., Any]) -> Any:
        try:
            result = execute(text, parameters)
            if result.returns_rows:
                return [*result.keys()], [tuple(row) for row in result]
            return result.rowcount
        except sa.exc.SQLAlchemyError as error:
            return type(error), str(error)

    with take(orders).transaction() as tx:
        ours = seen(tx.execute)
        written = tx.execute("SELECT * FROM ledger").fetchall()
        tx.execute("DELETE FROM ledger")
    with dq.engine.begin() as connection:
        theirs = seen(lambda text, values: connection.execute(sa.text(text), values))
        assert (ours, written) == (theirs, connection.execute(sa.select(ledger)).fetchall())


@pytest.mark.parametrize(
    ("db", "ending"),
    [
        *itertools.product(plain.ENGINES, ["ROLLBACK", "COMMIT"]),
        ("sqlite", "INSERT OR ROLLBACK INTO once VALUES (1)"),
    ],
    indirect=["db"],
)
def test_a_statement_that_ends_the_transaction_settles_nothing(
    dq: DurableQ, orders: Queue, db: Place, ending: str
) -> None:
    with dq.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE once (number INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO once VALUES (1)"))

    def end_it_and_go_on(tx: Transaction) -> None:
        with suppress(sa.exc.IntegrityError):
            tx.execute(ending)
        with pytest.raises(Conflict, match="ended this transaction"):
            tx.execute(PAID)
        with pytest.raises(Conflict, match="ended this transaction"):
            tx.send("receipts", {})

    message = take(orders)
    with pytest.raises(Conflict, match="not settled"):
        write_and(message, end_it_and_go_on)
    after = written(db)
    assert after["record"] == [(0, None)]
    assert after["orders"] == 0
    assert len(after["ledger"]) == (1 if ending == "COMMIT" else 0)
    write(message)  # it is still ours


@plain.ON_BOTH
def test_a_transaction_used_after_its_block_blocks_no_other(orders: Queue) -> None:
    message = take(orders)
    with message.transaction() as tx:
        tx.execute(PAID)
    with pytest.raises(Conflict, match="over"):
        tx.execute("SELECT count(*) FROM ledger")
    orders.send({})


@plain.ON_BOTH
@pytest.mark.parametrize("then", [lambda _: None, stumble], ids=["committed", "undone"])
def test_a_result_that_was_not_read_to_its_end_holds_nothing_back(
    orders: Queue, db: Place, then: Callable[[Transaction], None]
) -> None:
    half_read: list[Any] = []

    def read_one(tx: Transaction) -> None:
        half_read.append(tx.execute("SELECT 1 UNION ALL SELECT 2"))
        assert half_read[0].fetchone() == (1,)
        then(tx)

    with suppress(RuntimeError):
        write_and(take(orders), read_one)
    with DurableQ(db) as another:
        another.queue("orders").send({})
    orders.send({})  # its view of the file would be too old
    with pytest.raises(sa.exc.ResourceClosedError):
        half_read[0].fetchone()


@pytest.mark.parametrize(
    "write_much",
    [
        lambda tx: tx.execute("INSERT INTO ledger SELECT value, 0 FROM json_each(:many)", MANY),
        lambda tx: tx.send("receipts", "x" * 100_000),
    ],
    ids=["effect", "follow-up"],
)
def test_a_full_disk_is_not_the_messages_fault(
    dq: DurableQ, orders: Queue, db: Place, write_much: Callable[[Transaction], object]
) -> None:
    message = take(orders)
    store: Any = dq.store
    raw = store._database.session().raw
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull, match="make room, try again"):
        write_and(message, write_much)
    raw.execute("PRAGMA max_page_count = 4294967294")
    assert written(db) == BEFORE
    write(message)


@pytest.mark.parametrize("mode", ["rw", "ro"], ids=["locked", "read-only"])
def test_an_error_of_another_database_fails_the_message(
    orders: Queue, db: Place, tmp_path: Path, mode: str
) -> None:
    """As Busy it would not count, so that a message that always fails would be tried for ever."""
    other, insert = tmp_path / "other.db", "INSERT INTO elsewhere VALUES (1)"
    other.touch()
    with plain.connection(other) as owner_id:
        owner_id.execute("CREATE TABLE elsewhere (n INTEGER)")
        owner_id.execute("BEGIN EXCLUSIVE" if mode == "rw" else "SELECT 1")
        theirs = driver.connect(f"file:{other}?mode={mode}", uri=True, timeout=0)
        connection = sa.create_engine("sqlite://", module=driver, creator=lambda: theirs).connect()
        message = take(orders)
        with pytest.raises(driver.OperationalError, match=r"locked|readonly"):
            write_and(message, lambda _: theirs.execute(insert))
        with pytest.raises(sa.exc.OperationalError, match=r"locked|readonly"):
            write_and(message, lambda _: connection.execute(sa.text(insert)))
        connection.close()
        theirs.close()
    assert written(db) == BEFORE
    write(message)


@plain.ON_BOTH
def test_a_receipt_that_is_stale_at_the_start_is_refused(orders: Queue, db: Place) -> None:
    message = take(orders)
    message.extend(0.001)
    (other,) = wait_for(orders.receive)
    with pytest.raises(StaleReceipt, match="given to another worker"):
        write(message)
    assert written(db) == BEFORE
    write(other)
    assert written(db) == AFTER
    with pytest.raises(StaleReceipt, match="has ended"):
        write(message)
    assert written(db) == AFTER


@plain.ON_BOTH
def test_a_receipt_that_is_stale_at_the_end_undoes_the_transaction(
    orders: Queue, db: Place
) -> None:
    """No process can take a lease over meanwhile; the transaction itself can end the message."""
    message = take(orders)
    take_over = "UPDATE durableq_message SET receipt = :another WHERE state = 1"
    with pytest.raises(StaleReceipt):
        write_and(message, lambda tx: tx.execute(take_over, {"another": bytes(16)}))
    assert written(db) == BEFORE
    assert not message.settled


@plain.ON_BOTH
def test_calls_around_the_transaction_are_refused_inside_it(
    dq: DurableQ, orders: Queue, db: Place
) -> None:
    message = take(orders)
    receipts = dq.queue("receipts")
    for call in (
        lambda: receipts.send(1),
        orders.receive,
        message.complete,
        dq.store.require(Capability.MAINTENANCE).prune,
    ):
        with pytest.raises(Conflict, match=r"use tx\.send and tx\.execute there"):
            write_and(message, lambda _, call=call: call())  # type: ignore[misc]
        assert written(db) == BEFORE
    with message.transaction():
        assert receipts.info().counts.ready == 0, "asking is allowed"


def test_a_refused_call_leaves_the_reading_of_texts_as_it_was(dq: DurableQ, orders: Queue) -> None:
    """The calls of one message use another decoder, which fails at what is not UTF-8."""
    with take(orders).transaction() as tx:
        with pytest.raises(Conflict):
            dq.queue("receipts").send(1)
        assert tx.execute("SELECT CAST(x'ff41' AS TEXT)").scalar_one() == "\udcffA"


@plain.ON_BOTH
def test_a_send_before_the_first_statement_commits_with_it(orders: Queue, db: Place) -> None:
    """SQLAlchemy, which nothing has needed before, joins the transaction that is open by then."""
    with DurableQ(db) as another:
        with take(another.queue("orders")).transaction() as tx:
            tx.send("receipts", 1)
            tx.execute(PAID)
        assert another.queue("receipts").info().counts.ready == 1


@plain.ON_BOTH
def test_a_duplicate_is_given_the_result_of_the_transaction(dq: DurableQ, orders: Queue) -> None:
    write(take(orders))
    orders.send({"order": 7}, key="order-7")
    (duplicate,) = dq.store.receive("orders", 1).duplicates
    assert (duplicate.key, duplicate.result) == ("order-7", '{"paid":120}')


@plain.ON_BOTH
def test_a_batch_commits_or_fails_as_one(dq: DurableQ, orders: Queue, db: Place) -> None:
    orders.send({"order": 8})
    orders.send({"order": 9})
    batch = Batch(orders.receive(3), dq.store)
    with pytest.raises(RuntimeError):
        write_and(batch, stumble)
    assert written(db)["ledger"] == []
    batch.fail(batch[1], "not this one")
    batch.set_result(batch[0], "first")
    with batch.transaction() as tx:
        tx.execute(PAID)
    assert written(db)["ledger"] == [(7, 120)]
    assert written(db)["record"] == [(1, '"first"')]
    info = orders.info()
    assert (info.counters.completed, info.counts.present) == (2, 1)
    assert [
        event.error_message
        for event in dq.store.require(Capability.DEAD_LETTERS).history(batch[1].id)
    ] == ["not this one"]
    plain.check_sound(db)


@plain.ON_BOTH
def test_one_stale_receipt_undoes_the_batchs_transaction(
    dq: DurableQ, orders: Queue, db: Place
) -> None:
    orders.send({"order": 8})
    batch = Batch(orders.receive(2), dq.store)
    batch[1].release()
    batch[1].settled = False
    with pytest.raises(StaleReceipt):
        write_and(batch, lambda _: None)
    assert written(db)["ledger"] == []
    assert batch.settle() == [batch[1]], "without writes the others go through"
    assert orders.info().counters.completed == 1


IMPORTED_FIRST = """
import sys
from durableq import DurableQ

dq = DurableQ(sys.argv[1])
(message,) = dq.queue("orders").receive()
assert "sqlalchemy" not in sys.modules
with message.transaction():
    assert "sqlalchemy" in sys.modules
"""


def test_sqlalchemy_is_imported_before_the_write_lock_is_taken(dq: DurableQ, orders: Queue) -> None:
    orders.send(1)
    command = [sys.executable, "-c", IMPORTED_FIRST, dq.url]
    subprocess.run(command, check=True)
