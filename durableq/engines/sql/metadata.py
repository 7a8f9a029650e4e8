"""Metadata: small texts that processes share, and those of the engine itself."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.info import check_metadata, metadata_suffix
from durableq.store.capabilities import Metadata

#: Prefix of the names that callers choose: the engine's own have none.
NOTE_PREFIX: Final = "note:"


class SQLMetadata(Operations, Metadata):
    """The capability of metadata, in SQL."""

    def get_metadata(self, name: str) -> str | None:
        """Return the text stored under a name."""
        with self._database.read() as tx:
            return get_metadata(tx, name)

    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Store a text under a name if the present one is `expected`."""
        check_metadata(name, text)
        with self._database.write() as tx:
            return compare_and_set(tx, name, text, expected)


def get_metadata(tx: Transaction, name: str) -> str | None:
    """Return the text stored under a name, or None."""
    row = tx.run(tx.sql.META, of=NOTE_PREFIX + name).fetchone()
    return row[0] if row else None


def compare_and_set(tx: WriteTransaction, name: str, text: str, expected: str | None) -> bool:
    """Store a text under a name; see Metadata.compare_and_set."""
    if get_metadata(tx, name) != expected:
        return False
    tx.run(tx.sql.SET_META, of=NOTE_PREFIX + name, value=text)
    return True


def drop_metadata_of(tx: WriteTransaction, queue: str) -> None:
    """Drop the metadata that belongs to a queue by its name."""
    tx.run(tx.sql.DROP_NOTES, note=NOTE_PREFIX, tail=metadata_suffix(queue))


def own_value(tx: Transaction, name: str) -> str | None:
    """Return a value of the engine's own."""
    row = tx.run(tx.sql.META, of=name).fetchone()
    return row[0] if row else None


def own_values(tx: Transaction, start: str) -> dict[str, str]:
    """Return the values of the engine's own whose names begin so, by name."""
    return dict(tx.run(tx.sql.META_VALUES, start=start).fetchall())


def set_own_value(tx: Transaction, name: str, value: str | None) -> None:
    """Set a value of the engine's own; None drops it."""
    if value is None:
        tx.run(tx.sql.DROP_META, of=name)
    else:
        tx.run(tx.sql.SET_META, of=name, value=value)
