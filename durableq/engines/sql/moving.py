"""One of the two stores of a transfer: its mark, its rows, its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sql import hosts, marks, orphans, redrive, releasing, steady_time
from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.fleet import workers
from durableq.engines.sql.metadata import own_value, set_own_value
from durableq.engines.sql.queues import all_queues, limit_anew
from durableq.engines.sql.schema import REVISIONS, VERSION_TABLE
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.errors import Conflict, DatabaseMoved, DatabaseUnusable
from durableq.model.health import Finding
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.moving import NOTE, Mark, Note, Times
from durableq.runtime.clock import SteadyClock
from durableq.store.moving import End, Key, Row, Unstorable

if TYPE_CHECKING:
    from durableq.engines.sql.definitions.moved import Compile, CopiedTable

_NS: Final = 1_000_000


class SQLEnd(Operations, End):
    """A store as the source or the target of a transfer, in SQL."""

    revision = REVISIONS[-1]
    _is_filling = False

    # ---- the engine's part

    @property
    def _clock(self) -> SteadyClock:
        """The clock of the store."""
        raise NotImplementedError

    @property
    def _compiled(self) -> Compile:
        """The function that makes a text of a construct."""
        raise NotImplementedError

    def _here(self, text: str) -> str:
        """Return a text with the tables in the schema of the store."""
        return text

    def _expect(self, revision: str) -> None:
        """From now on, refuse to write unless this stands for the revision."""
        raise NotImplementedError

    def _last_id(self, tx: Transaction, table: str) -> int:
        """Return the highest id that a table has given."""
        raise NotImplementedError

    def _set_last_id(self, tx: WriteTransaction, table: str, last: int) -> None:
        """Let a table give higher ids than this one."""
        raise NotImplementedError

    def _settle_counters(self, tx: WriteTransaction) -> None:
        """Let the table of counters be right by itself."""

    # ---- looking

    @cached_property
    def _tables(self) -> dict[str, CopiedTable]:
        from durableq.engines.sql.definitions.moved import copied_tables

        return {table.name: table for table in copied_tables(self._compiled)}

    @property
    def tables(self) -> Sequence[str]:  # type: ignore[override]
        """The tables that are copied, in order."""
        return [*self._tables]

    def look(self) -> tuple[Mark | None, Note | None]:
        """Return the mark and the note."""
        with self._database.read() as tx:
            return marks.find(tx.raw, self._here)

    def moment(self) -> Times:
        """Return the time."""
        with self._database.read() as tx:
            return Times(tx.now_ms, tx.lease_now_ms - LEASE_EPOCH_MS, tx.offset_ms)

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each copied table."""
        with self._database.read() as tx:
            return self._counts(tx)

    def workers(self) -> list[WorkerInfo]:
        """Return the registered workers."""
        with self._database.read() as tx:
            return tx.shown(workers(tx))

    def leases(self) -> int:
        """Return the number of leased messages."""
        with self._database.read() as tx:
            return len(tx.run(tx.sql.ALL_LEASES).fetchall())

    def queues(self) -> list[QueueInfo]:
        """Return every queue, its messages counted one by one."""
        with self._database.read() as tx:
            return tx.shown(all_queues(tx, recount=True))

    def orphans(self) -> list[Finding]:
        """Return the rows that belong to no other row."""
        with self._database.read() as tx:
            return orphans.find(tx)

    def with_nul(self) -> list[Unstorable]:
        """Return nothing: an engine whose texts have no U+0000."""
        return []

    def key_of(self, table: str, row: Row) -> Key:
        """Return the key of a row."""
        return tuple(row[number] for number in self._tables[table].key)

    def page(self, table: str, after: Key | None, limit: int, shift_ms: int) -> list[Row]:
        """Return rows in order of the key."""
        of = self._tables[table]
        text, values = (of.first, (limit,)) if after is None else (of.later, (*after, limit))
        with self._database.read() as tx:
            rows = tx.raw.execute(text, values).fetchall()
        return [_shifted(of, row, shift_ms) for row in rows]

    def last_ids(self) -> dict[str, int]:
        """Return the highest id that each table of ids has given."""
        from durableq.engines.sql.definitions.moved import tables_with_ids

        with self._database.read() as tx:
            return {table: self._last_id(tx, table) for table in tables_with_ids()}

    # ---- marks

    def pause(self, note: Note, check: Callable[[list[WorkerInfo]], None]) -> Note:
        """Give all leases back, and mark the store as being moved."""
        with self._changing(note.revision, Mark.MOVING.value) as tx:
            check(tx.shown(workers(tx)))
            note = replace(note, released=releasing.release_all(tx))
            hosts.start_anew(tx, self._clock.host_id(), self._clock.boot_id())
            set_own_value(tx, NOTE, note.to_json())
            tx.write_counters()
            self._settle_counters(tx)
        return note

    def mark_moved(self, note: Note) -> None:
        """Mark the store as moved."""
        with self._changing(Mark.MOVING.value, Mark.MOVED.value) as tx:
            self._check_note(tx, note)

    def use_again(self, note: Note) -> None:
        """Take the mark off."""
        mark, _ = self.look()
        before = note.revision if mark is None else mark.value
        with self._changing(before, note.revision) as tx:
            self._check_note(tx, note)
            set_own_value(tx, NOTE, None)

    def begin_filling(self, note: Note, other: Times) -> None:
        """Mark an empty store as being filled, or empty one that is, and take over the time."""
        mark, _ = self.look()
        before = note.revision if mark is None else mark.value
        with self._changing(before, Mark.FILLING.value) as tx:
            if mark is Mark.FILLING:
                self._empty(tx)
            elif there := {name: rows for name, rows in self._counts(tx).items() if rows}:
                raise Conflict(_not_empty(self.address, there))
            steady_time.take_over(tx, self._clock, other)
            set_own_value(tx, NOTE, note.to_json())

    def end_filling(self) -> None:
        """Take the mark off."""
        _, note = self.look()
        revision = note.revision if note else ""
        with self._changing(Mark.FILLING.value, revision) as tx:
            limit_anew(tx)
            set_own_value(tx, NOTE, None)

    def empty(self, note: Note) -> None:
        """Remove all copied rows, and take the mark off."""
        with self._changing(Mark.FILLING.value, note.revision) as tx:
            self._check_note(tx, note)
            self._empty(tx)

    # ---- rows of the target

    def put(self, table: str, rows: Sequence[Row], before: Note, after: Note) -> None:
        """Store rows, and the note about them."""
        of = self._tables[table]
        self._expect_filling()
        try:
            with self._database.write() as tx:
                stored = own_value(tx, NOTE)
                if stored is None:
                    raise changed(self.address)
                if stored != before.to_json():
                    raise Conflict(f"Another process fills {self.address} too. Let it end.")
                self._put(tx, of, rows)
                set_own_value(tx, NOTE, after.to_json())
        except UnicodeEncodeError as error:
            raise DatabaseUnusable(
                f"{table} has a row, after {before.after}, with a text that is not UTF-8, which "
                f"{self.address} cannot store. Look for it with `durableq doctor --deep`. Give the "
                "store that is being moved back to its processes with --abort, end that message "
                "and try again."
            ) from error

    def raise_ids(self, last_ids: dict[str, int]) -> None:
        """Let later ids be higher than these."""
        self._expect_filling()
        with self._database.write() as tx:
            for table, last in last_ids.items():
                self._set_last_id(tx, table, last)
            redrive.clamp(tx)

    def _expect_filling(self) -> None:
        """Refuse to write once another process has ended or aborted the transfer."""
        if not self._is_filling:
            self._expect(Mark.FILLING.value)
            self._is_filling = True

    def _put(self, tx: WriteTransaction, table: CopiedTable, rows: Sequence[Row]) -> None:
        if rows:
            tx.raw.executemany(table.put, rows)

    def _empty(self, tx: WriteTransaction) -> None:
        for table in self._tables.values():
            tx.execute(table.cleared)
        set_own_value(tx, NOTE, None)

    def _counts(self, tx: Transaction) -> dict[str, int]:
        return {name: tx.execute(of.counted).fetchone()[0] for name, of in self._tables.items()}

    def _check_note(self, tx: Transaction, note: Note) -> None:
        _, stored = marks.find(tx.raw, self._here)
        if stored is None or stored.id != note.id:
            raise Conflict(f"{self.address} belongs to another transfer. It was not changed.")

    @contextmanager
    def _changing(self, before: str, after: str) -> Iterator[WriteTransaction]:
        """Run a write transaction that replaces a revision or mark by another one."""
        self._expect(before)
        with self._database.write() as tx:
            tx.revision = tx.execute(self._here(marks.VERSION)).fetchone()[0]
            if tx.revision != before:
                raise changed(self.address)
            yield tx
            tx.write_counters()
            text = f"UPDATE {VERSION_TABLE} SET version_num = '{after}'"  # noqa: S608 - ours
            tx.execute(self._here(text))
            tx.revision = None
            self._expect(after)


def changed(address: str) -> DatabaseMoved:
    """Return the error for a store whose mark another process has changed."""
    return DatabaseMoved(
        f"{address} is not as this transfer left it: another process has ended or aborted the "
        "transfer, or migrated the store. Nothing more was written. Look at both stores with "
        "`durableq doctor`."
    )


def _shifted(table: CopiedTable, row: Any, shift_ms: int) -> Row:
    """Return a row with its times on the lease clock moved; 0 is no time."""
    if not shift_ms or not (table.lease_ms or table.lease_ns):
        return tuple(row)
    values = [*row]
    for positions, by in ((table.lease_ms, shift_ms), (table.lease_ns, shift_ms * _NS)):
        for number in positions:
            values[number] = max(0, values[number] + by) if values[number] else 0
    return tuple(values)


def _not_empty(address: str, there: dict[str, int]) -> str:
    rows = ", ".join(f"{number} in {name}" for name, number in there.items())
    return (
        f"{address} is not empty ({rows}): a transfer would mix two stores. Nothing was changed. "
        "Name another file, or another schema: ?schema=name."
    )
