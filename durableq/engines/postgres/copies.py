"""Tables that were restored from a dump: they are noticed, and begin without leases and workers.

A dump has the leases and the workers of the database that it was made of, and these do not work on
the copy. The tables know where they were made: pg_dump writes that down, and a restored table has
another identity. A standby that is promoted has the same one, and its leases go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durableq.engines.sql import hosts, metadata, releasing
from durableq.engines.sql.transactions import Transaction, WriteTransaction

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database

#: The name in durableq_meta of the identity of that table itself.
_NAME: Final = "place"
_IDENTITY: Final = """\
SELECT concat_ws('/',
    (SELECT system_identifier FROM pg_control_system()),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    to_regclass($1)::oid)"""


def are_restored(tx: Transaction, database: Database) -> bool:
    """Return whether the tables were made elsewhere, or have never been used."""
    return metadata.own_value(tx, _NAME) != _identity(tx, database)


def settle(tx: WriteTransaction, database: Database) -> int:
    """Give back the leases of restored tables, uncounted, and forget their workers.

    Returns:
        The number of leases.
    """
    before, now = metadata.own_value(tx, _NAME), _identity(tx, database)
    if before == now:  # another process was first
        return 0
    metadata.set_own_value(tx, _NAME, now)
    if before is None:
        return 0
    released = releasing.release_all(tx)
    hosts.start_anew(tx, database.host_id, database.boot_id)
    return released


def _identity(tx: Transaction, database: Database) -> str:
    table = f"{database.quoted_schema}.durableq_meta"
    (found,) = tx.execute(_IDENTITY, (table,)).fetchone()
    return str(found)
