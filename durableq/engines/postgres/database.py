"""The PostgreSQL database: its pool of connections, its time, and its write lock.

Operations of the shared SQL are written for one writer at a time. Here they hold an advisory lock
of their schema alone; the few hot statements of `hot.py` hold it together
(docs/decisions/0047).
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from durableq.engines.postgres.dialect import dialect, qualified, quoted
from durableq.engines.postgres.driver import Link, connect, driver
from durableq.engines.postgres.errors import UNDONE, first_line, is_lost, translate
from durableq.engines.postgres.location import Location, lock_key
from durableq.engines.postgres.server_clock import ServerClock
from durableq.engines.postgres.session import INSIDE, NOW, Session, values_of
from durableq.engines.sql import hosts, steady_time
from durableq.engines.sql.transactions import RevisionCheck, Transaction, WriteTransaction
from durableq.model.errors import Busy, Conflict, DatabaseUnusable
from durableq.runtime.clock import Clock, Moment, SteadyClock

if TYPE_CHECKING:
    import psycopg

    from durableq.engines.postgres.adapter import SQLAlchemyAdapter

OLDEST_SERVER: Final = 140000
POOL_SIZE: Final = 8
POOL_OVERFLOW: Final = 24
BEGIN_READ: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {NOW}"
#: Attempts of an operation that PostgreSQL undid because of others.
ATTEMPTS: Final = 8
#: A vanished host is noticed within half a minute; the server's defaults take two hours.
_LIVENESS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "connect_timeout": 10,
}

_T = TypeVar("_T")


class Database:
    """One schema of a PostgreSQL database, shared with other processes.

    Args:
        location: its address.
        clock: the source of the time; None means the server's clock.
        rng: numbers in [0, 1) for the backoff's jitter.
    """

    def __init__(
        self,
        location: Location,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.location = location
        #: The server's clock, unless one is injected.
        self.server = ServerClock() if clock is None else None
        self.time = SteadyClock(clock or self.server or ServerClock())
        self.host_id, self.boot_id = self.time.host_id(), self.time.boot_id()
        self.owner_outside = hosts.owner_outside(self.host_id, self.boot_id)
        self.rng = rng
        self.revision_check: RevisionCheck | None = None
        self.pid = os.getpid()
        self._local = threading.local()
        self._adapters: list[SQLAlchemyAdapter] = []
        self.pool = QueuePool(
            self._connect, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, timeout=30
        )
        with self.connected() as (link, _):
            self._look_at(link)

    def _look_at(self, link: Link) -> None:
        """Read what the texts of the statements depend on."""
        connection = link.connection
        if connection.info.server_version < OLDEST_SERVER:
            raise DatabaseUnusable(
                f"{self.location.shown} is PostgreSQL "
                f"{connection.info.server_version // 10000}: durableq needs 14 or newer."
            )
        found, name = link.execute("SELECT current_schema(), current_database()").fetchone()
        schema = self.location.schema or found
        if schema is None:
            raise DatabaseUnusable(
                f"{self.location.shown} has no schema on the search path. Name one: ?schema=name."
            )
        self.schema = schema
        self.dialect = dialect(schema)
        key = lock_key(name, schema)
        self.key = key
        self.channel = f"durableq_{key & (1 << 64) - 1:016x}"
        self.notify = f"NOTIFY {self.channel}"
        self.set_timeout = timeout = f"SET LOCAL lock_timeout = {self.location.busy_timeout_ms}"
        self.take_lock = alone = f"SELECT pg_advisory_xact_lock({key})"
        self.lock_alone = f"{timeout}; {alone}"
        self.begin_alone = f"BEGIN; {timeout}; {alone}; {NOW}"
        tried = NOW.replace("SELECT ", f"SELECT pg_try_advisory_xact_lock({key}), ", 1)
        self.try_alone = f"BEGIN; {timeout}; {tried}"
        self.commit = f"{self.notify}; COMMIT"

    @property
    def adapter(self) -> SQLAlchemyAdapter:
        """SQLAlchemy on this database, made at its first use."""
        if not self._adapters:
            from durableq.engines.postgres.adapter import SQLAlchemyAdapter

            self._adapters.append(SQLAlchemyAdapter(self))
        return self._adapters[0]

    def in_schema(self, text: str) -> str:
        """Return a text with durableq's tables in this schema."""
        return qualified(text, self.schema)

    @property
    def quoted_schema(self) -> str:
        """The schema as an identifier."""
        return quoted(self.schema)

    # ---- connections

    def _connect(self) -> Any:
        options = "-c client_connection_check_interval=200"
        try:
            return connect(self.location.conninfo, options=options, **_LIVENESS)
        except driver.Error as error:
            raise translate(error, self.location.shown) or DatabaseUnusable(
                f"{self.location.shown} cannot be reached ({first_line(error)})."
            ) from error

    @contextmanager
    def connected(self) -> Iterator[tuple[Link, PoolProxiedConnection]]:
        """Take a connection of the pool for a block; one that was lost is not put back.

        Raises:
            Busy: none is free in time.
        """
        if self.pid != os.getpid():
            self._forget_parent()
        try:
            pooled = self.pool.connect()
        except sqlalchemy.exc.TimeoutError as error:
            raise Busy(
                f"All {POOL_SIZE + POOL_OVERFLOW} connections of this process to "
                f"{self.location.shown} are in use. Nothing was stored; try again, or use fewer "
                "threads."
            ) from error
        link = None
        try:
            info = pooled.record_info
            assert info is not None  # noqa: S101 - it is None for a detached connection only
            link = info.get("link")
            if link is None:
                link = info["link"] = Link(pooled.driver_connection)  # type: ignore[arg-type]
            yield link, pooled
        finally:
            if link is None or link.connection.closed or link.in_transaction:
                pooled.invalidate()
            pooled.close()

    def listen(self) -> psycopg.Connection[Any]:
        """Open a connection that is notified of writes."""
        connection: psycopg.Connection[Any] = self._connect()
        connection.execute(f"LISTEN {self.channel}", prepare=False)
        return connection

    def _forget_parent(self) -> None:
        """Leave the parent's connections alone, and open others."""
        self.pid = os.getpid()
        self._local = threading.local()
        self.pool = self.pool.recreate()

    # ---- transactions

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a read transaction, in which all statements see one state.

        Inside a transaction of user code, it reads what that has written.
        """
        if self.inside is not None:
            yield self.inside
            return
        with self.connected() as (link, _):
            tx = Transaction(link, self.dialect)
            tx.execute = link.execute_next
            try:
                (now_ms,) = values_of(link.execute_text(BEGIN_READ, prepare=False))
                tx.set_time(self.moment(now_ms))
                if self.time.is_due():
                    tx.set_time(steady_time.follow(tx, self.time))
                    tx.set_time(self.moment(now_ms))
                yield tx
                link.execute_text("COMMIT", prepare=False)
            except driver.Error as error:
                raise translate(error, self.location.shown) or error from error
            finally:
                if not link.connection.closed and link.in_transaction:
                    link.execute_text("ROLLBACK", prepare=False)

    def moment(self, now_ms: int) -> Moment:
        """Return the time of a transaction: the server's, or that of an injected clock.

        Steady time is protected from jumps of the server's clock by this machine's boot clock.
        Leases count on the server's clock alone, which all hosts share.

        Args:
            now_ms: the server's clock.
        """
        if self.server is None:
            return self.time.moment()
        self.server.observe(now_ms)
        return self.time.moment()._replace(lease_ms=now_ms)

    @contextmanager
    def write(self, *, patient: bool = True) -> Iterator[Session]:
        """Open a write transaction alone.

        Raises:
            Busy: others wrote for the whole wait, or `patient` is False and another writes.
            Conflict: this thread is inside `message.transaction()`.
            OutcomeUnknown: the connection was lost at COMMIT.
        """
        with self.session() as session:
            try:
                session.begin(patient=patient)
                yield session
                session.commit()
            except BaseException as error:
                session.undo()
                meaning = session.meaning(error)
                if meaning is error:
                    raise
                raise meaning from error

    def join(self, connection: Any) -> AbstractContextManager[WriteTransaction]:
        """Take part in a caller's open transaction on this database; see `joining.join`."""
        from durableq.engines.postgres.joining import join  # it imports this module

        return join(self, connection)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Take a connection for the transactions of a block."""
        if self.inside is not None:
            raise Conflict(INSIDE)
        with self.connected() as (link, pooled):
            info: Any = pooled.record_info
            session = info.get("session")
            if session is None:
                session = info["session"] = Session(self, link)
            yield session

    def run(self, operation: Callable[..., _T], *arguments: Any) -> _T:
        """Run an operation in a write transaction; again if PostgreSQL undid it.

        A connection that was lost before COMMIT stored nothing, so the operation is run once more
        on another one: a restarted server is met so.

        Args:
            operation: is called with the transaction and the arguments.
            arguments: the others.

        Raises:
            Busy, Conflict, …: as for `write`.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.write() as tx:
                    return operation(tx, *arguments)
            except (Busy, DatabaseUnusable) as error:
                cause = error.__cause__
                is_undone = getattr(cause, "sqlstate", None) in UNDONE
                if attempt == ATTEMPTS or not (is_undone or (is_lost(cause) and attempt == 1)):
                    raise
        raise AssertionError("unreachable")

    @property
    def inside(self) -> Session | None:
        """The session in which this thread runs a transaction of user code."""
        found: Session | None = getattr(self._local, "inside", None)
        return found

    @inside.setter
    def inside(self, session: Session | None) -> None:
        self._local.inside = session

    def close(self) -> None:
        """Close this process's connections."""
        if self.pid == os.getpid():
            self.pool.dispose()
