"""Samples of queues for charts: figures that no process has later.

They are read before the write lock is taken, because counting delayed messages may take a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from durableq.engines.sql.columns import COUNTERS, COUNTS
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.info import Sample
from durableq.model.limits import SAMPLE_EVERY_MS, SAMPLES_KEPT_MS
from durableq.model.queues import Counters, Counts

_FIGURES: Final = (*COUNTERS, *COUNTS)
_TOTALS: Final = len(COUNTERS)
#: What is counted of a queue: all figures but the number of ready messages.
_NUMBERS: Final = len(_FIGURES) - 1
#: Old samples of a queue that are removed at once.
_PRUNED: Final = 10


class Taken(NamedTuple):
    """New samples, and the time of the last time that samples were taken."""

    at_ms: int
    rows: list[dict[str, int]]
    #: The queues that have samples to be removed.
    old: list[int]


class SQLSamples(Operations):
    """The samples of the capability of inspection, in SQL."""

    def samples(self, queue: str, since_ms: int) -> list[Sample]:
        """Return a queue as it stood at times, oldest first."""
        with self._database.read() as tx:
            since = {"of_queue": find_queue(tx, queue).id, "since_ms": since_ms - tx.offset_ms}
            rows = tx.run(tx.sql.SAMPLES, **since).fetchall()
            return tx.shown([_sample(row) for row in rows])


def take(tx: Transaction, last_ms: int) -> Taken:
    """Return samples of the queues that have changed, if it is time for them.

    A queue that has not changed since its last sample needs none. Once it has changed, the last
    figures are also given for the last time at which it had not changed: the change is between.

    Args:
        tx: the transaction.
        last_ms: the last time; one far ahead is from before a clock was set back.
    """
    if tx.now_ms - SAMPLE_EVERY_MS < last_ms <= tx.now_ms:
        return Taken(last_ms, [], [])
    taken = Taken(tx.now_ms, [], [])
    for queue_id, *numbers in tx.run(tx.sql.STANDING).fetchall():
        now, (second_ms, at_ms, *before) = numbers[:_NUMBERS], numbers[_NUMBERS:]
        figures = _figures(now)
        if second_ms is not None and second_ms <= tx.now_ms - SAMPLES_KEPT_MS:
            taken.old.append(queue_id)
        if figures == before:
            continue
        if at_ms is not None and at_ms < last_ms < tx.now_ms:
            taken.rows.append(_row(queue_id, last_ms, before))
        taken.rows.append(_row(queue_id, tx.now_ms, figures))
    return taken


def keep(tx: WriteTransaction, taken: Taken) -> None:
    """Store new samples, and remove some old ones: more than are stored."""
    if taken.rows:
        tx.run_many(tx.sql.KEEP_SAMPLE_ROWS, taken.rows)
    if taken.old:
        at = {"until_ms": taken.at_ms - SAMPLES_KEPT_MS, "limit": _PRUNED}
        old = [{"of_queue": queue_id, **at} for queue_id in taken.old]
        tx.run_many(tx.sql.PRUNE_SAMPLES_ROWS, old)


def _figures(row: list[int | None]) -> list[int]:
    """Return counters and counts, from a row of counters and of messages that are not ready."""
    totals = [total or 0 for total in row[:_TOTALS]]  # missing in a damaged file
    waiting = [number or 0 for number in row[_TOTALS:]]
    ready = Counters(*totals).expected - sum(waiting)
    return [*totals, max(0, ready), *waiting]


def _row(queue_id: int, at_ms: int, figures: Iterable[int]) -> dict[str, int]:
    named = dict(zip(_FIGURES, figures, strict=True))
    return {"of_queue": queue_id, "at_ms": at_ms, **named}


def _sample(row: tuple[Any, ...]) -> Sample:
    at_ms, *figures = row
    return Sample(at_ms, Counters(*figures[:_TOTALS]), Counts(*figures[_TOTALS:]))
