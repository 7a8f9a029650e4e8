"""Marks of stores between which everything is moved, and the sentences about them.

While a transfer runs, the revision of the tables of both stores is replaced by a mark. Every write
compares the revision, so a process that had the store open writes nothing more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, NamedTuple

from durableq.model.errors import DatabaseMoved

#: The name in durableq_meta of the note about a transfer.
NOTE: Final = "transfer"
_HASH_BYTES: Final = 16


class Mark(Enum):
    """The mark of a store, in the place of its revision."""

    #: The target of a transfer that has not ended.
    FILLING = "filling"
    #: Its source.
    MOVING = "moving"
    #: The source of a transfer that has ended.
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Note:
    """The knowledge of a store about a transfer: both have one. Addresses have no password."""

    #: Random; the notes of both stores have the same.
    id: str
    source: str
    target: str
    #: Wall clock, in milliseconds since the Unix epoch.
    at_ms: int
    #: The revision of the tables of both.
    revision: str
    #: The identity of the source.
    source_is: tuple[str, ...] = ()
    #: In the target: the rows that are there, by table. The last table may be unfinished.
    rows: Mapping[str, int] = field(default_factory=dict)
    #: The key of the last row of the last table; None: the table is finished.
    after: tuple[int | str, ...] | None = None
    #: Added to times on the lease clock.
    lease_shift_ms: int = 0
    #: Leases that were given back in the source.
    released: int = 0

    def to_json(self) -> str:
        """Return the form in which a note is stored."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Note | None:
        """Read a stored note; None if there is none, or it is damaged."""
        try:
            known: dict[str, Any] = json.loads(text or "null")
            known["source_is"] = tuple(known["source_is"])
            if known["after"] is not None:
                known["after"] = tuple(known["after"])
            return cls(**known)
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def date(self) -> str:
        """The time at which the transfer began, for people."""
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC)
        return at.strftime("%Y-%m-%d %H:%M UTC")


class Times(NamedTuple):
    """The time in a store at one moment."""

    #: Steady time, by which the store dates everything.
    now_ms: int
    #: Lease time.
    lease_ms: int
    #: Distance from steady time to the wall clock.
    offset_ms: int


class Digest(NamedTuple):
    """The number of rows of a table, and the sum of their hashes, whatever their order."""

    rows: int = 0
    total: int = 0

    def with_rows(self, rows: Iterable[tuple[Any, ...]]) -> Digest:
        """Return the digest with more rows."""
        number, total = self
        for row in rows:
            # Text that is not UTF-8 has surrogates.
            text = repr(row).encode("utf-8", "surrogatepass")
            total += int.from_bytes(hashlib.blake2b(text, digest_size=_HASH_BYTES).digest(), "big")
            number += 1
        return Digest(number, total % (1 << 8 * _HASH_BYTES))


def refused(mark: Mark, note: Note | None, place: str) -> DatabaseMoved:
    """Return the refusal to use a store that has a mark.

    Args:
        mark: the mark.
        note: the store's; None if it is lost.
        place: the store's address, without its password.
    """
    source, target = (note.source, note.target) if note else ("another store", "another store")
    if mark is Mark.MOVED:
        on = f" (transfer of {note.date})" if note else ""
        return DatabaseMoved(
            f"{place} was moved to {target}{on}. Nothing was written. Give that address: in the "
            "application, in DURABLEQ_DB, or with --db."
        )
    again = f"durableq transfer --from {source} --to {target}"
    if mark is Mark.MOVING:
        return DatabaseMoved(
            f"{place} is being moved to {target}. Nothing was written. Wait for the end, and give "
            f"that address then. A transfer that was interrupted goes on with `{again}`; with "
            "--abort, this store works again."
        )
    return DatabaseMoved(
        f"{place} is being filled from {source}. Nothing was written. Wait for the end. A transfer "
        f"that was interrupted goes on with `{again}`; with --abort, this store is emptied."
    )
