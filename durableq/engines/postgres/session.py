"""One connection, and the write transaction that it may be in."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.errors import READ_ONLY, first_line, is_lost
from durableq.engines.postgres.loan import Loan
from durableq.engines.postgres.planning import NOW
from durableq.engines.sql import steady_time
from durableq.engines.sql.open_transaction import FORKED
from durableq.engines.sql.transactions import Transaction, WriteTransaction
from durableq.model.errors import Conflict, OutcomeUnknown

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

BEGIN_BESIDE: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED; {NOW}"


class Session(WriteTransaction):
    """One connection, and the write transaction that it may be in.

    Args:
        database: the tables.
        link: the connection.
    """

    __slots__ = ("_database", "has_lock", "link", "pid")

    def __init__(self, database: Database, link: Link) -> None:
        super().__init__(link, database.dialect, database.rng, database.owner_outside)
        self.execute = link.execute_next
        self._database = database
        self.link = link
        self.pid = os.getpid()
        #: Whether it writes alone, in a transaction of user code.
        self.has_lock = False

    def begin(self, text: str, *, alone: bool = True) -> None:
        """Begin a transaction.

        Args:
            text: the statements; the last one returns the time last.
            alone: whether it takes the lock.
        """
        self._begin(text)
        if alone and self._renews_time():
            self._begin(text)

    def _begin(self, text: str) -> None:
        *_, now_ms = values_of(self.link.execute_text(text, prepare=False))
        self.set_moment(now_ms)

    def set_moment(self, now_ms: int) -> None:
        """Begin an operation, at this time of the server."""
        database = self._database
        moment = database.moment(now_ms)
        self.set_time(moment)
        self.revision = None
        self.known.clear()
        self.counts.clear()
        if moment.is_due and database.revision_check is not None:
            steady_time.follow(self, database.time)
            self.set_time(database.moment(now_ms))

    def _renews_time(self) -> bool:
        """Renew the stored anchor of steady time if it is due, and commit; return whether it was.

        It has a transaction of its own, for that of the operation may be undone.
        """
        time, check = self._database.time, self._database.revision_check
        if not time.is_due() or check is None or not check.passes(self.link):
            return False
        anchor = steady_time.renew(self, time)
        if anchor is None:
            return False
        self.link.execute_text("COMMIT", prepare=False)
        time.renew(anchor)
        return True

    def check_revision(self) -> None:
        """Compare the revision of the tables, which a statement of the operation may have read.

        Raises:
            NewerDatabase, OlderDatabase: they were migrated while they were open.
        """
        check = self._database.revision_check
        if check is None or self.revision == check.expected:
            return
        if not check.passes(self.link):
            raise check.refusal(self.link)

    def commit(self, *, quietly: bool = False) -> None:
        """Write the counters and commit; unless `quietly`, wake those who wait.

        Raises:
            OutcomeUnknown: the connection was lost at COMMIT.
        """
        if self.pid != os.getpid():
            raise Conflict(FORKED)
        if self.counts:
            self.write_counters()
        self.check_revision()
        try:
            text = "COMMIT" if quietly else self._database.commit
            self.link.execute_text(text, prepare=False)
        except driver.Error as error:
            if not (is_lost(error) or self.link.connection.closed):
                raise
            raise outcome_unknown(self._database.location.shown, error, "at COMMIT") from error

    def undo(self) -> None:
        """Roll back, if a transaction is open; a lost connection has done so."""
        self.counts.clear()
        if self.pid != os.getpid():
            return
        with suppress(driver.Error):
            if self.link.in_transaction:
                self.link.execute_text("ROLLBACK", prepare=False)

    def meaning(self, error: BaseException) -> BaseException:
        """Return durableq's error for one of the driver, or the error itself."""
        if isinstance(error, driver.Error):
            self.link.is_spent |= is_lost(error) or error.sqlstate == READ_ONLY
        meaning: BaseException = self._database.meaning(error) or error
        return meaning


class Write:
    """A write transaction: `with database.write() as tx`.

    It is no generator: Ctrl-C at any line of `contextlib` would leave one suspended, with the
    transaction open. One that Ctrl-C has left open is ended by the next one of its thread.

    Args:
        database: the tables.
        text: the statements that begin it; see `Session.begin`.
    """

    session: Session | None = None
    _loan: Loan | None = None
    _is_ending = False

    #: Whether it takes the lock at its beginning.
    is_alone: ClassVar[bool] = True
    #: Whether its commit wakes those who wait for writes.
    wakes: ClassVar[bool] = True

    def __init__(self, database: Database, text: str) -> None:
        self.database = database
        self._text = text

    def __enter__(self) -> Session:
        return self.begin()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.end(error)
        self.explain(error)

    def __del__(self) -> None:
        if self._loan is not None:  # Ctrl-C came at the first line of the block's end
            self.leave()

    def begin(self) -> Session:
        """Begin it.

        Raises:
            Busy, Conflict, …: as for `Database.write`.
        """
        database = self.database
        database.refuse_inside()
        try:
            database.mark("unfinished", self)
            self._loan = loan = Loan(database)
            self.session = session = Session(database, loan.take())
            session.begin(self._text, alone=self.is_alone)
        except BaseException as error:
            self._is_ending = True
            self.leave()
            self.explain(error)
            raise
        return session

    def end(self, error: BaseException | None) -> None:
        """Commit it, or undo it because of an error. A second call finishes an interrupted one.

        Raises:
            OutcomeUnknown: the connection was lost at COMMIT.
        """
        if self._loan is None:
            return
        try:
            if not self._is_ending:
                self._is_ending = True
                if error is None:
                    self._commit()
        finally:
            self.leave()

    def leave(self) -> None:
        """Undo what was not committed, and give the connection back."""
        if self.session is not None:
            self.session.undo()
        if self._loan is not None:
            self._loan.give_back()
        if self.database.unfinished is self:
            self.database.mark("unfinished", None)
        self._loan = None

    def explain(self, error: BaseException | None) -> None:
        """Raise what an error of a statement of ours means, if it means something."""
        if isinstance(error, driver.Error):
            meaning = self._meaning(error)
            if meaning is not error:
                raise meaning from error

    def _commit(self) -> None:
        assert self.session is not None  # noqa: S101 - it has begun
        try:
            self.session.commit(quietly=not self.wakes)
        except driver.Error as error:
            self.explain(error)
            raise

    def _meaning(self, error: BaseException) -> BaseException:
        if self.session is not None:
            return self.session.meaning(error)
        meaning: BaseException = self.database.meaning(error) or error
        return meaning


class Beside(Write):
    """A transaction that writes rows of one process, waits for no other and wakes none."""

    __slots__ = ()
    is_alone = False
    wakes = False


class Read:
    """A read transaction, in which all statements see one state: `with database.read() as tx`.

    Inside a transaction of user code, it reads what that has written.

    Args:
        database: the tables.
    """

    _loan: Loan | None = None

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Transaction:
        database = self._database
        if database.inside is not None:
            return database.inside
        self._loan = loan = Loan(database)
        try:
            link = loan.take()
            tx = Transaction(link, database.dialect)
            tx.execute = link.execute_next
            *_, now_ms = values_of(link.execute_text(database.begin_read, prepare=False))
            tx.set_time(database.moment(now_ms))
            if database.time.is_due():
                tx.set_time(steady_time.follow(tx, database.time))
                tx.set_time(database.moment(now_ms))
        except BaseException as error:
            self.__exit__(None, error, None)
            raise
        return tx

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        loan = self._loan
        if loan is not None:
            try:
                with suppress(driver.Error):
                    link = loan.link
                    if link is not None and loan.is_own and link.in_transaction:
                        link.execute_text("COMMIT", prepare=False)
            finally:
                loan.give_back()
        if isinstance(error, driver.Error):
            meaning = self._database.meaning(error)
            if meaning is not None:
                raise meaning from error


def outcome_unknown(place: str, error: BaseException, when: str) -> OutcomeUnknown:
    """Return the error for a write whose answer was lost with the connection.

    Args:
        place: the database.
        error: the driver's.
        when: what was lost: `at COMMIT`.
    """
    return OutcomeUnknown(
        f"The connection to {place} was lost {when} ({first_line(error)}): the write may or may "
        "not have happened. Repeat the call with the same key or receipt; that is safe."
    )


def values_of(cursor: Any) -> Any:
    """Return the only row of the last result of several statements."""
    while cursor.nextset():
        pass
    return cursor.fetchone()
