"""Bugs to plant in the rules of rates."""

from __future__ import annotations

from typing import Any

from durableq.model.flow import rate

_MS_NS = 1_000_000


def charge_from_the_start_of_a_millisecond() -> None:
    """A grant at the end of a millisecond is paid for from its start."""
    module: Any = rate
    module.charge = lambda tat_ns, now_ms, interval_ns, number: (
        max(tat_ns, now_ms * _MS_NS) + number * interval_ns
    )


def round_intervals_down() -> None:
    module: Any = rate
    module.interval_ns = lambda per_second: int(1_000_000_000 / per_second)


BUGS = (charge_from_the_start_of_a_millisecond, round_intervals_down)
