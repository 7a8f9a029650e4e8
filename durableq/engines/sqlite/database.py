"""The SQLite file: its connections, its time, and waiting for its lock.

Each choice here answers a measured failure; docs/DESIGN.md names it.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from durableq.engines.sql import hosts, steady_time
from durableq.engines.sql.transactions import RevisionCheck, Transaction, WriteTransaction
from durableq.engines.sqlite import checkpoints, copy_marker
from durableq.engines.sqlite.checkpoints import Checkpointer, guard, set_pragma
from durableq.engines.sqlite.dialect import DIALECT
from durableq.engines.sqlite.driver import check_library, driver
from durableq.engines.sqlite.errors import code_of, translate
from durableq.engines.sqlite.free_space import FreeSpace
from durableq.engines.sqlite.group_commit import Turn
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.open_files import OpenFile, create
from durableq.engines.sqlite.session import BEGIN_WRITE, Session, roll_back
from durableq.engines.sqlite.write_lock import WriteLock
from durableq.model.errors import (
    DatabaseUnusable,
    DurableQError,
    OutcomeUnknown,
    StorageFull,
)
from durableq.runtime.clock import Clock, Moment, SteadyClock, SystemClock

if TYPE_CHECKING:
    import sqlalchemy

    from durableq.engines.sqlite.sqlalchemy_adapter import SQLAlchemyAdapter

STATEMENT_CACHE: Final = 256
JOURNAL_SIZE_LIMIT: Final = 16 << 20
#: Decodes stored text. The driver's own decoder would fail the whole read on invalid UTF-8; here
#: undecodable bytes become surrogates, which no sender can store, so `codec.decode` sees them.
TEXT: Final = partial(str, encoding="utf-8", errors="surrogateescape")
#: The start of the error of the driver's own decoder, which has no code.
_UNDECODABLE: Final = "Could not decode"

_T = TypeVar("_T")
#: Connections that a forked child inherited. Closing one would harm the parent, so none is closed.
_ABANDONED: list[Any] = []


class Database:
    """One SQLite file, shared with other processes: a connection per thread, none across a fork.

    Args:
        location: its path, and how durable it is.
        clock: the source of the time; None means this machine's clocks.
        rng: numbers in [0, 1) for the backoff's jitter.
    """

    def __init__(
        self,
        location: Location,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        check_library(driver.sqlite_version_info)
        if not location.is_read_only:
            copy_marker.recover(location.path)
        location.check()
        self.location = location
        self.clock = SteadyClock(clock or SystemClock())
        self.owner_outside = hosts.owner_outside(self.clock.host_id(), self.clock.boot_id())
        self.rng = rng
        self.free_bytes = FreeSpace(location.path)
        # The sessions of all threads; each change is one atomic step. A forked child would close
        # a session that is missing here: the thread-local memory of other threads is freed there.
        self._sessions: list[Session] = []
        self._local = threading.local()
        self.file = OpenFile(location)
        self.lock = WriteLock(location, self.file)
        self.turn = Turn(self)
        #: None until the tables are known to be current.
        self.revision_check: RevisionCheck | None = None
        self.checkpointer = Checkpointer(location.path, self._open)
        self._adapters: list[SQLAlchemyAdapter] = []

    @property
    def boot_id(self) -> str:
        """The boot of this machine."""
        return self.clock.boot_id()

    @property
    def adapter(self) -> SQLAlchemyAdapter:
        """SQLAlchemy on this file, made at its first use."""
        if not self._adapters:
            from durableq.engines.sqlite.sqlalchemy_adapter import SQLAlchemyAdapter

            self._adapters.append(SQLAlchemyAdapter(self))
        return self._adapters[0]  # the first, if two threads have made one

    def session(self) -> Session:
        """Return this thread's connection, opening it if need be."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None or session.pid != os.getpid() or not session.is_open:
            session = self._open_session()
        return session

    def write(self, *, patient: bool = True) -> Session:
        """Return this thread's session, to run a write transaction: `with database.write() as tx`.

        Args:
            patient: wait for other processes; otherwise Busy is raised after a tenth of a second.

        Raises:
            Busy: the lock was not free in time.
            Conflict: this thread has another write transaction open on the file.
            OutcomeUnknown: COMMIT failed.
            StorageFull: there was no room; nothing was stored.
            DatabaseReplaced: the file or its log is no longer the one that was opened.
            NewerDatabase, OlderDatabase: it was migrated while it was open.
        """
        session = self.session()
        session.is_patient = patient
        session.raw.text_factory = TEXT
        return session

    def run(self, operation: Callable[..., _T], *arguments: Any) -> _T:
        """Run an operation in a write transaction, perhaps that of a group; see group_commit.

        It decodes texts with the driver's own decoder, which takes a third of the time, until a
        text is met that is not UTF-8; then the operation is run again.

        Args:
            operation: is called with the transaction and the arguments.
            arguments: the others.

        Raises:
            Busy, Conflict, …: as for `write`.
        """
        if self.turn.holder in (None, threading.get_ident()):
            session = self.session()
            session.is_patient = True
            is_begun = False
            try:
                with session as tx:
                    is_begun = True
                    tx.raw.text_factory = session.text_factory
                    return operation(tx, *arguments)
            except BaseException as error:
                if is_begun:  # perhaps not ended: see `abandon`
                    session.abandon()
                    session.give_turn()
                is_text = isinstance(error, driver.Error) and str(error).startswith(_UNDECODABLE)
                if not is_text or session.text_factory is TEXT:
                    raise
            session.text_factory = TEXT
            return self.run(operation, *arguments)
        answer: _T = self.turn.run(operation, arguments)
        return answer

    def begin(self, session: Session, *, failed: Exception | None = None) -> None:
        """Begin a write transaction.

        Args:
            session: this thread's.
            failed: the error of the first attempt, if the session has made it.

        Raises:
            Busy, Conflict: as for `WriteLock.begin`.
            DatabaseUnusable: the connection is closed, and the next call opens another one.
        """
        begin = partial(session.execute, BEGIN_WRITE)
        try:
            self.lock.begin(begin, session, failed=failed, patient=session.is_patient)
        except DatabaseUnusable:
            self.part_with(session)
            raise

    def begin_once(self, raw: Any) -> None:
        """Begin a write transaction on a connection whose end is not ours.

        Raises:
            Busy, Conflict: as for `WriteLock.begin`.
        """
        self.lock.begin(partial(raw.execute, BEGIN_WRITE), raw)
        self.lock.ticket.release(raw)

    def begin_application(self, raw: Any) -> None:
        """Begin a write transaction of the application's own, on a registered connection.

        Raises:
            Busy, Conflict: as for `WriteLock.begin`; this thread has another transaction open.
        """
        self.checkpointer.keep_short(raw)
        self.file.use(raw)
        self.begin_once(raw)

    def keep_time(self, session: Session) -> Moment:
        """Renew the stored anchor of steady time, and return the time.

        It has a transaction of its own, because the caller's may be undone. Steady time is correct
        without it: if it cannot be written now, the next write renews it.
        """
        anchor, check = None, self.revision_check
        with suppress(driver.Error, DurableQError):
            if check is not None and not check.passes(session.raw):
                return self.clock.moment()  # the caller refuses; its transaction goes on
            anchor = steady_time.renew(session, self.clock)
            if anchor is not None:
                self._commit(session)
                self.clock.renew(anchor)
        if not session.raw.in_transaction or anchor is not None:
            roll_back(session.raw)
            self.begin(session)
        return self.clock.moment()

    def refusal(self, raw: Any) -> DatabaseUnusable | None:
        """Return the error for tables of another revision, which may lack a column; or None."""
        check = self.revision_check
        with suppress(driver.Error):
            if check is not None and not check.passes(raw):
                return check.refusal(raw)
        return None

    def save_log(self, raw: Any) -> None:
        """Bring the commits of a removed log into the file: only its users still have them."""
        if self.file.log_is_missing() and not checkpoints.IS_GUARDED:
            with suppress(driver.Error):
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Run a read transaction: one consistent view of the file."""
        session = self.session()
        raw = session.raw
        raw.text_factory = TEXT
        is_inside = raw.in_transaction and not session.end_forgotten()
        tx = Transaction(raw, DIALECT)
        try:
            if is_inside:
                tx.set_time(steady_time.follow(tx, self.clock))
            else:
                self._begin_read(tx)
            yield tx
        except driver.Error as error:
            if is_inside:
                raise
            meaning = translate(error, self.location.path)
            if isinstance(meaning, DatabaseUnusable):
                meaning = self.refusal(raw) or meaning
            raise meaning or error from error
        finally:
            if not is_inside:
                roll_back(raw)

    def _begin_read(self, tx: Transaction) -> None:
        def begin() -> None:
            try:
                tx.raw.execute("BEGIN")
                tx.set_time(steady_time.follow(tx, self.clock))
            except driver.Error:
                roll_back(tx.raw)
                raise

        try:
            begin()
        except driver.OperationalError as error:
            if code_of(error) != driver.SQLITE_BUSY:
                raise
            self.lock.retrying(begin)  # another process recovers the log, after a crash

    def join(self, connection: Any) -> AbstractContextManager[WriteTransaction]:
        """Take part in a caller's open transaction on this file; see `joining.join`."""
        from durableq.engines.sqlite.joining import join  # it imports this module

        return join(self, connection)

    def version(self) -> object:
        """Return a number that changes with each commit of any connection."""
        raw = self.session().raw
        (others,) = self.lock.retrying(lambda: raw.execute("PRAGMA data_version").fetchone())
        return raw, others, raw.total_changes

    def remember_identity(self, check: RevisionCheck | None = None) -> None:
        """From now on, refuse to write to another file at the path, or to migrated tables."""
        self.file.remember()
        self.revision_check = check

    def close(self) -> None:
        """Close every connection this process opened."""
        for session in tuple(self._sessions):
            self.part_with(session)
        self._local = threading.local()

    def _open_session(self) -> Session:
        for session in tuple(self._sessions):
            if session.pid != os.getpid() or not session.thread.is_alive():
                self.part_with(session)
        session = Session(self, self.connect())
        self._sessions.append(session)
        self._local.session = session
        return session

    def part_with(self, session: Session) -> None:
        """Close a session, unless another thread does so just now; a parent's is only put aside."""
        if session.pid != os.getpid():
            _ABANDONED.append(session)
        try:
            self._sessions.remove(session)
        except ValueError:
            return
        session.is_open = False
        if session.pid != os.getpid():
            return
        if session.sqlalchemy is not None:
            session.sqlalchemy.close()  # and the driver's connection, of which `_on_close` is told
        else:
            self._on_close(session.raw)
            session.raw.close()

    def connect(self, detect_types: int = 0) -> Any:
        """Open one connection and register it.

        Args:
            detect_types: of the driver: which values it converts.
        """
        raw = self._open(detect_types)
        try:
            self.file.add(raw)
        except BaseException:
            self.file.remove(raw)  # Ctrl-C may have come after its registration
            raw.close()
            raise
        return raw

    def _open(self, detect_types: int = 0) -> Any:
        """Open one connection. Nothing set here is stored in the file."""
        path = self.location.path
        self.file.check_before_open()
        if not self.location.is_read_only:
            create(path)
        raw = None
        try:
            raw = driver.connect(
                self.location.target,
                uri=self.location.is_read_only,
                timeout=0,  # no signal is handled while the driver waits; WriteLock does
                detect_types=detect_types,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=STATEMENT_CACHE,
            )
            raw.text_factory = TEXT
            # The first look at the file: another process may be recovering its log, after a crash.
            self.lock.retrying(lambda: set_pragma(raw, "synchronous", self.location.synchronous))
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
            self.begin_application(raw)

    def _on_commit(self, _: sqlalchemy.Connection) -> None:
        self.file.check()

    def _on_close(self, raw: Any, *_: object) -> None:
        for session in tuple(self._sessions):
            if session.raw is raw:  # SQLAlchemy closes it when a user's statement is interrupted
                session.is_open = False
        self.file.remove(raw)

    def _commit(self, session: Session) -> None:
        self.file.check()
        try:
            session.execute("COMMIT")
        except driver.Error as error:
            if code_of(error) == driver.SQLITE_FULL and not session.raw.in_transaction:
                raise  # rolled back: the page that makes it a commit is the last to be written
            meaning = translate(error, self.location.path)
            is_full = isinstance(meaning, StorageFull)
            cause = str(meaning).partition(". Nothing")[0] if is_full else error
            raise OutcomeUnknown(
                f"COMMIT on {self.location.path} failed ({cause}): the write may or may not have "
                "happened. Repeat the call with the same key or receipt; that is safe."
            ) from error
        if checkpoints.IS_GUARDED:
            self.checkpointer.keep_short(session.raw)
