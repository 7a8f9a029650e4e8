"""The SQLite engine: the shared operations on a file, and the operations of its own."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from durableq.engines.sql import hosts
from durableq.engines.sql.fleet import SQLFleet
from durableq.engines.sql.open_transaction import OpenTransaction
from durableq.engines.sql.receiving import Receiving
from durableq.engines.sql.releasing import Releasing
from durableq.engines.sql.sending import Sending
from durableq.engines.sql.settling import Settling
from durableq.engines.sql.store import SharedCapabilities
from durableq.engines.sql.together import together
from durableq.engines.sql.transactions import Transaction
from durableq.engines.sqlite import file_space, schema
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.location import Location, log_bytes
from durableq.engines.sqlite.open_transaction import UserWrite
from durableq.engines.sqlite.wakeup import FileWatch
from durableq.model.errors import DurableQError
from durableq.model.health import MaintenanceReport, Storage
from durableq.model.message import Receipt
from durableq.runtime.clock import Clock
from durableq.store.core import (
    Answer,
    Call,
)

if TYPE_CHECKING:
    import sqlalchemy


class SQLStore(Sending, Receiving, Settling, Releasing, SQLFleet, SharedCapabilities):
    """A Store in a SQLite file. Safe to use from several threads; not to be taken across a fork.

    Args:
        url: a path, or `sqlite:///path?synchronous=normal`.
        clock: source of the time; None means this machine's clocks.
        rng: numbers in [0, 1) for the backoff's jitter.
        purpose: USE creates a missing file; MIGRATE and ADOPT also upgrade; READ only reads.

    Raises:
        DatabaseUnusable: the file cannot be a durableq database; it was left untouched.
        Busy: other processes held it for the whole wait.
    """

    scheme = "sqlite"

    _database: Database

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
        purpose: schema.Purpose = schema.Purpose.USE,
    ) -> None:
        is_read_only = purpose is schema.Purpose.READ
        location = replace(Location.parse(url), is_read_only=is_read_only)
        super().__init__(Database(location, clock, rng))
        try:
            self.found = schema.prepare(self._database, purpose)
            if not is_read_only:
                self._finish_opening()
        except BaseException:
            self._database.close()
            raise

    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations in one transaction."""
        return self._database.run(together, calls)

    def prepare_transactions(self) -> None:
        """Make SQLAlchemy's engine, if the application has imported SQLAlchemy."""
        if "sqlalchemy" in sys.modules:
            _ = self._database.adapter

    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> OpenTransaction:
        """Open a transaction that settles these messages together with other writes."""
        return OpenTransaction(UserWrite(self._database), receipts, actor)

    def storage(self) -> Storage:
        """Return the size of the file and of its log."""
        location = self._database.location
        return Storage(
            "sqlite",
            str(driver.sqlite_version),
            location.synchronous,
            location.path.stat().st_size,
            log_bytes(location),
        )

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()

    def watch(self) -> FileWatch:
        """Start watching for writes."""
        return FileWatch(self._database)

    @property
    def engine(self) -> sqlalchemy.Engine:
        """A SQLAlchemy engine on the same file, each transaction BEGIN IMMEDIATE."""
        return self._database.adapter.engine

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Run one short slice if it is due; otherwise cut a long log if no process writes."""
        report = super().maintain(limit)
        if not report.due:
            file_space.cut_idle_log(self._database)
        return report

    def _free_space(self, tx: Transaction) -> int:
        return file_space.free_pages(tx)

    def _after_slice(self) -> None:
        file_space.checkpoint(self._database)

    def _finish_opening(self) -> None:
        """Notice a restart; a failure does not hide that the tables are made or upgraded by now."""
        try:
            self._notice_restart()
        except DurableQError as error:
            if self.found in {schema.SchemaState.CURRENT, schema.SchemaState.EMPTY}:
                raise
            raise type(error)(f"The tables are upgraded, but opening failed: {error}") from error

    def _notice_restart(self) -> None:
        """Take back every lease of an earlier boot of this host: none of its owners is alive."""
        clock = self._database.clock
        host_id, boot_id = clock.host_id(), clock.boot_id()
        with self._database.read() as tx:
            is_known = hosts.known_boots(tx).get(host_id) == boot_id
        if is_known:
            if clock.is_due():  # the write renews the stored time, if it can
                with suppress(DurableQError), self._database.write(patient=False):
                    pass
            return
        while not is_known:  # other processes may write between two slices
            with self._database.write() as tx:
                is_known = hosts.known_boots(tx).get(host_id) == boot_id or hosts.enter(
                    tx, host_id, boot_id
                )
