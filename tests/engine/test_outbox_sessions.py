"""A SQLAlchemy Session carries a send: the message exists if and only if the rows do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from durableq import Conflict, DurableQ, Queue, Unsupported
from tests.engine import plain
from tests.engine.plain import Place


class Base(orm.DeclarativeBase):
    """The application's classes."""


class Album(Base):
    """A row of an application."""

    __tablename__ = "album"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(unique=True)


@pytest.fixture
def engine(dq: DurableQ) -> sa.Engine:
    engine: sa.Engine = dq.engine
    Base.metadata.create_all(engine)
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
def test_the_commit_of_a_session_keeps_the_row_and_the_message(
    orders: Queue, db: Place, which: str, request: pytest.FixtureRequest
) -> None:
    with orm.Session(request.getfixturevalue(which)) as session:
        session.add(Album(title="Kind of Blue"))
        sent = orders.send({"album": 1}, key="k", connection=session)
        sent_too = orders.send_many([2, 3], connection=session)
        assert counts(db) == (0, 0)
        session.commit()
    assert counts(db) == (1, 3)
    assert [message.id for message in orders.receive(10)] == [sent, *sent_too]
    plain.check_sound(db)


@plain.ON_BOTH
@pytest.mark.parametrize("which", ["engine", "own_engine"])
def test_the_rollback_of_a_session_undoes_both(
    orders: Queue, db: Place, which: str, request: pytest.FixtureRequest
) -> None:
    with orm.Session(request.getfixturevalue(which)) as session:
        orders.send({"album": 1}, connection=session)
        session.add(Album(title="Kind of Blue"))
        session.flush()
        session.rollback()
    with orm.Session(request.getfixturevalue(which)) as session:  # and a close without a commit
        orders.send({"album": 1}, connection=session)
    assert counts(db) == (0, 0)
    plain.check_sound(db)


@plain.ON_BOTH
def test_a_flush_that_fails_undoes_the_message(orders: Queue, db: Place, engine: sa.Engine) -> None:
    with orm.Session(engine) as session:
        session.add_all([Album(title="Blue"), Album(title="Blue")])
        orders.send({"album": 1}, connection=session)
        with pytest.raises(sa.exc.IntegrityError):
            session.commit()
        with pytest.raises(Conflict, match=r"This Session cannot .* rolled back due to a previous"):
            orders.send({"album": 2}, connection=session)
        session.rollback()
        orders.send({"album": 3}, connection=session)
        session.commit()
    assert counts(db) == (0, 1)


@plain.ON_BOTH
def test_a_send_flushes_no_object_of_the_session(orders: Queue, engine: sa.Engine) -> None:
    flushed: list[Any] = []
    with orm.Session(engine) as session:
        sa.event.listen(session, "before_flush", lambda *given: flushed.append(given))
        album = Album(title="Kind of Blue")
        session.add(album)
        orders.send(1, connection=session)
        assert not flushed
        assert album in session.new
        session.commit()
    assert len(flushed) == 1


@plain.ON_BOTH
def test_a_send_in_a_savepoint_is_undone_with_it(
    orders: Queue, db: Place, engine: sa.Engine
) -> None:
    with orm.Session(engine) as session:
        session.add(Album(title="Kind of Blue"))
        first = orders.send(1, connection=session)
        with session.begin_nested() as savepoint:
            session.add(Album(title="Blue"))
            orders.send(2, connection=session)
            savepoint.rollback()
        with session.begin_nested():
            third = orders.send(3, connection=session)
        session.commit()
    assert counts(db) == (1, 2)
    assert [message.id for message in orders.receive(10)] == [first, third]
    plain.check_sound(db)


@plain.ON_BOTH
def test_a_scoped_session_and_a_subclass_carry_a_send(
    orders: Queue, db: Place, engine: sa.Engine
) -> None:
    class OwnSession(orm.Session):
        pass

    scoped = orm.scoped_session(orm.sessionmaker(engine))
    scoped.add(Album(title="Kind of Blue"))
    orders.send(1, connection=scoped)
    scoped.commit()
    scoped.remove()
    with OwnSession(engine) as own, own.begin():
        orders.send(2, connection=own)
    with engine.begin() as connection, orm.Session(connection) as session:
        orders.send(3, connection=session)
    assert counts(db) == (1, 3)


@plain.ON_BOTH
def test_a_session_that_cannot_carry_a_send_is_refused(
    orders: Queue, db: Place, engine: sa.Engine
) -> None:
    closed = orm.Session(engine, close_resets_only=False)
    closed.close()
    by_class = orm.Session(binds={Album: engine})
    committing = plain.engine(db, isolation_level="AUTOCOMMIT")
    cases: list[tuple[orm.Session, type[Exception], str]] = [
        (orm.Session(engine, twophase=True), Unsupported, "commits in two phases"),
        (orm.Session(engine, autobegin=False), Conflict, "Autobegin is disabled"),
        (closed, Conflict, "permanently closed"),
        (by_class, Unsupported, r"connection=session\.connection\(bind_arguments="),
        (orm.Session(), Unsupported, "no engine for all classes"),
        (orm.Session(committing), Conflict, "each statement commits itself"),
    ]
    for session, error, says in cases:
        with pytest.raises(error, match=says):
            orders.send(1, connection=session)
        session.close()
    committing.dispose()
    bound = by_class.connection(bind_arguments={"mapper": Album})
    orders.send(2, connection=bound)
    by_class.commit()
    assert counts(db) == (0, 1)


@pytest.mark.parametrize("db", ["postgres"], indirect=True)
def test_a_connection_in_two_phases_is_refused(orders: Queue, engine: sa.Engine) -> None:
    with engine.connect() as connection, connection.begin_twophase() as transaction:
        with pytest.raises(Unsupported, match="commits in two phases"):
            orders.send(1, connection=connection)
        transaction.rollback()
    assert orders.info().counters.sent == 0


def test_a_session_on_another_database_is_refused(orders: Queue, tmp_path: Path) -> None:
    other = plain.engine(tmp_path / "other.db")
    Base.metadata.create_all(other)
    with orm.Session(other) as session:
        with pytest.raises(Unsupported, match="one transaction cannot hold both"):
            orders.send(1, connection=session)
        session.add(Album(title="Blue"))
        session.commit()  # it goes on
    other.dispose()
    assert plain.one(tmp_path / "other.db", "SELECT count(*) FROM album") == 1
    assert orders.info().counters.sent == 0


@pytest.mark.parametrize("db", ["postgres"], indirect=True)
def test_a_session_that_asyncio_drives_is_refused_with_the_alternative(
    orders: Queue, db: str
) -> None:
    server = db.partition("options=")[0].rstrip("?&")

    async def send_in(run: Callable[[AsyncSession], Any]) -> None:
        engine = create_async_engine(
            "postgresql+psycopg_async://",
            async_creator=lambda: psycopg.AsyncConnection.connect(server),
        )
        try:
            async with AsyncSession(engine) as session:
                await run(session)
        finally:
            await engine.dispose()

    def by_run_sync(session: AsyncSession) -> Any:
        return session.run_sync(lambda inner: orders.send(1, connection=inner))

    with pytest.raises(Unsupported, match=r"AsyncConnection\. Give a Session or .*to_thread"):
        asyncio.run(send_in(by_run_sync))
    assert orders.info().counters.sent == 0
