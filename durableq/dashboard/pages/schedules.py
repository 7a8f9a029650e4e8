"""The schedules: their states, and their next and last slots."""

from __future__ import annotations

from typing import Any

from durableq.cli.schedule import timing_words
from durableq.dashboard.visit import Visit


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    return {"schedules": visit.look.overview().schedules, "timing_words": timing_words}
