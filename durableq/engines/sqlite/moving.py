"""A SQLite file as the source or the target of a transfer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sql import marks
from durableq.engines.sql.moving import SQLEnd, changed
from durableq.engines.sql.transactions import RevisionCheck, Transaction, WriteTransaction
from durableq.engines.sqlite import schema
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.location import Location
from durableq.model.errors import DatabaseUnusable
from durableq.runtime.clock import Clock, SteadyClock
from durableq.store.moving import Unstorable

if TYPE_CHECKING:
    from sqlalchemy.sql.expression import ClauseElement

    from durableq.engines.sql.definitions.moved import Compile

_SEQUENCE: Final = "SELECT seq FROM sqlite_sequence WHERE name = ?"
_SET_SEQUENCE: Final = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
_NEW_SEQUENCE: Final = "INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)"


class FileEnd(SQLEnd):
    """A file. Its ids go on after the highest, where a table uses no id twice.

    Args:
        database: the file.
    """

    _database: Database

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        path = database.location.path
        self.address = str(path)
        status = os.stat(path)
        self.identity = ("file", str(status.st_dev), str(status.st_ino))

    @property
    def _clock(self) -> SteadyClock:
        return self._database.clock

    @property
    def _compiled(self) -> Compile:
        return _compiled

    def _expect(self, revision: str) -> None:
        check = RevisionCheck(marks.VERSION, revision, partial(_refusal, self._database))
        self._database.remember_identity(check)

    def _last_id(self, tx: Transaction, table: str) -> int:
        text = f"SELECT coalesce(max(id), 0) FROM {table}"  # noqa: S608 - ours
        (highest,) = tx.execute(text).fetchone()
        row = tx.execute(_SEQUENCE, (table,)).fetchone()
        last: int = max(highest, row[0] if row else 0)
        return last

    def _set_last_id(self, tx: WriteTransaction, table: str, last: int) -> None:
        if table in _COUNTED and not tx.execute(_SET_SEQUENCE, (last, table)).rowcount:
            tx.execute(_NEW_SEQUENCE, (last, table))

    def with_nul(self) -> list[Unstorable]:
        """Return the columns with texts that have the character U+0000."""
        found = []
        with self._database.read() as tx:
            for table in self._tables.values():
                for column in table.texts:
                    has_nul = f"instr(CAST({table.name}.{column} AS BLOB), x'00') > 0"
                    text = f"SELECT count(*) FROM {table.name} WHERE {has_nul}"  # noqa: S608
                    if rows := tx.execute(text).fetchone()[0]:
                        found.append(Unstorable(table.name, column, rows))
        return found

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()


#: The tables that are AUTOINCREMENT, and so have a row in sqlite_sequence.
_COUNTED: Final = ("durableq_message", "durableq_worker", "durableq_redrive_task")


def open_end(location: Location, clock: Clock | None) -> FileEnd | None:
    """Open a file, whatever its mark is; None if there is none, or it is empty.

    Raises:
        DatabaseUnusable: it is not a durableq database of this revision.
    """
    path = location.path
    if not path.exists():
        return None
    database = Database(location, clock)
    try:
        raw = database.session().raw
        found = database.lock.retrying(lambda: schema.state_of(raw))
        if found is schema.SchemaState.EMPTY:
            database.close()
            return None
        refusal = schema.refuse(found, schema.Purpose.USE, path)
        if refusal is not None and found is not schema.SchemaState.MARKED:
            raise refusal
        return FileEnd(database)
    except BaseException:
        database.close()
        raise


def _compiled(construct: ClauseElement, order: Sequence[str]) -> str:
    from durableq.engines.sql.definitions import generation
    from durableq.engines.sqlite.compiler import DIALECT

    return generation.in_order(generation.compile_text(construct, DIALECT), order, "?")


def _refusal(database: Database, _: Any) -> DatabaseUnusable:
    return changed(str(Path(database.location.path)))
