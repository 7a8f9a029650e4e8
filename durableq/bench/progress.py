"""Progress of a run: the number of the current row, and an estimate of the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping


class Progress:
    """Lines of progress; each begins alike, so that a terminal shows the last one only.

    Args:
        expected: the expected duration of each row, in seconds.
        show: called with each line.
        is_terse: whether to show only the first of the lines with the same words before a colon.
        now: seconds, on a monotonic clock.
    """

    def __init__(
        self,
        expected: Mapping[Hashable, float],
        show: Callable[[str], None],
        *,
        is_terse: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = len(expected)
        self._left = dict(expected)
        self._done = 0.0
        self._show = show
        self._is_terse = is_terse
        self._subject = ""
        self._now = now
        self._began = self._ended = now()

    def __call__(self, text: str) -> None:
        """Show a line."""
        before, self._subject = self._subject, text.partition(":")[0]
        if self._is_terse and before == self._subject:
            return
        number = min(self._count - len(self._left) + 1, self._count)
        self._show(f"bench {number}/{self._count}, {duration(self.left_seconds)} left: {text}")

    def end_row(self, row: Hashable) -> None:
        """Count a row as ended."""
        self._done += self._left.pop(row, 0.0)
        self._ended = self._now()

    @property
    def left_seconds(self) -> float:
        """The estimate, at the pace of the rows that have ended."""
        pace = (self._ended - self._began) / self._done if self._done else 1.0
        return max(0.0, pace * sum(self._left.values()) - (self._now() - self._ended))


def duration(seconds: float) -> str:
    """Return about how long it takes, in seconds or minutes."""
    return f"~{seconds:.0f} s" if seconds < 100 else f"~{seconds / 60:.0f} min"
