"""The PostgreSQL database: its pool of connections, its time, and its write lock.

Operations of the shared SQL are written for one writer at a time. Here they hold an advisory lock
of their schema alone; the few hot statements of `hot.py` hold it together
(docs/decisions/0047).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet, ref

from durableq.engines.postgres import forking
from durableq.engines.postgres.arrays import whole
from durableq.engines.postgres.connecting import connect, keeps_session
from durableq.engines.postgres.dialect import dialect, qualified, quoted
from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.errors import (
    IDLE_TOO_LONG,
    READ_ONLY,
    UNDONE,
    first_line,
    is_lost,
    read_only,
    translate,
)
from durableq.engines.postgres.loan import Loan
from durableq.engines.postgres.location import LISTENING, Location, lock_key, lock_kind
from durableq.engines.postgres.planning import NOW, PLAN_SESSION, PLANNED_NOW, UNPLAN
from durableq.engines.postgres.pool import Pool
from durableq.engines.postgres.presence import Presence
from durableq.engines.postgres.server_clock import ServerClock
from durableq.engines.postgres.session import (
    BEGIN_BESIDE,
    Beside,
    Read,
    Write,
    outcome_unknown,
)
from durableq.engines.sql import hosts
from durableq.engines.sql.open_transaction import INSIDE
from durableq.engines.sql.transactions import RevisionCheck, WriteTransaction
from durableq.model.errors import Busy, Conflict, DatabaseUnreachable, DatabaseUnusable
from durableq.runtime.clock import Clock, Moment, SteadyClock

if TYPE_CHECKING:
    import psycopg

    from durableq.engines.postgres.adapter import SQLAlchemyAdapter
    from durableq.engines.postgres.session import Session

BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
#: For the connections of a reader. Through a pooler a setting would stay for other clients.
READ_SESSION: Final = "SET default_transaction_read_only = on"
#: Attempts of an operation that PostgreSQL undid because of others.
ATTEMPTS: Final = 8
#: The wait of a write that is not patient, in milliseconds. Hot verbs hold the lock together, and
#: where many do, it is never free; but those that come later wait behind a write that waits.
TURN_MS: Final = 500

#: Settings of a transaction: what it is known by, and the lock_timeout of user code.
_MARK: Final = "durableq.transaction"
_TIMEOUT: Final = "durableq.lock_timeout"

_T = TypeVar("_T")


class Database:
    """One schema of a PostgreSQL database, shared with other processes.

    Args:
        location: its address.
        clock: the source of the time; None means the server's clock.
        rng: numbers in [0, 1) for the backoff's jitter.
        is_read_only: whether the server refuses each write of its connections.
    """

    def __init__(
        self,
        location: Location,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
        *,
        is_read_only: bool = False,
    ) -> None:
        self.location = location
        self.is_read_only = is_read_only
        #: The server's clock, unless one is injected.
        self.server = ServerClock() if clock is None else None
        self.time = SteadyClock(clock or self.server or ServerClock())
        self.host_id, self.boot_id = self.time.host_id(), self.time.boot_id()
        self.owner_outside = hosts.owner_outside(self.host_id, self.boot_id)
        self.rng = rng
        self.revision_check: RevisionCheck | None = None
        #: Whether hot verbs run beside each other; otherwise all operations run alone.
        self.is_hot = not is_read_only
        self.wait_ms = whole(location.busy_timeout_ms)
        #: The table of messages; see `joining`.
        self.identity: tuple[Any, ...] | None = None
        self._local = threading.local()
        self._adapters: list[SQLAlchemyAdapter] = []
        self._presence = Presence(self)
        #: Connections of this process, for its forked children.
        self._opened: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self.pool = Pool(self._new_link, location)
        forking.remember(self)
        #: Whether a connection is one session of the server: not through a pooler of transactions.
        self.keeps_sessions = True
        self._settings = self._limits = ""
        with self.connected() as (link, _):
            self._probe(link)
            self._look_at(link)

    def _probe(self, link: Link) -> None:
        """Find out whether sessions are kept, and set up this one, and those to come."""
        self.keeps_sessions = link.prepare = keeps_session(link.connection)
        if not self.keeps_sessions:
            link.connection.prepare_threshold = None
            return
        self._settings = PLAN_SESSION
        self._limits = READ_SESSION if self.is_read_only else ""
        link.execute_text(f"{PLAN_SESSION}; {self._limits}", prepare=False)

    def _look_at(self, link: Link) -> None:
        """Read what the texts of the statements depend on."""
        found, name = link.execute("SELECT current_schema(), current_database()").fetchone()
        schema = self.location.schema or found
        if schema is None:
            raise DatabaseUnusable(
                f"{self.location.shown} has no schema on the search path. Name one: ?schema=name."
            )
        self.schema = schema
        self.user = link.connection.info.user
        self.dialect = dialect(schema)
        key = lock_key(name, schema)
        self.key = key
        self.channel = f"durableq_{key & (1 << 64) - 1:016x}"
        self.notify = f"NOTIFY {self.channel}"
        listening = key ^ LISTENING
        self.begin_listening = f"SELECT pg_try_advisory_lock_shared({listening})"
        self.end_listening = f"SELECT pg_advisory_unlock_shared({listening})"
        self.let_writers_end = (
            f"BEGIN; SET LOCAL lock_timeout = 1000; SELECT pg_advisory_xact_lock({key}); COMMIT"
        )
        timeout = f"SET LOCAL lock_timeout = {self.location.busy_timeout_ms}"
        alone = f"SELECT pg_advisory_xact_lock({key})"
        planned_now = NOW if self.keeps_sessions else PLANNED_NOW
        self.begin_read = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {planned_now}"
        begin = f"{BEGIN} READ ONLY" if self.is_read_only else BEGIN
        self.begin_quietly = BEGIN_BESIDE.replace(BEGIN, begin)
        self.begin_alone = f"{begin}; {timeout}; {alone}; {planned_now}"
        short = timeout.replace(str(self.location.busy_timeout_ms), str(TURN_MS))
        self.begin_in_turn = f"{begin}; {short}; {alone}; {timeout}; {planned_now}"
        # User code has a lock_timeout of its own.
        mark = f"SELECT current_setting('{_MARK}', true), "
        self.lock_in_transaction = (
            f"SELECT set_config('{_TIMEOUT}', current_setting('lock_timeout'), true); {timeout}; "
            f"{alone}; SELECT set_config('lock_timeout', current_setting('{_TIMEOUT}'), true); "
            f"{NOW.replace('SELECT ', mark, 1)}"
        )
        self.commit = f"{self.notify}; COMMIT"
        self.worker_locks = lock_kind("worker", name, schema)
        self.supervisor_locks = lock_kind("supervisor", name, schema)

    def begin_beside(self, token: str) -> str:
        """Return the statements that begin a transaction of user code: it takes no lock yet.

        Args:
            token: by which it is known again.
        """
        begin = f"{BEGIN}; {UNPLAN}" if self.keeps_sessions else BEGIN
        return f"{begin}; SELECT set_config('{_MARK}', '{token}', true); {NOW}"

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

    def connect(self, *, autocommit: bool = True, settings: str = "") -> psycopg.Connection[Any]:
        """Open a connection that is not of the pool; see `connecting.connect`."""
        settings = "; ".join(filter(None, (settings, self._limits)))
        opened = connect(self.location, autocommit=autocommit, settings=settings)
        if not self.keeps_sessions:  # what one session has prepared is not in another
            opened.prepare_threshold = None
        self._opened.add(opened)
        return opened

    def _new_link(self) -> Link:
        return Link(self.connect(settings=self._settings), prepare=self.keeps_sessions)

    def connected(self) -> Loan:
        """Take a connection of the pool for a block: `with database.connected() as (link, _)`.

        Raises:
            Busy: none is free in time.
            DatabaseUnreachable, DatabaseUnusable: none can be opened.
        """
        return Loan(self)

    @property
    def presence(self) -> Presence | None:
        """The connection that shows that this process lives; None where sessions are not kept."""
        return self._presence if self.keeps_sessions else None

    def check_writable(self) -> None:
        """Refuse a standby, and a database that is set to be read.

        Raises:
            DatabaseUnusable: it is one.
        """
        with self.connected() as (link, _):
            (setting,) = link.execute("SHOW transaction_read_only").fetchone()
            if setting == "on":
                raise read_only(self.location.shown, "transaction_read_only is on")

    def let_go(self) -> None:
        """In a forked child: leave the parent's connections alone, and open others."""
        forking.detach(self._opened)
        self._opened = WeakSet()
        self._presence.forget_parent()
        self._local = threading.local()
        self.pool.forget()
        for adapter in self._adapters:
            adapter.let_go()

    # ---- transactions

    def read(self) -> Read:
        """Open a read transaction, in which all statements see one state: `with … as tx`."""
        return Read(self)

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

    def write(self, *, patient: bool = True) -> Write:
        """Open a write transaction alone: `with database.write() as tx`.

        Raises:
            Busy: others wrote for the whole wait; that is short where `patient` is False.
            Conflict: this thread is inside `message.transaction()`.
            OutcomeUnknown: the connection was lost at COMMIT.
        """
        return Write(self, self.begin_alone if patient else self.begin_in_turn)

    def beside(self) -> Beside:
        """Open a transaction that waits for no other write: for rows of this process alone.

        Raises:
            Conflict, OutcomeUnknown: as for `write`.
        """
        return Beside(self, self.begin_quietly)

    def join(self, connection: Any) -> AbstractContextManager[WriteTransaction]:
        """Take part in a caller's open transaction on this database; see `joining.join`."""
        from durableq.engines.postgres.joining import join  # it imports this module

        return join(self, connection)

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
            write = self.write()
            try:
                with write as tx:
                    return operation(tx, *arguments)
            except BaseException as error:
                write.end(error)  # Ctrl-C may have come before its own end
                if not _runs_again(error, attempt):
                    raise
        raise AssertionError("unreachable")

    def call(self, statement: Callable[[Link], _T]) -> _T:
        """Run one statement that writes and commits by itself; again if PostgreSQL undid it.

        A connection that the server has closed while nobody used it is replaced before.

        Args:
            statement: is called with a connection that is in no transaction.

        Raises:
            Busy, Conflict, …: as for `write`.
            OutcomeUnknown: the connection was lost while the statement ran.
        """
        self.refuse_inside()
        for attempt in range(1, ATTEMPTS + 1):
            with self.connected() as (link, _):
                try:
                    return statement(link)
                except driver.Error as error:
                    was_lost = is_lost(error) or link.connection.closed
                    link.is_spent |= was_lost or error.sqlstate == READ_ONLY
                    if was_lost and error.sqlstate not in IDLE_TOO_LONG:
                        raise outcome_unknown(self.location.shown, error, "in a write") from error
                    meaning = self.meaning(error) or error
                    if not _runs_again(meaning, attempt, error):
                        raise meaning from (None if meaning is error else error)
        raise AssertionError("unreachable")

    def meaning(self, error: BaseException, *, in_own_statement: bool = True) -> Any:
        """Return the durableq error for a driver's error; None for an error of the statement.

        A database that has been writable is read-only for the time of a failover only.
        """
        if getattr(error, "sqlstate", None) == READ_ONLY and self.is_read_only:
            return DatabaseUnusable(
                f"{self.location.shown} is opened for reading only, so that nothing can be changed "
                "here. Nothing was stored."
            )
        if getattr(error, "sqlstate", None) == READ_ONLY and self.revision_check is not None:
            return DatabaseUnreachable(
                f"{self.location.shown} is read-only just now ({first_line(error)}): a failover, "
                "or default_transaction_read_only. Nothing was stored; try again."
            )
        return translate(error, self.location.shown, in_own_statement=in_own_statement)

    def lost(self, says: str) -> DatabaseUnreachable:
        """Return the error for a connection that was lost before COMMIT."""
        return DatabaseUnreachable(
            f"The connection to {self.location.shown} is lost ({says}). Nothing of this call was "
            "stored; try again."
        )

    def refuse_inside(self) -> None:
        """Refuse a call around an open transaction of user code.

        It ends a write of this thread that Ctrl-C has left open: its lock would be in the way.

        Raises:
            Conflict: this thread is inside `message.transaction()`.
        """
        if self.inside is not None:
            raise Conflict(INSIDE)
        unfinished = self.unfinished
        if unfinished is not None:
            unfinished.leave()

    @property
    def inside(self) -> Session | None:
        """The session in which this thread runs a transaction of user code."""
        write = self._of_thread("inside")
        return None if write is None else write.session

    @property
    def unfinished(self) -> Write | None:
        """The write transaction of this thread that has not ended, for Ctrl-C."""
        return self._of_thread("unfinished")

    def mark(self, name: str, write: Write | None) -> None:
        """Note a write transaction as this thread's `inside` or `unfinished`.

        No more than that refers to it: if nothing else does, it ends.
        """
        setattr(self._local, name, None if write is None else ref(write))

    def _of_thread(self, name: str) -> Write | None:
        found: ref[Write] | None = getattr(self._local, name, None)
        return None if found is None else found()

    def close(self) -> None:
        """Close this process's connections; those that other threads use, after their use."""
        self._presence.close()
        self.pool.close()
        for adapter in self._adapters:
            adapter.engine.dispose()


def _runs_again(error: BaseException, attempt: int, cause: BaseException | None = None) -> bool:
    """Return whether an operation stored nothing for a reason that another attempt may not meet."""
    if attempt == ATTEMPTS or not isinstance(error, Busy):
        return False
    cause = cause or error.__cause__
    if getattr(cause, "sqlstate", None) in UNDONE:
        return True
    return attempt == 1 and (is_lost(cause) or getattr(cause, "sqlstate", None) == READ_ONLY)
