"""Moving everything that one store has to another, of any engine with tables.

The steps, each of which may be the last before a crash (docs/decisions/0048):

1. The target is marked as being filled, then the source as being moved. No process writes in either
   from here on.
2. Rows are copied in batches, each with the key of its last row, in one transaction of the target.
3. All rows of both are hashed and compared, and the counters of both are audited.
4. The source is marked as moved, then the mark of the target is taken off.

A transfer that runs again finds the marks, and goes on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from durableq.admin.transfer_plan import (
    Clocks,
    both,
    check_unused,
    is_filled_from,
    nul_refusal,
    open_source,
    target_refusal,
)
from durableq.engines import open_end, open_store
from durableq.model.errors import Conflict, DatabaseUnusable, DurableQError
from durableq.model.health import Finding, Level, reconcile
from durableq.model.moving import Digest, Mark, Note, refused
from durableq.runtime.clock import Clock
from durableq.store.moving import End, Key, Row

#: Rows of the first batch of a table, and of the largest.
FIRST_ROWS: Final = 100
MOST_ROWS: Final = 2_000
#: A batch with more bytes makes the next one smaller.
BATCH_BYTES: Final = 4 << 20

#: Called with the rows that are done, their number in all, and the step in words.
Show = Callable[[int, int, str], None]


def _show_nothing(_done: int, _total: int, _step: str) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class Moved:
    """A transfer that has ended."""

    source: str
    target: str
    rows: dict[str, int]
    #: Leases that were given back, uncounted.
    released: int
    #: Whether an earlier call had begun it.
    resumed: bool
    #: The findings of the audit that are bad, in the source as in the target.
    findings: list[Finding]


class Aborted(NamedTuple):
    """A transfer that was undone."""

    source: str
    target: str | None
    #: Whether the source had a mark, and works again.
    freed: bool
    #: Whether the target had rows of this transfer, and is empty again.
    emptied: bool
    #: The reason for which the target could not be emptied.
    left: str | None


# ---- transfer


def transfer(
    source: str, target: str, show: Show = _show_nothing, clocks: Clocks = (None, None)
) -> Moved:
    """Move everything from a store to another one, or go on with a transfer of them.

    Args:
        source: the URL or path of a store.
        target: the URL or path of another one, empty or not there yet.
        show: is told of the progress.
        clocks: of both, for tests.

    Raises:
        NotFound: there is no source.
        Conflict: both are one store, the target is not empty, or workers use the source.
        DatabaseMoved: one of them belongs to another transfer.
        DatabaseUnusable: one cannot be opened, or the rows of both are not equal in the end.
    """
    with both(source, target, clocks) as (old, new):
        mark, _ = old.look()
        _refuse(old, new, mark, target)
        if new is not None:
            return _Run(old, new, show).run()
        open_store(target, clock=clocks[1]).close()
        with closing(open_source(target, clocks[1])) as made:
            return _Run(old, made, show).run()


def _refuse(old: End, new: End | None, mark: Mark | None, target: str) -> None:
    """Raise the reason for which a transfer cannot begin, before anything is changed."""
    is_ours = new is not None and is_filled_from(new, old)
    if mark is not None and not (is_ours and mark is not Mark.FILLING):
        raise refused(mark, old.look()[1], old.address)
    if new is not None and (error := target_refusal(old, new)):
        raise error
    if mark is not None:
        return
    check_unused(old.address)(old.workers())
    if error := nul_refusal(old, target):
        raise error


class _Run:
    """One run of a transfer.

    Args:
        old: the source.
        new: the target.
        show: is told of the progress.
    """

    def __init__(self, old: End, new: End, show: Show) -> None:
        self._old, self._new, self._show = old, new, show
        self._total = 0

    def run(self) -> Moved:
        """Run it from where it is to its end."""
        old, new = self._old, self._new
        note, resumed = self._begin()
        self._total = sum(old.counts().values())
        findings: list[Finding] = []
        if old.look()[0] is Mark.MOVING:
            note = self._copy(note)
            new.raise_ids(old.last_ids())
            self._verify(note)
            findings = self._audit()
            old.mark_moved(note)
        new.end_filling()
        released = (old.look()[1] or note).released
        return Moved(old.address, new.address, dict(note.rows), released, resumed, findings)

    def _begin(self) -> tuple[Note, bool]:
        """Mark both stores, or find their marks; return the target's note."""
        old, new = self._old, self._new
        mark, note = old.look()
        filling, its_note = new.look()
        if mark is not None:
            if filling is None or note is None or its_note is None or its_note.id != note.id:
                raise refused(mark, note, old.address)
            if note.revision != new.revision:
                raise Conflict(
                    "This transfer was begun by another durableq, whose tables differ. Go on with "
                    "that one, or undo the transfer with --abort."
                )
            return its_note, True
        then, now = old.moment(), new.moment()
        note = Note(
            secrets.token_hex(8),
            old.address,
            new.address,
            int(time.time() * 1000),
            old.revision,
            old.identity,
            lease_shift_ms=now.lease_ms - then.lease_ms,
        )
        new.begin_filling(note, old.moment())
        try:
            old.pause(note, check_unused(old.address))
        except DurableQError:
            with suppress(DurableQError):
                new.empty(note)
            raise
        return note, False

    def _copy(self, note: Note) -> Note:
        done = sum(note.rows.values())
        for table in self._old.tables:
            is_begun = table in note.rows
            if is_begun and (note.after is None or table != [*note.rows][-1]):
                continue
            after, size = (note.after if is_begun else None), FIRST_ROWS
            while True:
                rows = self._old.page(table, after, size, note.lease_shift_ms)
                after = self._old.key_of(table, rows[-1]) if len(rows) == size else None
                number = note.rows.get(table, 0) + len(rows)
                later = replace(note, rows={**note.rows, table: number}, after=after)
                self._new.put(table, rows, note, later)
                note, done = later, done + len(rows)
                self._show(done, self._total, f"copied, of {self._total} rows")
                if after is None:
                    break
                size = _next_size(rows, size)
        return note

    def _verify(self, note: Note) -> None:
        """Compare the rows of each table, by their number and by the sum of their hashes.

        Raises:
            DatabaseUnusable: they differ.
        """
        done = 0
        for table in self._old.tables:
            digests = []
            for end, shift_ms in ((self._old, note.lease_shift_ms), (self._new, 0)):
                digest = Digest()
                for rows in _pages(end, table, shift_ms):
                    digest = digest.with_rows(rows)
                    done += len(rows)
                    self._show(done // 2, self._total, f"compared, of {self._total} rows")
                digests.append(digest)
            if digests[0] != digests[1]:
                raise DatabaseUnusable(
                    f"The rows of {table} are not the same in {self._old.address} "
                    f"({digests[0].rows}) and {self._new.address} ({digests[1].rows}): another "
                    "program wrote in one of them, or this is a defect. Undo the transfer with "
                    "--abort: nothing is lost in the source."
                )

    def _audit(self) -> list[Finding]:
        """Compare the findings of the audits of both; return those that are bad.

        Raises:
            DatabaseUnusable: they differ.
        """
        before, after = (
            [*reconcile(end.queues()), *end.orphans()] for end in (self._old, self._new)
        )
        if before != after:
            new = next(finding for finding in after if finding not in before)
            raise DatabaseUnusable(
                f"The counters of {self._new.address} are not those of {self._old.address}: "
                f"{new.what}. Undo the transfer with --abort: nothing is lost in the source."
            )
        return [finding for finding in after if finding.level is Level.BAD]


def _pages(end: End, table: str, shift_ms: int) -> Iterator[list[Row]]:
    """Yield all rows of a table in pages."""
    after: Key | None = None
    size = FIRST_ROWS
    while rows := end.page(table, after, size, shift_ms):
        yield rows
        if len(rows) < size:
            return
        after = end.key_of(table, rows[-1])
        size = _next_size(rows, size)


def _next_size(rows: list[Row], size: int) -> int:
    """Return the number of rows of the next batch, so that its bytes stay few."""
    taken = sum(len(value) for row in rows for value in row if isinstance(value, str | bytes))
    wanted = size * 2 if taken < BATCH_BYTES // 2 else size * BATCH_BYTES // max(1, taken)
    return max(1, min(wanted, MOST_ROWS))


# ---- abort


def abort(source: str, target: str | None, clocks: Clocks = (None, None)) -> Aborted:
    """Undo a transfer that has not ended: the source works again, and the target is empty again.

    Args:
        source: the URL or path of its source.
        target: that of its target; None leaves its rows there, unusable.
        clocks: of both, for tests.

    Raises:
        NotFound: there is no source.
        Conflict: it has ended, or there is none.
    """
    with closing(open_source(source, clocks[0])) as old:
        mark, note = old.look()
        if mark is Mark.FILLING:
            raise Conflict(
                f"{old.address} is the target of a transfer, not its source. Swap --from and --to."
            )
        new, left = _try_open(target, clocks[1])
        try:
            its_note = new.look()[1] if new else None
            is_ours = new is not None and is_filled_from(new, old)
            if mark is Mark.MOVED and not is_ours:
                raise Conflict(
                    f"The transfer of {old.address} has ended, so it cannot be undone. "
                    f"{refused(mark, note, old.address)} To come back, move it to a new file or "
                    "schema."
                )
            if mark is None and not is_ours:
                raise Conflict(left or f"{old.address} is not being moved. Nothing was changed.")
            if mark is not None:
                old.use_again(_known(note, old))
            if new is not None and is_ours:
                new.empty(_known(its_note, new))
            to = new.address if new else None
            return Aborted(old.address, to, mark is not None, is_ours, left)
        finally:
            if new is not None:
                new.close()


def _known(note: Note | None, end: End) -> Note:
    """Return a note that is there.

    Raises:
        DatabaseUnusable: it is lost.
    """
    if note is None:
        raise DatabaseUnusable(
            f"{end.address} has the mark of a transfer, but no note about it: another program "
            "removed it. Restore a backup."
        )
    return note


def _try_open(url: str | None, clock: Clock | None) -> tuple[End | None, str | None]:
    """Open the target of a transfer that is undone, if it can be opened; otherwise say why not."""
    if url is None:
        return None, None
    try:
        return open_end(url, clock=clock), None
    except DurableQError as error:
        return None, str(error)
