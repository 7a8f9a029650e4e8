"""One thread's connection, and its write transactions."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.open_transaction import FORKED, INSIDE
from durableq.engines.sql.transactions import WriteTransaction
from durableq.engines.sqlite import open_files
from durableq.engines.sqlite.dialect import DIALECT
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import code_of, reader_writes, translate
from durableq.model.errors import Conflict, DatabaseReplaced

if TYPE_CHECKING:
    import sqlalchemy

    from durableq.engines.sqlite.database import Database

#: Never deferred: a transaction that reads, then writes, fails if another wrote in between.
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"


class Session(WriteTransaction):
    """One thread's connection, and the write transaction that it may be in.

    `with` runs a write transaction: `BEGIN IMMEDIATE`, the operation, COMMIT. The object is made
    once per thread, because a transaction of one message is short.

    Args:
        database: the file.
        raw: the connection of the thread, and of the process.
    """

    __slots__ = (
        "_database",
        "is_open",
        "is_patient",
        "keeps_turn",
        "pid",
        "sqlalchemy",
        "text_factory",
        "thread",
        "thread_id",
        "user_write",
    )

    def __init__(self, database: Database, raw: Any) -> None:
        super().__init__(raw, DIALECT, database.rng, database.owner_outside, database.free_bytes)
        # The driver's connection makes a cursor for each statement, which takes a microsecond.
        self.execute = raw.cursor().execute
        self._database = database
        #: The connection as SQLAlchemy's, once user code has needed it.
        self.sqlalchemy: sqlalchemy.Connection | None = None
        #: The transaction of user code that is open: its `UserWrite`.
        self.user_write: weakref.ref[Any] | None = None
        #: Decodes texts in `Database.run`.
        self.text_factory: Any = str
        self.pid = os.getpid()
        self.thread = threading.current_thread()
        self.thread_id = threading.get_ident()
        self.is_open = True
        self.is_patient = True
        #: Whether the turn stays here after a transaction, because it writes for a group.
        self.keeps_turn = False

    def __enter__(self) -> Session:
        database = self._database
        if self.raw.in_transaction and not self.end_forgotten():
            raise Conflict(INSIDE)
        if open_files.are_several_open:
            database.file.use(self.raw)
        try:  # around BEGIN too: a KeyboardInterrupt may come as soon as it returns
            if not database.turn.take():
                database.turn.wait(patient=self.is_patient)
            try:
                if database.lock.is_contended and not database.lock.take_ticket(self):
                    database.begin(self)
                else:
                    self.execute(BEGIN_WRITE)
            except (driver.Error, UnicodeDecodeError) as error:
                database.begin(self, failed=error)
            self.now_ms, lease_ms, self.offset_ms, is_due = database.clock.moment()
            if is_due and database.revision_check is not None:
                self.now_ms, lease_ms, self.offset_ms, _ = database.keep_time(self)
            self.lease_now_ms = lease_ms + LEASE_EPOCH_MS
            self.revision = None
            self.known.clear()
            self.counts.clear()  # an interrupted transaction may have left some
        except BaseException as error:
            try:
                self._undo(error)
            finally:
                self.give_turn()
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if self.pid != os.getpid():  # COMMIT or ROLLBACK would write into the parent's log
                self._database.part_with(self)
                if error is None:
                    raise Conflict(FORKED)
            elif error is not None:
                self._undo(error)
            else:
                if self.counts:
                    self.write_counters()
                database = self._database
                check = database.revision_check
                if check is not None and self.revision != check.expected:
                    self.check_revision()
                database._commit(self)
                if database.lock.ticket.holder is self:
                    database.lock.ticket.release(self)
        except BaseException as failure:
            if self.pid == os.getpid():
                self._undo(failure)
            raise
        finally:
            if not self.keeps_turn:
                turn, this = self._database.turn, self.thread_id
                try:
                    turn.give(this)
                except BaseException:  # Ctrl-C as the call begins: the turn must not stay here
                    turn.give(this)
                    raise

    def check_revision(self) -> None:
        """Compare the revision of the tables, which a statement of the operation may have read.

        Raises:
            NewerDatabase, OlderDatabase: they were migrated while they were open.
        """
        check = self._database.revision_check
        if check is None or self.revision == check.expected:
            return
        refusal = self._database.refusal(self.raw)
        if refusal is not None:
            raise refusal

    def give_turn(self) -> None:
        """Let another thread of this process write, unless this one goes on with a group."""
        if not self.keeps_turn:
            self._database.turn.give(self.thread_id)

    def abandon(self) -> None:
        """End the transaction that Ctrl-C, at the first line of the session's exit, left open."""
        if self.pid == os.getpid():
            with suppress(driver.Error):  # as of a closed connection
                if self.raw.in_transaction:
                    self.roll_back()
            self._database.lock.ticket.release(self)

    def roll_back(self) -> None:
        """Roll back, if a transaction is open, and forget what it has paid for ahead."""
        self.limited.clear()
        roll_back(self.raw)

    def close_user_write(self) -> None:
        """Let another thread write, and SQLAlchemy forget the transaction of user code.

        Nothing is left in it to undo.
        """
        if not self.keeps_turn:
            self._database.turn.give(self.thread_id)
        self.user_write = None
        connection = self.sqlalchemy if self.pid == os.getpid() else None
        begun = connection.get_transaction() if connection else None
        if begun is not None:
            begun.close()

    def end_forgotten(self) -> bool:
        """End the open transaction if nothing refers to it any more; return whether that is so.

        Ctrl-C came at the first line of its block's end, and at that of its finalizer.
        """
        if self.user_write is None or self.user_write() is not None:
            return False
        self.abandon()
        self.close_user_write()
        return True

    def _undo(self, error: BaseException) -> None:
        """Roll back, and raise durableq's error for one of the driver."""
        raw, database = self.raw, self._database
        is_inside = isinstance(error, driver.Error) and raw.in_transaction
        migrated = database.refusal(raw) if is_inside else None
        self.counts.clear()
        self.roll_back()
        database.lock.ticket.release(self)
        if isinstance(error, driver.Error):
            is_stuck = raw.in_transaction
            if is_stuck or code_of(error) == driver.SQLITE_READONLY:
                database.part_with(self)
            meaning = migrated or translate(error, database.location.path, undone=not is_stuck)
            if code_of(error) == driver.SQLITE_READONLY and database.location.is_read_only:
                meaning = reader_writes(database.location.path)
            if meaning is not None:
                raise meaning from error
        elif isinstance(error, DatabaseReplaced):
            database.save_log(raw)


def roll_back(raw: Any) -> None:
    """Roll back, if a transaction is open; errors are ignored, as of a closed connection."""
    with suppress(driver.Error):
        if raw.in_transaction:
            raw.execute("ROLLBACK")
