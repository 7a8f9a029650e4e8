"""How long a failed message waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.lifecycle import backoff_ceiling_ms, backoff_ms
from durableq.model.limits import MAX_DELAY_MS, MAX_RECEIVES

receives = st.integers(1, MAX_RECEIVES)
waits = st.integers(0, MAX_DELAY_MS)


@pytest.mark.parametrize(
    ("receive_count", "ceiling"), [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000)]
)
def test_the_ceiling_doubles_with_each_receive_up_to_the_maximum(
    receive_count: int, ceiling: int
) -> None:
    assert backoff_ceiling_ms(receive_count, 1_000, 300_000) == ceiling


def test_a_message_that_was_never_received_does_not_wait() -> None:
    assert backoff_ceiling_ms(0, 1_000, 300_000) == 0


@given(receives, waits, waits)
def test_the_ceiling_never_falls_and_never_passes_the_maximum(n: int, base: int, most: int) -> None:
    assert backoff_ceiling_ms(n, base, most) <= backoff_ceiling_ms(n + 1, base, most) <= most


@given(receives, waits, waits, st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_below_its_ceiling(n: int, base: int, most: int, rng: float) -> None:
    ceiling = backoff_ceiling_ms(n, base, most)
    assert 0 <= backoff_ms(n, base, most, rng) <= max(0, ceiling - 1)


@given(receives, waits, waits)
def test_a_random_number_of_zero_means_no_wait(n: int, base: int, most: int) -> None:
    assert backoff_ms(n, base, most, 0.0) == 0
