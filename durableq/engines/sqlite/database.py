"""The SQLite file: connections, transactions, errors.

Each choice here answers a measured failure; docs/DESIGN.md names it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from durableq.engines.sql.dialect import Statements
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import copy_marker, joining
from durableq.engines.sqlite.checkpoints import IS_GUARDED, Checkpointer, guard, set_pragma
from durableq.engines.sqlite.dialect import DIALECT
from durableq.engines.sqlite.driver import check_library, driver
from durableq.engines.sqlite.errors import code_of, translate
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.open_files import OpenFile, create
from durableq.model.errors import (
    Busy,
    Conflict,
    DatabaseReplaced,
    DatabaseUnusable,
    InvalidInput,
    OutcomeUnknown,
    StorageFull,
    Unsupported,
)

#: Short, because no signal is handled while the driver waits; `retrying` waits longer.
DRIVER_TIMEOUT_SECONDS: Final = 0.1
#: Never deferred: a transaction that reads, then writes, fails if another wrote in between.
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"
STATEMENT_CACHE: Final = 256
JOURNAL_SIZE_LIMIT: Final = 16 << 20

_T = TypeVar("_T")
#: Connections that a forked child inherited. Closing one would harm the parent, so none is closed.
_ABANDONED: list[Any] = []


def driver_version() -> str:
    """Return the version of the SQLite library in use."""
    return str(driver.sqlite_version)


class _Session:
    """One thread's connection, and the process it belongs to."""

    __slots__ = ("is_open", "pid", "raw", "sqlalchemy", "thread")

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self.sqlalchemy = connection
        self.raw: Any = connection.connection.driver_connection
        self.pid = os.getpid()
        self.thread = threading.current_thread()
        self.is_open = True


class Database:
    """One SQLite file, shared with other processes: a connection per thread, none across a fork.

    Args:
        location: where, and how durable.
    """

    def __init__(self, location: Location) -> None:
        check_library(driver.sqlite_version_info)
        copy_marker.recover(location.path)
        location.check()
        self.location = location
        self.statements = Statements(DIALECT)
        # The sessions of all threads; each change is one atomic step. A forked child would close
        # a session that is missing here: the thread-local memory of other threads is freed there.
        self._sessions: list[_Session] = []
        self._local = threading.local()
        self.file = OpenFile(location)
        self._check_revision: Callable[[Any], None] | None = None
        self.checkpointer = Checkpointer(location.path, self._open)
        self.engine = sqlalchemy.create_engine(
            "sqlite://", module=driver, creator=self._connect, poolclass=NullPool
        )
        event.listen(self.engine, "begin", self._on_begin)
        event.listen(self.engine, "commit", self._on_commit)
        for closing in ("close", "close_detached"):
            event.listen(self.engine, closing, self._on_close)

    def session(self) -> _Session:
        """Return this thread's connection, opening it if need be."""
        session: _Session | None = getattr(self._local, "session", None)
        if session is None or session.pid != os.getpid() or not session.is_open:
            session = self._open_session()
        return session

    @contextmanager
    def write(self, *, patient: bool = True) -> Iterator[Transaction]:
        """Run a write transaction: `BEGIN IMMEDIATE`, and COMMIT at the end.

        Args:
            patient: wait for other processes; otherwise Busy is raised after a tenth of a second.

        Raises:
            Busy: the lock was not to be had in time.
            Conflict: this thread has another write transaction open on the file.
            OutcomeUnknown: COMMIT failed.
            StorageFull: there was no room; nothing was stored.
            DatabaseReplaced: the file or its log is no longer the one that was opened.
            NewerDatabase, OlderDatabase: it was migrated while it was open.
        """
        session = self.session()
        raw = session.raw
        if raw.in_transaction:
            raise Conflict(
                "This thread is inside message.transaction(): use tx.send and tx.execute there, "
                "or make this call before or after it."
            )
        self._begin(session, patient=patient)
        try:
            try:
                if self._check_revision is not None:
                    self._check_revision(raw)
                yield Transaction(raw, self.statements)
                self._commit(raw)
            finally:
                _undo(raw)  # nothing after the commit; without it the lock would stay for ever
        except driver.Error as error:
            stuck = raw.in_transaction
            if stuck or code_of(error) == driver.SQLITE_READONLY:
                self._part_with(session)
            raise translate(error, self.location.path, undone=not stuck) or error from error
        except DatabaseReplaced:
            self._save_log(raw)
            raise

    def _begin(self, session: _Session, *, patient: bool) -> None:
        self.file.use(session.raw)
        try:
            self.retrying(lambda: session.raw.execute(BEGIN_WRITE), patient=patient)
        except DatabaseUnusable:
            self._part_with(session)  # the next call opens another one
            raise

    def _save_log(self, raw: Any) -> None:
        """Bring the commits of a removed log into the file: only its users still have them."""
        if self.file.log_is_missing() and not IS_GUARDED:
            with suppress(driver.Error):
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    @contextmanager
    def write_with_sqlalchemy(self) -> Iterator[tuple[Transaction, sqlalchemy.Connection]]:
        """Run a write transaction that user code may join through SQLAlchemy."""
        session = self.session()
        joined = None
        try:
            with self.write() as tx:
                joined = session.sqlalchemy.begin()  # our listener sees the open transaction
                yield tx, session.sqlalchemy
        finally:
            if joined is not None:
                joined.close()  # nothing is left to undo; SQLAlchemy forgets the transaction

    def execute(
        self, connection: sqlalchemy.Connection, statement: Any, parameters: Any
    ) -> sqlalchemy.CursorResult[Any]:
        """Run a user's statement in a transaction that joined ours.

        Raises:
            StorageFull, DatabaseUnusable: errors of the file, not of the statement.
            InvalidInput: a text is not UTF-8.
            sqlalchemy.exc.DBAPIError: any other error.
        """
        try:
            return connection.execute(statement, parameters)
        except sqlalchemy.exc.DBAPIError as error:
            meaning = translate(error.orig, self.location.path, in_own_statement=False)
            raise meaning or error from error
        except UnicodeEncodeError as error:
            says = "The statement, or one of its parameters, contains a lone surrogate."
            raise InvalidInput(says) from error

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Run a read transaction: one consistent view of the file."""
        raw = self.session().raw
        tx = Transaction(raw, self.statements)
        if raw.in_transaction:
            yield tx
            return
        try:
            raw.execute("BEGIN")
            yield tx
        except driver.Error as error:
            raise translate(error, self.location.path) or error from error
        finally:
            _undo(raw)

    @contextmanager
    def join(self, connection: Any) -> Iterator[Transaction]:
        """Take part in a caller's open transaction on this same file: all of the block, or none.

        Raises:
            Unsupported: no connection, another driver's, or on another file.
            Conflict: it cannot carry a send: no transaction is open on it, it is closed, in
                autocommit mode, another thread's, or another thread sends through it just now.
            DatabaseReplaced: the file is no longer the one that was opened.
            Busy: it is a deferred transaction that cannot begin to write.
        """
        raw = joining.driver_connection(connection)
        begun = isinstance(connection, sqlalchemy.Connection) and connection.in_transaction()
        try:
            with joining.alone_with(raw):
                self._check_joined(raw, begun=begun)
                with all_or_nothing(raw):
                    yield Transaction(raw, self.statements)
        except driver.Error as error:
            raise translate(error, self.location.path) or error from error

    def _check_joined(self, raw: Any, *, begun: bool) -> None:
        """Refuse a connection on another file; let its transaction begin to write."""
        self.file.check()
        guard(raw)
        path = raw.execute("PRAGMA database_list").fetchone()[2]
        if not path or Location(Path(path)).identity() != self.file.database:
            raise Unsupported(
                f"This connection is open on {path or 'a database in memory'}, the queue is in "
                f"{self.location.path}: one transaction cannot hold both."
            )
        if not raw.in_transaction:
            if not begun:
                raise Conflict("No transaction is open on this connection: use engine.begin().")
            self.file.use(raw)
            self.retrying(lambda: raw.execute(BEGIN_WRITE))
        if self._check_revision is not None:
            self._check_revision(raw)

    def retrying(self, call: Callable[[], _T], *, patient: bool = True) -> _T:
        """Repeat a call that meets another process's lock, up to the location's busy timeout.

        Raises:
            Busy: it never got through.
            Conflict: the lock is this process's own, and no other thread could release it.
        """
        deadline = time.monotonic() + self.location.busy_timeout_ms / 1000
        is_first = True
        while True:
            try:
                return call()
            except (driver.Error, UnicodeDecodeError) as error:
                meaning = translate(error, self.location.path)
                if not isinstance(meaning, Busy):
                    raise meaning or error from error
                if not patient:
                    raise meaning from error
                if time.monotonic() >= deadline:
                    raise self.file.busy() from error
                if is_first:
                    self.file.check_deadlock()
            is_first = False
            time.sleep(random.uniform(0.001, 0.010))

    def version(self) -> object:
        """Return a number that changes with each commit of any connection."""
        raw = self.session().raw
        (others,) = self.retrying(lambda: raw.execute("PRAGMA data_version").fetchone())
        return raw, others, raw.total_changes

    def nobody_writes(self) -> bool:
        """Return whether no write was in progress, so that all earlier writes can be read now."""
        raw = self.session().raw
        raw.execute("PRAGMA busy_timeout = 0")
        try:
            raw.execute(BEGIN_WRITE)
        except driver.OperationalError:
            return False
        finally:
            raw.execute(f"PRAGMA busy_timeout = {DRIVER_TIMEOUT_SECONDS * 1000:.0f}")
            _undo(raw)
        return True

    def remember_identity(self, check_revision: Callable[[Any], None] | None = None) -> None:
        """From now on, refuse to write to another file at the path, or to a migrated one.

        Args:
            check_revision: raises, inside a write transaction, if the tables were migrated.
        """
        self.file.remember()
        self._check_revision = check_revision

    def close(self) -> None:
        """Close every connection this process opened."""
        for session in tuple(self._sessions):
            self._part_with(session)
        self._local = threading.local()

    def _open_session(self) -> _Session:
        for session in tuple(self._sessions):
            if session.pid != os.getpid() or not session.thread.is_alive():
                self._part_with(session)
        session = _Session(self.engine.connect())
        self._sessions.append(session)
        self._local.session = session
        return session

    def _part_with(self, session: _Session) -> None:
        """Close a session, unless another thread does so just now; a parent's is only put aside."""
        if session.pid != os.getpid():
            _ABANDONED.append(session)
        try:
            self._sessions.remove(session)
        except ValueError:
            return
        session.is_open = False
        if session.pid == os.getpid():
            session.sqlalchemy.close()

    def _connect(self) -> Any:
        """Open one connection for the engine, which says when it closes it."""
        raw = self._open()
        try:
            self.file.add(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _open(self) -> Any:
        """Open one connection. Nothing set here is stored in the file."""
        path = self.location.path
        self.file.check_before_open()
        create(path)
        raw = None
        try:
            raw = driver.connect(
                str(path),
                timeout=DRIVER_TIMEOUT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=STATEMENT_CACHE,
            )
            raw.text_factory = _text
            # The first look at the file: another process may be recovering its log, after a crash.
            self.retrying(lambda: set_pragma(raw, "synchronous", self.location.synchronous))
            set_pragma(raw, "mmap_size", 0)
            set_pragma(raw, "journal_size_limit", JOURNAL_SIZE_LIMIT)
            guard(raw)
        except BaseException as error:
            if raw is not None:
                raw.close()  # else the file stays open in this process until garbage is collected
            if isinstance(error, driver.Error | UnicodeDecodeError):
                raise translate(error, path) or error from error
            raise
        return raw

    def _on_begin(self, connection: sqlalchemy.Connection) -> None:
        raw: Any = connection.connection.driver_connection
        if not raw.in_transaction:
            self.checkpointer.keep_short(raw)
            self.file.use(raw)
            self.retrying(lambda: raw.execute(BEGIN_WRITE))

    def _on_commit(self, _: sqlalchemy.Connection) -> None:
        self.file.check()

    def _on_close(self, raw: Any, *_: object) -> None:
        self.file.remove(raw)

    def _commit(self, raw: Any) -> None:
        self.file.check()
        try:
            raw.execute("COMMIT")
        except driver.Error as error:
            if code_of(error) == driver.SQLITE_FULL and not raw.in_transaction:
                raise  # rolled back: the page that makes it a commit is the last to be written
            meaning = translate(error, self.location.path)
            is_full = isinstance(meaning, StorageFull)
            cause = str(meaning).partition(". Nothing")[0] if is_full else error
            raise OutcomeUnknown(
                f"COMMIT on {self.location.path} failed ({cause}): the write may or may not have "
                "happened. Repeat the call with the same key or receipt; that is safe."
            ) from error
        self.checkpointer.keep_short(raw)


@contextmanager
def all_or_nothing(raw: Any) -> Iterator[None]:
    """Undo one operation inside a longer transaction if it raises; the transaction goes on."""
    raw.execute("SAVEPOINT durableq_verb")
    try:
        yield
    except BaseException:
        if raw.in_transaction:  # a full disk undoes all of it at once
            raw.execute("ROLLBACK TO durableq_verb")
            raw.execute("RELEASE durableq_verb")
        raise
    raw.execute("RELEASE durableq_verb")


def _text(stored: bytes) -> str:
    """Decode stored text. The driver's own decoder would fail the whole read on invalid UTF-8.

    Undecodable bytes become surrogates, which no sender can store, so `codec.decode` sees them.
    """
    return stored.decode("utf-8", "surrogateescape")


def _undo(raw: Any) -> None:
    if raw.in_transaction:
        with suppress(driver.Error):
            raw.execute("ROLLBACK")
