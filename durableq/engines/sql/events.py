"""The history of all messages, page by page in the order in which it was written.

Ids of events rise in the order of commits. A SQLite file has one writer. On PostgreSQL an event is
written under the write lock of the schema, which is held to the end of the transaction, also of one
that user code has opened: the next id is taken after the last one can be read. So a reader that has
seen an event has missed none before it.

SQLite gives the ids of the newest events again once these are removed, with their queue or by
retention. So a mark has the time and the message of its event too: if that is gone, the reader goes
back to the last one that is older.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from durableq.engines.sql.dead_letters import as_event
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.transactions import Operations, Transaction
from durableq.model.info import ALL_EVENTS, HistoryFilter, HistoryMark, HistoryPage
from durableq.model.limits import LOOKED_BACK, SEARCHED
from durableq.model.units import check_whole

#: The id, time, message, queue and kind of an event.
_Head = tuple[int, int, int, int, str]
_BEHIND_ALL: Final = (1 << 63) - 1


class SQLEvents(Operations):
    """The events of the capability of inspection, in SQL."""

    def events(
        self, after: str = "", limit: int = 1000, wanted: HistoryFilter = ALL_EVENTS
    ) -> HistoryPage:
        """Return the next events of all messages."""
        mark = HistoryMark.parse(after)
        check_whole(limit, "The limit of a page of events", 1, SEARCHED)
        with self._database.read() as tx:
            chosen = _Chosen(tx, wanted)
            at = {"after": _present(tx, mark), "window": chosen.window(limit, SEARCHED)}
            heads = tx.run(tx.sql.EVENTS_AFTER, **at).fetchall()
            found, looked_at = chosen.first(heads, limit)
            rows = tx.run(tx.sql.EVENTS, ids=tx.list_of(found)).fetchall() if found else []
            to = _mark(heads[looked_at - 1]) if looked_at else after
            return tx.shown(HistoryPage([as_event(row) for row in rows], to))

    def mark_before(self, number: int, wanted: HistoryFilter = ALL_EVENTS) -> str:
        """Return the mark before the last events."""
        check_whole(number, "The number of the last events", 0, LOOKED_BACK)
        with self._database.read() as tx:
            chosen = _Chosen(tx, wanted)
            window = chosen.window(number + 1, LOOKED_BACK) if number else 1
            heads = tx.run(tx.sql.EVENTS_BEFORE, before=_BEHIND_ALL, window=window).fetchall()
            *newer, oldest = heads if len(heads) == window else [*heads, None]
            _, looked_at = chosen.first(newer, number)
            return _mark([*newer, oldest][looked_at])

    def mark_since(self, since_ms: int) -> str:
        """Return the mark before the events since a time."""
        with self._database.read() as tx:
            since = {"since_ms": since_ms - tx.offset_ms}
            (first,) = tx.run(tx.sql.FIRST_EVENT_SINCE, **since).fetchone()
            before = _BEHIND_ALL if first is None else first
            return _mark(tx.run(tx.sql.EVENTS_BEFORE, before=before, window=1).fetchone())


class _Chosen:
    """The events that a filter lets through.

    Args:
        tx: the transaction.
        wanted: the filter.

    Raises:
        UnknownQueue: one of its queues does not exist.
    """

    def __init__(self, tx: Transaction, wanted: HistoryFilter) -> None:
        self._queues = {find_queue(tx, name).id for name in wanted.queues}
        self._kinds = {kind.value for kind in wanted.kinds}

    def window(self, number: int, looked_at: int) -> int:
        """Return the number of events to look at, to find a number of them."""
        return looked_at if self._queues or self._kinds else number

    def first(self, heads: Sequence[_Head], number: int) -> tuple[list[int], int]:
        """Return the ids of the first events that are wanted, and how many were looked at."""
        found: list[int] = []
        for looked_at, (event_id, _, _, queue, kind) in enumerate(heads, 1):
            is_of_queue = not self._queues or queue in self._queues
            if is_of_queue and (not self._kinds or kind in self._kinds):
                found.append(event_id)
                if len(found) == number:
                    return found, looked_at
        return found, len(heads)


def _mark(head: _Head | None) -> str:
    """Return the mark behind an event; None: before the first one."""
    return str(HistoryMark() if head is None else HistoryMark(*head[:3]))


def _present(tx: Transaction, mark: HistoryMark) -> int:
    """Return the id of the event of a mark; if it is gone, of the last one that is older."""
    if not mark.id:
        return 0
    head = tx.run(tx.sql.EVENT_HEAD, of=mark.id).fetchone()
    if head is not None and HistoryMark(*head[:3]) == mark:
        return mark.id
    (last,) = tx.run(tx.sql.EVENT_BEFORE_GONE, gone=mark.id, at_ms=mark.at_ms).fetchone()
    return last or 0
