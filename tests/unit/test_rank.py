"""Ranks: the order in which ready messages are received."""

from hypothesis import given
from hypothesis import strategies as st

from durableq.model.flow.rank import STRICT_MS, rank
from durableq.model.limits import DAY_MS, MAX_PRIORITY

NOW_MS = 1_800_000_000_000
priorities = st.integers(-MAX_PRIORITY, MAX_PRIORITY)
times = st.integers(0, STRICT_MS - 1)


@given(priorities, times)
def test_without_groups_and_aging_a_rank_is_the_negative_priority(priority: int, at: int) -> None:
    assert rank(priority, at) == -priority


@given(priorities, priorities, times, times)
def test_in_groups_a_higher_priority_goes_first_at_any_time(
    one: int, other: int, at: int, other_at: int
) -> None:
    first, second = rank(one, at, has_groups=True), rank(other, other_at, has_groups=True)
    assert (first < second) == ((-one, at) < (-other, other_at))


@given(priorities, priorities, st.integers(1, DAY_MS), st.booleans())
def test_with_aging_a_level_is_worth_so_much_waiting(
    low: int, high: int, aging_ms: int, has_groups: bool
) -> None:
    def ranked(priority: int, at_ms: int) -> int:
        return rank(priority, at_ms, has_groups=has_groups, aging_ms=aging_ms)

    wait_ms = (high - low) * aging_ms
    assert ranked(low, NOW_MS) == ranked(high, NOW_MS + wait_ms)
    assert ranked(low, NOW_MS) < ranked(high, NOW_MS + wait_ms + 1)


@given(priorities, st.integers(1, DAY_MS) | st.just(0))
def test_ranks_fit_into_a_column(priority: int, aging_ms: int) -> None:
    found = rank(priority, STRICT_MS - 1, has_groups=True, aging_ms=aging_ms)
    assert -(1 << 63) < found < 1 << 63
