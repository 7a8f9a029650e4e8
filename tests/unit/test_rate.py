"""GCRA: no window of time has more tokens than burst + rate x window, and none are withheld."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durableq.model.errors import InvalidInput
from durableq.model.flow.rate import (
    available,
    charge,
    check_rate,
    default_burst,
    interval_ns,
    limited,
    wait_ms,
)
from durableq.model.limits import MAX_RATE, MIN_RATE

MS, SECOND = 1_000_000, 1_000_000_000
START_NS = (1 << 41) * MS + 123_456

rates = st.floats(MIN_RATE, MAX_RATE) | st.integers(1, 5_000)
busy_rates = st.floats(50, 5_000) | st.integers(50, 5_000)
bursts = st.integers(1, 50)
pauses_ns = st.integers(0, 5 * MS) | st.integers(0, 50) | st.integers(0, SECOND)
takers = st.lists(st.tuples(pauses_ns, st.integers(1, 60)), min_size=1, max_size=60)

#: A grant: the real time in nanoseconds, and its tokens.
Grant = tuple[int, int]


class Bucket:
    """A stored number, and takers that read the time as the lease clock has it."""

    def __init__(self, rate: float, burst: int) -> None:
        self.tat_ns = 0
        self.set(rate, burst)

    def set(self, rate: float, burst: int) -> None:
        self.interval_ns, self.burst = interval_ns(rate), burst

    def take(self, at_ns: int, wanted: int) -> int:
        now_ms = at_ns // MS
        granted = min(wanted, available(self.tat_ns, now_ms, self.interval_ns, self.burst))
        self.tat_ns = charge(self.tat_ns, now_ms, self.interval_ns, granted)
        return granted

    def wait_ms(self, at_ns: int, number: int = 1) -> int:
        return wait_ms(self.tat_ns, at_ns // MS, self.interval_ns, self.burst, number)


def excess(grants: Sequence[Grant], rate: float, burst: int) -> Fraction:
    """Return the most tokens that any window has beyond burst + rate x window."""
    sums = [0, *accumulate(number for _, number in grants)]
    return max(
        sums[last + 1] - sums[first] - burst - Fraction(rate) * (grants[last][0] - at_ns) / SECOND
        for first, (at_ns, _) in enumerate(grants)
        for last in range(first, len(grants))
    )


def taken(bucket: Bucket, pauses: Sequence[tuple[int, int]], at_ns: int = START_NS) -> list[Grant]:
    grants = []
    for pause_ns, wanted in pauses:
        at_ns += pause_ns
        grants.append((at_ns, bucket.take(at_ns, wanted)))
    return grants


@given(rates, bursts, takers)
def test_no_window_has_more_than_burst_and_rate_allow(
    rate: float, burst: int, pauses: list[tuple[int, int]]
) -> None:
    assert excess(taken(Bucket(rate, burst), pauses), rate, burst) <= 0


@example(250.0, 1, [(0, 1), (3_876_544, 1)])
@given(busy_rates, bursts, takers)
def test_no_window_has_an_excess_at_rates_near_the_clocks_tick(
    rate: float, burst: int, pauses: list[tuple[int, int]]
) -> None:
    assert excess(taken(Bucket(rate, burst), pauses), rate, burst) <= 0


@given(busy_rates, takers, busy_rates, bursts, takers)
def test_a_changed_rate_applies_from_its_change_on(
    before: float,
    first: list[tuple[int, int]],
    rate: float,
    burst: int,
    then: list[tuple[int, int]],
) -> None:
    bucket = Bucket(before, 50)
    at_ns = taken(bucket, first)[-1][0]
    bucket.set(rate, burst)
    bucket.tat_ns = limited(bucket.tat_ns, at_ns // MS, bucket.interval_ns, burst)
    assert excess(taken(bucket, then, at_ns), rate, burst) <= 0
    longest_ms = (burst * bucket.interval_ns + 3 * MS) // MS
    assert bucket.wait_ms(at_ns + 10**12) <= longest_ms


def test_a_faster_rate_does_not_wait_for_the_debt_of_the_slow_one() -> None:
    bucket = Bucket(0.001, 1)
    assert bucket.take(START_NS, 1) == 1
    assert bucket.wait_ms(START_NS) == pytest.approx(1_000_000, abs=2)
    bucket.set(100, 10)
    bucket.tat_ns = limited(bucket.tat_ns, START_NS // MS, bucket.interval_ns, 10)
    assert bucket.wait_ms(START_NS) <= 12


@given(rates, bursts, takers, st.data())
def test_after_the_wait_the_tokens_are_there_and_a_millisecond_before_they_are_not(
    rate: float, burst: int, pauses: list[tuple[int, int]], data: st.DataObject
) -> None:
    bucket = Bucket(rate, burst)
    at_ns = taken(bucket, pauses)[-1][0]
    number = data.draw(st.integers(1, burst))
    left_ms, now_ms = bucket.wait_ms(at_ns, number), at_ns // MS
    of = bucket.interval_ns, burst
    assert available(bucket.tat_ns, now_ms + left_ms, *of) >= number
    if left_ms:
        assert available(bucket.tat_ns, now_ms + left_ms - 1, *of) < number


@given(rates, bursts)
def test_the_first_grants_may_be_a_whole_burst_and_no_more(rate: float, burst: int) -> None:
    bucket = Bucket(rate, burst)
    assert bucket.take(START_NS, burst + 5) == burst
    assert bucket.take(START_NS, 1) == 0


@given(st.integers(10, 5_000))
def test_a_taker_that_asks_in_each_millisecond_has_the_whole_rate(rate: int) -> None:
    bucket, burst = Bucket(rate, max(2, rate // 10)), max(2, rate // 10)
    milliseconds = 500
    got = sum(bucket.take(START_NS + n * MS, 1_000_000) for n in range(milliseconds))
    ideal = burst + math.floor(rate * (milliseconds - 3) / 1_000)
    assert got >= ideal


@given(rates)
def test_an_interval_is_never_shorter_than_the_rate_allows(rate: float) -> None:
    exact = Fraction(SECOND) / Fraction(rate)
    assert exact <= interval_ns(rate) < exact + 1


@given(rates)
def test_a_burst_that_is_not_given_has_a_tenth_of_a_second(rate: float) -> None:
    assert 1 <= default_burst(rate) <= max(1, rate / 10)


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 42), st.integers(1, SECOND))
def test_a_grant_of_nothing_costs_nothing(tat_ns: int, now_ms: int, price_ns: int) -> None:
    assert charge(tat_ns, now_ms, price_ns, 0) == tat_ns


@pytest.mark.parametrize("rate", [MIN_RATE, 0.5, 1, 200, MAX_RATE])
def test_a_rate_within_its_bounds_is_accepted(rate: float) -> None:
    check_rate(rate, "The rate")


@pytest.mark.parametrize(
    "rate", [0, -1, float("nan"), float("inf"), 1e-9, 1_000_001, True, None, "5", 1j]
)
def test_a_rate_that_is_no_rate_is_refused_with_its_bounds(rate: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^The rate is a number of messages a second from 0\."):
        check_rate(rate, "The rate")
