"""Slow start: after a breaker has closed, the capacity of a queue grows from a tenth to all."""

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.flow.capacity import FlowState, allowance, charged
from durableq.model.flow.info import limits_info
from durableq.model.flow.slow_start import START, part

CLOSED_AT_MS = 1 << 41
SLOW_START_MS = 10_000
LATER = [(0, 0.1), (1_000, 0.19), (5_000, 0.55), (9_999, 0.99991), (10_000, 1), (99_000, 1)]


def state(**limits: float) -> FlowState:
    """Return the state of a queue whose breaker has closed."""
    fields: dict[str, Any] = dict.fromkeys(FlowState._fields, 0)
    fields |= limits | {"slow_start_ms": SLOW_START_MS, "closed_at_ms": CLOSED_AT_MS}
    return FlowState(**fields)


@pytest.mark.parametrize(("since_ms", "expected"), LATER)
def test_the_part_grows_evenly(since_ms: int, expected: float) -> None:
    assert part(CLOSED_AT_MS, SLOW_START_MS, CLOSED_AT_MS + since_ms) == pytest.approx(expected)
    assert limits_info(state(), CLOSED_AT_MS + since_ms).started == pytest.approx(expected)


def test_it_is_all_without_slow_start_and_where_no_breaker_has_closed() -> None:
    assert part(CLOSED_AT_MS, 0, CLOSED_AT_MS) == 1
    assert part(0, SLOW_START_MS, 5) == 1


@pytest.mark.parametrize(("since_ms", "expected"), [(0, 5), (5_000, 27), (10_000, 50)])
def test_the_places_in_flight_grow(since_ms: int, expected: int) -> None:
    limited = state(max_in_flight=50)
    assert allowance(limited, 1_000, CLOSED_AT_MS + since_ms).number == expected
    assert state(max_in_flight=2).places(CLOSED_AT_MS) == 1


def test_with_a_rate_the_rate_grows_and_the_places_are_all_there() -> None:
    limited = state(rate=100, burst=50, max_in_flight=8)
    assert limited.places(CLOSED_AT_MS) == 8
    assert limited.pace(CLOSED_AT_MS) == (100_000_000, 5)
    assert limited.pace(CLOSED_AT_MS + SLOW_START_MS) == (10_000_000, 50)


@pytest.mark.parametrize(("since_ms", "expected"), [(0, 10), (5_000, 55), (10_000, 100)])
def test_without_both_a_receive_brings_a_part(since_ms: int, expected: int) -> None:
    assert allowance(state(), 100, CLOSED_AT_MS + since_ms).number == expected
    assert allowance(state(), 1, CLOSED_AT_MS).number == 1


@pytest.mark.parametrize("rate", [20, 100, 750])
def test_each_second_of_it_has_at_most_its_part_of_the_rate(rate: int) -> None:
    """A taker that asks each millisecond; nothing is charged that was not there."""
    limited, number = state(rate=rate, burst=max(1, rate // 10)), 0
    grants = []
    for since_ms in range(SLOW_START_MS + 2_000):
        now_ms = CLOSED_AT_MS + since_ms
        number = allowance(limited, 1_000, now_ms).number
        grants += [since_ms] * number
        limited = limited._replace(tat_ns=charged(limited, number, 0, now_ms).tat_ns)
    for second in range(12):
        within = sum(second * 1_000 <= at < (second + 1) * 1_000 for at in grants)
        share = min(1, START + (1 - START) * (second + 1) / 10)
        assert within <= rate * share * 1.1 + 1
        if second >= 10:
            assert within >= rate * 0.95 - 1
