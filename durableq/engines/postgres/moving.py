"""A schema of a PostgreSQL database as the source or the target of a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.postgres import schema
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.dialect import qualified
from durableq.engines.postgres.location import Location
from durableq.engines.sql import marks
from durableq.engines.sql.moving import SQLEnd, changed
from durableq.engines.sql.schema import Purpose, SchemaState
from durableq.engines.sql.transactions import RevisionCheck, Transaction, WriteTransaction
from durableq.model.errors import DatabaseUnusable
from durableq.runtime.clock import Clock, SteadyClock

if TYPE_CHECKING:
    from sqlalchemy.sql.expression import ClauseElement

    from durableq.engines.sql.definitions.moved import Compile

_IDENTITY: Final = (
    "SELECT system_identifier::text, (SELECT oid::text FROM pg_database "
    "WHERE datname = current_database()) FROM pg_control_system()"
)
#: Adds all rows of deltas to the counters; nothing else writes meanwhile.
_FOLD_ALL: Final = (
    """\
UPDATE durableq_counters AS c
SET sent = c.sent + d.sent, completed = c.completed + d.completed
FROM (
    SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
    FROM durableq_counter_delta GROUP BY queue_id
) AS d WHERE d.queue_id = c.queue_id""",
    "DELETE FROM durableq_counter_delta",
)


class SchemaEnd(SQLEnd):
    """A schema. Its ids go on after the highest.

    Args:
        database: the schema.
        address: its URL, without a password.
    """

    _database: Database

    def __init__(self, database: Database, address: str) -> None:
        super().__init__(database)
        self.address = address
        with database.read() as tx:
            server, number = tx.execute(_IDENTITY).fetchone()
        self.identity = ("postgresql", server, number, database.schema)

    @property
    def _clock(self) -> SteadyClock:
        return self._database.time

    @property
    def _compiled(self) -> Compile:
        return partial(_compiled, self._database.schema)

    def _here(self, text: str) -> str:
        return self._database.in_schema(text)

    def _expect(self, revision: str) -> None:
        refusal = partial(_refusal, self.address)
        self._database.revision_check = RevisionCheck(self._here(marks.VERSION), revision, refusal)

    def _settle_counters(self, tx: WriteTransaction) -> None:
        for text in _FOLD_ALL:
            tx.execute(self._here(text))

    def _last_id(self, tx: Transaction, table: str) -> int:
        text = "SELECT coalesce(pg_sequence_last_value($1::regclass), 0)"
        last: int = tx.execute(text, (self._sequence(table),)).fetchone()[0]
        return last

    def _set_last_id(self, tx: WriteTransaction, table: str, last: int) -> None:
        if last:
            tx.execute("SELECT setval($1::regclass, $2)", (self._sequence(table), last))

    def _sequence(self, table: str) -> str:
        return f"{self._database.quoted_schema}.{table}_id_seq"

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()


def open_end(location: Location, address: str, clock: Clock | None) -> SchemaEnd | None:
    """Open a schema, whatever its mark is; None if it has no tables of durableq.

    Raises:
        DatabaseUnusable: they are of another revision, or the database cannot be reached.
    """
    database = Database(location, clock)
    try:
        with database.connected() as (link, _):
            found = schema.state_of(link, database)
        if found is SchemaState.EMPTY:
            database.close()
            return None
        if (refusal := schema.refuse(found, Purpose.USE, database)) is not None:
            raise refusal
        return SchemaEnd(database, address)
    except BaseException:
        database.close()
        raise


def _compiled(schema_name: str, construct: ClauseElement, order: Sequence[str]) -> str:
    from durableq.engines.postgres.compiler import DIALECT
    from durableq.engines.sql.definitions import generation

    text = generation.in_order(generation.compile_text(construct, DIALECT), order, "$")
    return qualified(text, schema_name)


def _refusal(address: str, _: Any) -> DatabaseUnusable:
    return changed(address)
