"""One connection, and the write transaction that it may be in."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.errors import first_line, is_lost, translate
from durableq.engines.sql import steady_time
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.errors import Busy, Conflict, OutcomeUnknown

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

#: The server's clock, in milliseconds since the Unix epoch.
NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
FORKED: Final = (
    "This process was forked inside a transaction, which only its parent can end. End the child "
    "with os._exit() there, or fork outside the `with` block."
)
INSIDE: Final = (
    "This thread is inside message.transaction(): use tx.send and tx.execute there, "
    "or make this call before or after it."
)


class Session(WriteTransaction):
    """One connection, and the write transaction that it may be in.

    Args:
        database: the tables.
        link: the connection.
    """

    __slots__ = ("_database", "link", "pid")

    def __init__(self, database: Database, link: Link) -> None:
        super().__init__(link, database.dialect, database.rng, database.owner_outside)
        self.execute = link.execute_next
        self._database = database
        self.link = link
        self.pid = os.getpid()

    def begin(self, *, patient: bool = True) -> None:
        """Begin a transaction that writes alone: every other write has ended, or waits.

        Raises:
            Busy: the others were not done in time.
        """
        self._begin(self._database.begin_alone if patient else self._database.try_alone)

    def begin_beside(self) -> None:
        """Begin a transaction that takes no lock yet."""
        self._begin(f"BEGIN; {NOW}")

    def lock(self) -> None:
        """Write alone from here to the end of the transaction."""
        self.link.execute_text(self._database.lock_alone, prepare=False)

    def join(self) -> None:
        """Write alone from here to the end of a caller's transaction."""
        self.execute(self._database.set_timeout)
        self.execute(self._database.take_lock)
        self.set_moment(self.execute(NOW).fetchone()[0])

    def notify(self) -> None:
        """Wake those who wait, once the caller's transaction commits."""
        self.execute(self._database.notify)

    def _begin(self, text: str) -> None:
        *locked, now_ms = values_of(self.link.execute_text(text, prepare=False))
        if False in locked:
            raise Busy(f"{self._database.location.shown} is busy: another process is writing.")
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
            renewed = steady_time.renew(self, database.time)
            if renewed is not None:
                database.time.renew(renewed)
                self.set_time(database.moment(now_ms))

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

    def commit(self) -> None:
        """Write the counters and commit.

        Raises:
            OutcomeUnknown: the connection was lost at COMMIT.
        """
        if self.pid != os.getpid():
            raise Conflict(FORKED)
        if self.counts:
            self.write_counters()
        self.check_revision()
        try:
            self.link.execute_text(self._database.commit, prepare=False)
        except driver.Error as error:
            if not is_lost(error):
                raise
            raise OutcomeUnknown(
                f"The connection to {self._database.location.shown} was lost at COMMIT "
                f"({first_line(error)}): the write may or may not have happened. Repeat the call "
                "with the same key or receipt; that is safe."
            ) from error

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
        return translate(error, self._database.location.shown) or error


def values_of(cursor: Any) -> Any:
    """Return the only row of the last result of several statements."""
    while cursor.nextset():
        pass
    return cursor.fetchone()
