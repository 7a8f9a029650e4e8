"""The progress of messages in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.settling import fence_of, refusal
from durableq.engines.sql.transactions import Operations, WriteTransaction, row_id
from durableq.model.message import Outcome
from durableq.model.progress import Progress, ProgressReport
from durableq.store.progress import ProgressReports

_ALL: Final = 0


class SQLProgress(Operations, ProgressReports):
    """The capability of progress, in SQL."""

    def report_progress(self, reports: Sequence[ProgressReport]) -> list[Outcome]:
        """Store reports, each in place of the one before."""
        return self._database.run(_report, reports)

    def progress_of(self, message_ids: Sequence[str]) -> list[Progress]:
        """Return the last reports about these messages."""
        with self._database.read() as tx:
            ids = tx.list_of([row_id(message_id) for message_id in message_ids])
            rows = tx.run(tx.sql.PROGRESS_OF, ids=ids).fetchall()
            return tx.shown([_progress(row) for row in rows])

    def progress_in(self, queue: str | None, limit: int) -> list[Progress]:
        """Return the last reports about messages of a queue, or of all."""
        with self._database.read() as tx:
            in_queue = _ALL if queue is None else find_queue(tx, queue).id
            rows = tx.run(tx.sql.PROGRESS_IN, in_queue=in_queue, limit=limit).fetchall()
            return tx.shown([_progress(row) for row in rows])


def prune(tx: WriteTransaction, limit: int) -> int:
    """Remove at most `limit` reports of leases that have ended; return the number."""
    removed: int = tx.run(tx.sql.PRUNE_PROGRESS, limit=limit).rowcount
    return removed


def _report(tx: WriteTransaction, reports: Sequence[ProgressReport]) -> list[Outcome]:
    return [
        Outcome.DONE if _is_stored(tx, report) else refusal(tx, report.receipt)
        for report in reports
    ]


def _is_stored(tx: WriteTransaction, report: ProgressReport) -> bool:
    """Store a report; return False if the lease of its receipt has ended."""
    receipt, fraction, text = report
    fence = fence_of(tx, receipt.queue, receipt.token)
    if fence is None:
        return False
    row, token = fence
    stored = tx.run(
        tx.sql.REPORT_PROGRESS,
        of=row_id(receipt.message_id),
        in_queue=row.id,
        token=token,
        fraction=fraction,
        new_text=text,
        now_ms=tx.now_ms,
    )
    return bool(stored.rowcount)


def _progress(row: tuple[Any, ...]) -> Progress:
    message_id, *rest = row
    return Progress(str(message_id), *rest)
