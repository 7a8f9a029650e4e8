"""Connections that cannot carry a send: each is refused with the reason, and nothing is sent."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import asyncio

from durableq import Conflict, DurableQ, Queue, Unsupported
from durableq.engines.sql import sending
from durableq.engines.sqlite.driver import driver
from tests.engine import plain
from tests.engine.plain import Place
from tests.support import scaled

#: Deadline of a thread on a loaded machine.
DEADLINE_SECONDS = 60


@pytest.fixture
def engine(dq: DurableQ) -> sa.Engine:
    engine: sa.Engine = dq.engine
    return engine


@pytest.fixture
def own_engine(db: Place, engine: sa.Engine) -> Iterator[sa.Engine]:
    """An engine that the application made itself."""
    own = plain.engine(db)
    yield own
    own.dispose()


@plain.ON_BOTH
def test_a_connection_in_autocommit_mode_is_refused(
    orders: Queue, db: Place, engine: sa.Engine, own_engine: sa.Engine
) -> None:
    made_so = plain.engine(db, isolation_level="AUTOCOMMIT")
    engines = [engine, own_engine, own_engine.execution_options(isolation_level="AUTOCOMMIT")]
    for one in (*engines, made_so):
        with one.connect() as opened:
            options: Any = {"isolation_level": "AUTOCOMMIT"} if one in engines[:2] else {}
            connection = opened.execution_options(**options)
            with connection.begin(), pytest.raises(Conflict, match="each statement commits itself"):
                orders.send(1, connection=connection)
    made_so.dispose()
    assert orders.info().counters.sent == 0
    with engine.begin() as connection:
        orders.send(1, connection=connection)
    assert orders.info().counters.sent == 1


@plain.ON_BOTH
def test_a_closed_connection_is_refused(orders: Queue, db: Place, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        pass
    with plain.connection(db) as raw:
        pass
    pooled = engine.raw_connection()
    pooled.close()
    for closed in (connection, raw, pooled):
        with pytest.raises(Conflict, match="This connection is closed"):
            orders.send(1, connection=closed)


@plain.ON_BOTH
def test_a_connection_whose_transaction_is_gone_is_refused(
    orders: Queue, engine: sa.Engine
) -> None:
    with engine.connect() as connection:
        connection.begin()
        connection.invalidate()
        with pytest.raises(Conflict, match="was invalidated"):
            orders.send(1, connection=connection)
    assert orders.info().counters.sent == 0


@plain.ON_BOTH
def test_a_connection_whose_commit_failed_is_refused(
    orders: Queue, engine: sa.Engine, db: Place
) -> None:
    with engine.connect() as connection:
        if isinstance(db, Path):
            raw: Any = connection.connection.driver_connection
            raw.execute("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE child (owner INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.commit()
        connection.exec_driver_sql("INSERT INTO child VALUES (1)")
        with pytest.raises(sa.exc.IntegrityError):
            connection.commit()
        with pytest.raises(Conflict, match=r"failed to commit\. Close the connection"):
            orders.send(1, connection=connection)
    with engine.begin() as connection:
        orders.send(2, connection=connection)
    assert orders.info().counters.sent == 1


@plain.ON_BOTH
def test_a_connection_without_a_transaction_is_refused(orders: Queue, engine: sa.Engine) -> None:
    with engine.begin() as ended:
        ended.rollback()
        with pytest.raises(Conflict, match="No transaction is open on this connection"):
            orders.send(1, connection=ended)
    with engine.connect() as idle, pytest.raises(Conflict, match="No transaction is open"):
        orders.send(1, connection=idle)
    assert orders.info().counters.sent == 0


def test_a_connection_that_the_driver_refuses_is_refused_with_the_drivers_sentence(
    orders: Queue,
) -> None:
    unfinished = driver.Connection.__new__(driver.Connection)
    with pytest.raises(Conflict, match=r"cannot be used: Base Connection\.__init__ not called"):
        orders.send(1, connection=unfinished)
    assert orders.info().counters.sent == 0


@pytest.fixture
def async_engine() -> asyncio.AsyncEngine:
    """An engine of an asyncio driver, none of which is needed: no connection is opened."""
    stub = SimpleNamespace(**vars(driver), has_stop=True)
    return asyncio.create_async_engine("sqlite+aiosqlite://", module=stub)


ASYNC = ("AsyncEngine", "AsyncConnection", "AsyncSession", "async_sessionmaker")


@plain.ON_BOTH
@pytest.mark.parametrize("kind", [*ASYNC, "async_scoped_session"])
def test_an_object_of_sqlalchemys_asyncio_is_refused_with_the_alternative(
    orders: Queue, async_engine: asyncio.AsyncEngine, kind: str
) -> None:
    factory = asyncio.async_sessionmaker(async_engine)
    given = {
        "AsyncEngine": async_engine,
        "AsyncConnection": asyncio.AsyncConnection(async_engine),
        "AsyncSession": factory(),
        "async_sessionmaker": factory,
        "async_scoped_session": asyncio.async_scoped_session(factory, scopefunc=lambda: 1),
    }[kind]
    says = rf"an? {kind}\. Give a Session or a connection without asyncio, .* await asyncio\."
    with pytest.raises(Unsupported, match=says):
        orders.send(1, connection=given)
    assert orders.info().counters.sent == 0


@plain.ON_BOTH
def test_a_factory_an_engine_and_a_cursor_are_refused_with_the_alternative(
    orders: Queue, engine: sa.Engine
) -> None:
    for given, says in (
        (orm.sessionmaker(engine), r"with factory\.begin\(\) as session"),
        (engine, r"with engine\.begin\(\) as connection"),
    ):
        with pytest.raises(Unsupported, match=says):
            orders.send(1, connection=given)
    with engine.begin() as connection:
        raw: Any = connection.connection.driver_connection
        with pytest.raises(Unsupported, match=r"Give cursor\.connection"):
            orders.send(1, connection=raw.cursor())
        orders.send(2, connection=connection.connection)
    assert orders.info().counters.sent == 1


ODD: Sequence[Any] = (0, False, "", "orders", b"x" * 1_000_000, [], object)


@plain.ON_BOTH
@pytest.mark.parametrize("given", ODD, ids=range(7))
def test_an_object_of_another_type_is_refused(orders: Queue, given: Any) -> None:
    with pytest.raises(Unsupported, match="takes a SQLAlchemy connection or Session") as refused:
        orders.send(1, connection=given)
    assert len(str(refused.value)) < 300
    assert orders.info().counters.sent == 0


def in_a_thread(call: Any) -> None:
    """Call a function in another thread, and raise its exception here."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - to be raised again
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(scaled(DEADLINE_SECONDS))
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_a_connection_of_another_thread_is_refused(orders: Queue, db: Place) -> None:
    with plain.connection(db) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(Conflict, match="belongs to another thread"):
            in_a_thread(lambda: orders.send(1, connection=raw))
        orders.send(2, connection=raw)
        raw.execute("COMMIT")
    assert orders.info().counters.sent == 1


@plain.ON_BOTH
def test_a_connection_may_go_from_one_thread_to_the_next(
    orders: Queue, db: Place, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        orders.send(1, connection=connection)
        in_a_thread(lambda: orders.send(2, connection=connection))
    assert orders.info().counters.sent == 2
    plain.check_sound(db)


@plain.ON_BOTH
def test_two_threads_that_send_through_one_connection_at_once_are_noticed(
    orders: Queue, db: Place, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave = threading.Event(), threading.Event()
    send = sending.send

    def slow(unit: Any, queue: str, drafts: Sequence[Any]) -> list[str]:
        if not inside.is_set():  # only the first one waits
            inside.set()
            assert leave.wait(scaled(DEADLINE_SECONDS))
        return send(unit, queue, drafts)

    monkeypatch.setattr(sending, "send", slow)
    with engine.begin() as connection:
        first = threading.Thread(target=lambda: orders.send(1, connection=connection))
        first.start()
        assert inside.wait(scaled(DEADLINE_SECONDS))
        try:
            with pytest.raises(Conflict, match="a connection for each thread"):
                orders.send(2, connection=connection)
        finally:
            leave.set()
            first.join(scaled(DEADLINE_SECONDS))  # before the rollback: two threads would crash
        assert orders.send(3, connection=connection) == "2"
    assert [message.body for message in orders.receive(10)] == [1, 3]
    plain.check_sound(db)


def test_a_connection_may_read_its_rows_in_another_form(orders: Queue, db: Place) -> None:
    def as_dict(cursor: Any, row: Any) -> dict[str, Any]:
        return dict(zip((column[0] for column in cursor.description), row, strict=True))

    with plain.connection(db) as raw:
        raw.row_factory, raw.text_factory = as_dict, bytes
        raw.execute("BEGIN IMMEDIATE")
        orders.send({"a": 1}, connection=raw)
        assert raw.execute("SELECT 'x' AS y").fetchone() == {"y": b"x"}
        raw.execute("COMMIT")
    assert [message.body for message in orders.receive()] == [{"a": 1}]


def test_the_standard_librarys_connection_is_refused_in_any_state(
    orders: Queue, tmp_path: Path
) -> None:
    if driver is sqlite3:
        pytest.skip("it is the driver")
    raw = sqlite3.connect(tmp_path / "standard.db")
    raw.close()
    with pytest.raises(Unsupported, match="two SQLite libraries"):
        orders.send(1, connection=raw)
