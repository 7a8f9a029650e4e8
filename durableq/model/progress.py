"""The progress of messages in flight, as their handlers report it."""

from __future__ import annotations

import math
from typing import NamedTuple

from durableq.model.arguments import check_text
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_PROGRESS_CHARS
from durableq.model.message import Receipt
from durableq.model.text import shown, storable


class ProgressReport(NamedTuple):
    """How far the handler of a delivery is."""

    receipt: Receipt
    #: From 0 to 1.
    fraction: float
    text: str = ""


class Progress(NamedTuple):
    """The last report about a message in flight."""

    message_id: str
    queue: str
    #: From 0 to 1.
    fraction: float
    text: str
    #: The time at which the report was stored.
    at_ms: int

    @property
    def percent(self) -> int:
        """The fraction in whole percents, rounded down: 100 only at the end."""
        return percent_of(self.fraction)


def percent_of(fraction: float) -> int:
    """Return a fraction in whole percents, rounded down: 100 only at the end."""
    exact = fraction * 100 + 1e-9  # 0.29 * 100 is less than 29
    return 100 if fraction == 1 else min(99, math.floor(exact))


def progress_report(receipt: Receipt, fraction: float, text: str = "") -> ProgressReport:
    """Return a report; of a long text the first MAX_PROGRESS_CHARS characters are kept.

    Raises:
        InvalidInput: the fraction is no number from 0 to 1, or the text is no string.
    """
    check_text(text, "The text of a progress report")
    is_number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not (is_number and 0 <= fraction <= 1):  # NaN is in no range
        raise InvalidInput(
            f"Progress is a number from 0 to 1, got {shown(fraction)}. Divide what is done by the "
            "total: message.progress(done / total)."
        )
    kept = storable(text[:MAX_PROGRESS_CHARS]).replace("\0", "\\x00")  # PostgreSQL has no NUL
    return ProgressReport(receipt, float(fraction), kept[:MAX_PROGRESS_CHARS])
