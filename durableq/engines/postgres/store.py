"""The PostgreSQL engine: the shared operations on a schema, and the operations of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres import copies, schema
from durableq.engines.postgres.calls import fold
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.fleet import PostgresFleet
from durableq.engines.postgres.hot import HotVerbs
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.open_transaction import UserWrite
from durableq.engines.postgres.wakeup import NotifyWatch
from durableq.engines.sql import hosts
from durableq.engines.sql.open_transaction import OpenTransaction
from durableq.engines.sql.schema import Purpose
from durableq.engines.sql.store import SharedCapabilities
from durableq.engines.sql.transactions import Transaction
from durableq.model.health import MaintenanceReport, Storage
from durableq.model.message import Receipt
from durableq.runtime.clock import Clock

if TYPE_CHECKING:
    import sqlalchemy

#: The durability of a commit by the setting synchronous_commit; that of the others is full.
_DURABILITY: Final = {"off": "none"}
_SIZE: Final = """\
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint,
    coalesce(sum(pg_indexes_size(oid)), 0)::bigint,
    current_setting('server_version'), current_setting('synchronous_commit')
FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'durableq\\_%' AND relnamespace = to_regnamespace($1)"""


class PostgresStore(HotVerbs, PostgresFleet, SharedCapabilities):
    """A Store in a schema of a PostgreSQL database. Safe to use from several threads.

    Args:
        url: `postgresql://user@host/database?schema=name`, with any options of libpq.
        clock: source of the time; None means the server's clock.
        rng: numbers in [0, 1) for the backoff's jitter.
        purpose: USE creates missing tables; MIGRATE and ADOPT also upgrade; READ only reads.

    Raises:
        DatabaseUnusable: the database cannot be used; it was left untouched.
        Busy: it cannot be reached, or other processes held it for the whole wait.
    """

    scheme = "postgresql"

    _database: Database

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
        purpose: Purpose = Purpose.USE,
    ) -> None:
        is_read_only = purpose is Purpose.READ
        super().__init__(Database(Location.parse(url), clock, rng, is_read_only=is_read_only))
        try:
            if not is_read_only:
                self._database.check_writable()
            self.found = schema.prepare(self._database, purpose)
            if not is_read_only:
                self._notice_restart()
        except BaseException:
            self._database.close()
            raise

    def prepare_transactions(self) -> None:
        """Make SQLAlchemy's engine."""
        _ = self._database.adapter

    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> OpenTransaction:
        """Open a transaction that settles these messages together with other writes."""
        return OpenTransaction(UserWrite(self._database), receipts, actor)

    def storage(self) -> Storage:
        """Return the size of the tables with their indexes."""
        with self._database.read() as tx:
            row = tx.execute(_SIZE, (self._database.quoted_schema,)).fetchone()
        size, indexes, version, synchronous = row
        durability = _DURABILITY.get(synchronous, "full")
        return Storage("postgresql", version, durability, size, 0, indexes)

    def watch(self) -> NotifyWatch:
        """Start watching for writes."""
        return NotifyWatch(self._database)

    @property
    def engine(self) -> sqlalchemy.Engine:
        """A SQLAlchemy engine on the same database."""
        return self._database.adapter.engine

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Fold the deltas of hot verbs into the counters, and run one short slice if it is due."""
        fold(self._database)
        return super().maintain(limit)

    def _free_space(self, tx: Transaction) -> int:
        """Return 0: PostgreSQL vacuums by itself."""
        return 0

    def _after_slice(self) -> None:
        """Do nothing: PostgreSQL writes its own checkpoints."""

    def _notice_restart(self) -> None:
        """Take back every lease of an earlier boot of this host, and in a copy: no owner lives."""
        database = self._database
        with database.read() as tx:
            is_copy = copies.are_restored(tx, database)
            if hosts.known_boots(tx).get(database.host_id) == database.boot_id and not is_copy:
                return
        with database.write() as write:
            if is_copy:
                copies.settle(write, database)
            if hosts.known_boots(write).get(database.host_id) != database.boot_id:
                hosts.enter(write, database.host_id, database.boot_id)
