"""The progress of messages in flight. It is a part of their leases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.engines.memory.tables import Row
from durableq.model.message import Outcome
from durableq.model.progress import Progress, ProgressReport
from durableq.store.progress import ProgressReports


class MemoryProgress(MemoryBase, ProgressReports):
    """Operations on progress."""

    @operation
    def report_progress(self, reports: Sequence[ProgressReport]) -> list[Outcome]:
        """Store reports, each in place of the one before."""
        return [self._settle(report.receipt, partial(self._report, report)) for report in reports]

    def _report(self, report: ProgressReport, row: Row) -> Outcome:
        if row.lease is not None:
            _, fraction, text = report
            progress = Progress(row.id, row.queue, fraction, text, self._clock.now_ms())
            self._put(row, lease=row.lease._replace(progress=progress))
        return Outcome.DONE

    @query
    def progress_of(self, message_ids: Sequence[str]) -> list[Progress]:
        """Return the last reports about these messages."""
        return _reported(row for row in self._tables.rows.values() if row.id in message_ids)

    @query
    def progress_in(self, queue: str | None, limit: int) -> list[Progress]:
        """Return the last reports about messages of a queue, or of all."""
        if queue is not None:
            self._queue(queue)
        rows = self._tables.rows.values()
        return _reported(row for row in rows if queue in {None, row.queue})[:limit]


def _reported(rows: Iterable[Row]) -> list[Progress]:
    return [row.lease.progress for row in rows if row.lease and row.lease.progress]
