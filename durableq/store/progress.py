"""The capability of progress: reports of handlers about messages in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durableq.model.message import Outcome
from durableq.model.progress import Progress, ProgressReport


class ProgressReports(Protocol):
    """The last report about each message in flight.

    A report belongs to the lease under which it was stored. It is gone once that lease has been
    settled, released or reclaimed: a retry begins without one, and a dead letter has none.
    """

    def report_progress(self, reports: Sequence[ProgressReport]) -> list[Outcome]:
        """Store reports, each in place of the one before: DONE, or refused."""
        ...

    def progress_of(self, message_ids: Sequence[str]) -> list[Progress]:
        """Return the last reports about these messages, in order of id.

        Those without one are left out: they are not in flight, or their handlers report none.
        """
        ...

    def progress_in(self, queue: str | None, limit: int) -> list[Progress]:
        """Return the last reports about messages of a queue, or of all, in order of id.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...
