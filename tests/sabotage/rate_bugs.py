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
_RATE = "tests/unit/test_rate.py::"
SEEN_BY = (
    (
        "charge_from_the_start_of_a_millisecond",
        _RATE + "test_no_window_has_an_excess_at_rates_near_the_clocks_tick",
    ),
    ("round_intervals_down", _RATE + "test_an_interval_is_never_shorter_than_the_rate_allows"),
)
