"""The contract of a store that can be the source or the target of a transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from durableq.model.health import Finding
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.moving import Mark, Note, Times

#: A row: the values of all columns of a table, in order of the columns.
Row = tuple[Any, ...]
#: The values of a row's primary key.
Key = tuple[int | str, ...]


class Unstorable(NamedTuple):
    """Texts of a column that another engine cannot store."""

    table: str
    column: str
    rows: int


class End(Protocol):
    """One of the two stores of a transfer, opened whatever its mark is.

    Each write raises DatabaseUnusable unless the store has the mark that this process gave it, or
    found, so that two transfers, or a transfer and its abortion, do not mix.
    """

    #: The URL, without a password.
    address: str
    #: The revision of the tables that this durableq knows.
    revision: str
    #: The identity of the database.
    identity: tuple[str, ...]
    #: The tables that are copied, in order.
    tables: Sequence[str]

    def look(self) -> tuple[Mark | None, Note | None]:
        """Return the mark and the note of the store."""
        ...

    def moment(self) -> Times:
        """Return the time."""
        ...

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each copied table."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Return the registered workers."""
        ...

    def leases(self) -> int:
        """Return the number of leased messages."""
        ...

    def queues(self) -> list[QueueInfo]:
        """Return every queue, its messages counted one by one."""
        ...

    def orphans(self) -> list[Finding]:
        """Return the rows that belong to no other row, kind by kind."""
        ...

    def with_nul(self) -> list[Unstorable]:
        """Return the columns with texts that have the character U+0000."""
        ...

    # ---- as the source

    def pause(self, note: Note, check: Callable[[list[WorkerInfo]], None]) -> Note:
        """Give all leases back, uncounted, and mark the store as being moved.

        Args:
            note: to store.
            check: called with the registered workers; it raises to refuse.

        Returns:
            The note, with the number of leases.
        """
        ...

    def page(self, table: str, after: Key | None, limit: int, shift_ms: int) -> list[Row]:
        """Return rows of a table in order of the key.

        Args:
            table: its name.
            after: the key of the last row before them; None: from the start.
            limit: the greatest number of rows.
            shift_ms: added to times on the lease clock.
        """
        ...

    def key_of(self, table: str, row: Row) -> Key:
        """Return the key of a row."""
        ...

    def last_ids(self) -> dict[str, int]:
        """Return the highest id that each table of ids has given, by name."""
        ...

    def mark_moved(self, note: Note) -> None:
        """Mark the store as moved."""
        ...

    def use_again(self, note: Note) -> None:
        """Take the mark off, so that the store works as before."""
        ...

    # ---- as the target

    def begin_filling(self, note: Note, other: Times) -> None:
        """Mark an empty store, or one that was being filled and is emptied, as being filled.

        Args:
            note: to store.
            other: the time of the source, which this store takes over.

        Raises:
            Conflict: it has rows of its own.
        """
        ...

    def put(self, table: str, rows: Sequence[Row], before: Note, after: Note) -> None:
        """Store rows, and the note about them, in one transaction.

        Raises:
            Conflict: the stored note is not `before`: another process fills the store.
        """
        ...

    def raise_ids(self, last_ids: dict[str, int]) -> None:
        """Let later ids be higher than these."""
        ...

    def end_filling(self) -> None:
        """Take the mark off: the store is in use from here on."""
        ...

    def empty(self, note: Note) -> None:
        """Remove all copied rows, and take the mark off."""
        ...

    def close(self) -> None:
        """Close this process's connections."""
        ...
