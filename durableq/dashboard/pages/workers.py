"""The workers: state, messages in flight, memory and CPU."""

from __future__ import annotations

from typing import Any

from durableq.dashboard.visit import Visit


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    return {"workers": visit.look.overview().workers}
