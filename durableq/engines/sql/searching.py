"""The search for messages of a queue, newest first, a bounded number of rows at a time."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.queries import find_queue, messages_of
from durableq.engines.sql.transactions import Operations, Transaction
from durableq.model.info import ANYTHING, Search, SearchPage
from durableq.model.limits import SEARCHED

#: In place of a state: all of them.
_ALL: Final = -1


class SQLSearch(Operations):
    """The search of the capability of inspection, in SQL."""

    def search(
        self, queue: str, limit: int, wanted: Search = ANYTHING, before_id: str | None = None
    ) -> SearchPage:
        """Return messages of a queue, newest first."""
        before = wanted.check(before_id)
        with self._database.read() as tx:
            queue_id = find_queue(tx, queue).id
            ids, looked_to = _find(tx, queue_id, limit, wanted, before)
            found = messages_of(tx, ids)[::-1]
            return tx.shown(SearchPage(found, None if looked_to is None else str(looked_to)))


def _find(
    tx: Transaction, queue_id: int, limit: int, wanted: Search, before: int
) -> tuple[list[int], int | None]:
    """Return the ids of a page, and the id down to which it has looked; None: to the end.

    A queue with few messages is read by the indexes of their states, and no other is looked at. One
    with many has some among the next rows of the table.
    """
    only = _ALL if wanted.state is None else int(wanted.state)
    at = {"in_queue": queue_id, "only": only, "before": before}
    having = {"of_key": wanted.key, "words": wanted.text, "limit": limit}
    (number,) = tx.run(tx.sql.COUNT_CANDIDATES, limit=SEARCHED + 1, **at).fetchone()
    if number <= SEARCHED:
        found = tx.run(tx.sql.SEARCH_QUEUE, **at, **having).fetchall()
        has_more, lowest = False, None
    else:
        found = tx.run(tx.sql.SEARCH_WINDOW, window=SEARCHED, **at, **having).fetchall()
        looked_at, lowest = tx.run(tx.sql.LOOKED_AT, before=before, window=SEARCHED).fetchone()
        has_more = looked_at == SEARCHED
    ids = [row[0] for row in found]
    if len(ids) == limit:
        return ids, ids[-1]
    return ids, lowest if has_more else None
