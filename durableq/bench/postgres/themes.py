"""The themes of the benchmark of PostgreSQL."""

from __future__ import annotations

from typing import Final

from durableq.bench.figures import Theme
from durableq.bench.postgres import churn, many, messages, waiting

THEMES: Final[tuple[Theme, ...]] = (
    messages.MESSAGES,
    many.MANY,
    waiting.WAITING,
    churn.CHURN,
)
