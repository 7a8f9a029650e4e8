"""The transactional outbox: a message that exists if and only if your own rows do."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from durableq import (
    Busy,
    Conflict,
    DurableQ,
    InvalidBody,
    Queue,
    StorageFull,
    UnknownQueue,
    Unsupported,
)
from durableq.engines.sqlite.driver import driver
from tests.engine import plain
from tests.engine.plain import Place

albums = sa.Table("album", sa.MetaData(), sa.Column("title", sa.Text, nullable=False))
ALBUM = sa.insert(albums).values(title="Kind of Blue")


@pytest.fixture
def engine(dq: DurableQ) -> sa.Engine:
    engine: sa.Engine = dq.engine
    albums.metadata.create_all(engine)
    return engine


@pytest.fixture
def own_engine(db: Place, engine: sa.Engine) -> Iterator[sa.Engine]:
    """An engine that the application made itself, with SQLAlchemy's defaults."""
    own = plain.engine(db)
    yield own
    own.dispose()


def counts(db: Place) -> tuple[int, int]:
    """Albums and messages in the file."""
    return (
        plain.one(db, "SELECT count(*) FROM album"),
        plain.one(db, "SELECT count(*) FROM durableq_message"),
    )


@plain.ON_BOTH
@pytest.mark.parametrize("which", ["engine", "own_engine"])
def test_a_commit_keeps_the_row_and_the_message(
    orders: Queue, db: Place, which: str, request: pytest.FixtureRequest
) -> None:
    with request.getfixturevalue(which).begin() as connection:
        connection.execute(ALBUM)
        sent = orders.send({"album": 1}, key="k", connection=connection)
        sent_too = orders.send_many([2, 3], connection=connection)
        assert counts(db) == (0, 0)
    assert counts(db) == (1, 3)
    received = orders.receive(10)
    assert [message.id for message in received] == [sent, *sent_too]
    plain.check_sound(db)


@plain.ON_BOTH
@pytest.mark.parametrize("which", ["engine", "own_engine"])
def test_a_rollback_undoes_the_row_and_the_message(
    orders: Queue, db: Place, which: str, request: pytest.FixtureRequest
) -> None:
    with request.getfixturevalue(which).connect() as connection:
        transaction = connection.begin()
        orders.send({"album": 1}, connection=connection)
        connection.execute(ALBUM)
        transaction.rollback()
    assert counts(db) == (0, 0)
    assert orders.info().counters.sent == 0
    assert orders.send("next") == ("1" if isinstance(db, Path) else "2"), "an id was used up"
    plain.check_sound(db)


def send_and_raise(orders: Queue, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(ALBUM)
        orders.send({}, connection=connection)
        raise RuntimeError("an accident")


@plain.ON_BOTH
def test_an_exception_in_the_block_undoes_both(orders: Queue, db: Place, engine: sa.Engine) -> None:
    with pytest.raises(RuntimeError):
        send_and_raise(orders, engine)
    assert counts(db) == (0, 0)


@plain.ON_BOTH
@pytest.mark.parametrize(
    ("queue", "body", "error"),
    [
        ("nowhere", 1, UnknownQueue),
        ("orders-dlq", 1, Conflict),
        ("orders", "long", InvalidBody),
    ],
)
def test_a_refused_send_leaves_the_transaction_usable(
    dq: DurableQ, db: Place, engine: sa.Engine, queue: str, body: object, error: type[Exception]
) -> None:
    orders = dq.queue("orders", max_body_bytes=5)
    with engine.begin() as connection:
        connection.execute(ALBUM)
        with pytest.raises(error):
            Queue(dq, queue).send(body, connection=connection)
        orders.send("ok", connection=connection)
    assert counts(db) == (1, 1)
    plain.check_sound(db)


@plain.ON_BOTH
def test_a_driver_connection_in_a_transaction_is_accepted(orders: Queue, db: Place) -> None:
    with plain.connection(db) as raw:
        raw.execute("BEGIN IMMEDIATE" if isinstance(db, Path) else "BEGIN")
        orders.send(1, connection=raw)
        raw.execute("COMMIT")
    assert orders.info().counts.ready == 1


def test_a_transaction_that_read_an_older_state_is_busy(orders: Queue, db: Place) -> None:
    with plain.connection(db) as raw:
        raw.execute("BEGIN")
        raw.execute("SELECT count(*) FROM durableq_message").fetchone()
        orders.send("in between")
        with pytest.raises(Busy):
            orders.send(1, connection=raw)
        raw.execute("ROLLBACK")
    assert orders.info().counts.ready == 1


def test_a_full_disk_undoes_the_whole_transaction_and_says_so(orders: Queue, db: Place) -> None:
    orders.send("before")
    with plain.connection(db) as raw:
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages + 1}")
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFull):
            orders.send_many(["x" * 5000] * 50, connection=raw)
        assert not raw.in_transaction
    assert orders.info().counts.ready == 1
    plain.check_sound(db)


def test_a_connection_on_another_file_is_refused(orders: Queue, tmp_path: Path) -> None:
    says = r"other\.db, the queue is in .*queue\.db: one"
    with (
        DurableQ(tmp_path / "other.db") as other,
        other.engine.begin() as connection,
        pytest.raises(Unsupported, match=says),
    ):
        orders.send(1, connection=connection)


def test_a_database_in_memory_is_refused(orders: Queue) -> None:
    engine = sa.create_engine("sqlite://", module=driver)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
        with pytest.raises(Unsupported, match="is open on a database in memory"):
            orders.send(1, connection=connection)
    engine.dispose()


@plain.ON_BOTH
def test_a_connection_without_a_transaction_is_refused(
    orders: Queue, db: Place, engine: sa.Engine
) -> None:
    says = "No transaction is open" if isinstance(db, Path) else "in autocommit mode"
    with plain.connection(db) as raw, pytest.raises(Conflict, match=says):
        orders.send(1, connection=raw)
    with engine.connect() as connection, pytest.raises(Conflict, match=r"use engine\.begin\(\)"):
        orders.send(1, connection=connection)
    assert orders.info().counters.sent == 0


def test_another_librarys_connection_is_refused(orders: Queue, tmp_path: Path) -> None:
    """Two libraries on one file would lose each other's locks, so this is another file."""
    other = pytest.importorskip("pysqlite3") if driver.__name__ == "sqlite3" else sqlite3
    raw = other.connect(str(tmp_path / "other.db"))
    ours = re.escape(driver.__name__)
    with pytest.raises(Unsupported, match=rf"and durableq's is {ours}'s.*module={ours}"):
        orders.send(1, connection=raw)
    raw.close()


@plain.ON_BOTH
def test_an_object_that_is_not_a_connection_is_refused(orders: Queue) -> None:
    with pytest.raises(Unsupported):
        orders.send(1, connection="a string")


def test_the_engine_in_memory_has_no_outbox(engine: sa.Engine) -> None:
    queue = DurableQ("memory://").queue("orders")
    with engine.begin() as connection, pytest.raises(Unsupported):
        queue.send(1, connection=connection)
