"""The state machine of circuit breakers: closed, open, half-open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.flow.breaker import (
    JITTER,
    NO_RESULTS,
    Breaker,
    BreakerSettings,
    Phase,
    Tally,
    advance,
    close,
    set_back,
    trip,
)

SETTINGS = BreakerSettings(share=0.5, minimum=4, open_ms=1_000, open_max_ms=4_000, probes=3)
CLOSED = Breaker(Phase.CLOSED, 0)
PROBING = Breaker(Phase.HALF_OPEN, 5_000, trips=1)


@pytest.mark.parametrize(
    ("tally", "phase"),
    [
        (Tally(3, 3), Phase.CLOSED),
        (Tally(1, 4), Phase.CLOSED),
        (Tally(2, 4), Phase.OPEN),
        (Tally(0, 99), Phase.CLOSED),
        (Tally(4, 4), Phase.OPEN),
    ],
)
def test_it_opens_at_the_share_of_enough_messages(tally: Tally, phase: Phase) -> None:
    after = advance(CLOSED, tally, 50, SETTINGS)
    assert after.phase is phase
    assert after is CLOSED or after == Breaker(Phase.OPEN, 50, 1, 1_050, *tally[:2])


@pytest.mark.parametrize(
    ("tally", "phase"),
    [
        (Tally(0, 2), Phase.HALF_OPEN),
        (Tally(0, 3), Phase.CLOSED),
        (Tally(1, 2), Phase.HALF_OPEN),
        (Tally(1, 3), Phase.CLOSED),
        (Tally(2, 2), Phase.OPEN),
        (Tally(1, 1), Phase.HALF_OPEN),
        (Tally(1, 1, is_final=True), Phase.OPEN),
        (Tally(0, 1, is_final=True), Phase.HALF_OPEN),
    ],
)
def test_probes_close_it_or_open_it_again(tally: Tally, phase: Phase) -> None:
    after = advance(PROBING, tally, 5_100, SETTINGS)
    assert after.phase is phase
    assert after.trips == {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}[phase]
    assert after is PROBING or after.since_ms == 5_100


def test_an_open_breaker_probes_when_its_time_is_over() -> None:
    opened = trip(CLOSED, Tally(1, 1), 100, SETTINGS)
    assert advance(opened, NO_RESULTS, 1_099, SETTINGS) is opened
    assert opened.left_ms(600) == 500
    probing = advance(opened, NO_RESULTS, 1_100, SETTINGS)
    assert (probing.phase, probing.since_ms, probing.trips) == (Phase.HALF_OPEN, 1_100, 1)
    assert probing.left_ms(1_100) == 0


def test_only_probes_go_through_a_half_open_one() -> None:
    assert CLOSED.places(10_000, SETTINGS) is None
    assert trip(CLOSED, NO_RESULTS, 0, SETTINGS).places(0, SETTINGS) == 0
    assert [PROBING.places(taken, SETTINGS) for taken in (0, 1, 3, 50)] == [3, 2, 0, 0]


def test_it_stays_open_twice_as_long_each_time_up_to_the_maximum() -> None:
    state, waits = CLOSED, []
    for now_ms in range(0, 50_000, 10_000):
        state = trip(state, NO_RESULTS, now_ms, SETTINGS)
        waits.append(state.left_ms(now_ms))
    assert waits == [1_000, 2_000, 4_000, 4_000, 4_000]
    assert SETTINGS.open_for_ms(10**9) == 4_000
    assert trip(close(state, 60_000), NO_RESULTS, 60_000, SETTINGS).left_ms(60_000) == 1_000


def test_a_service_may_ask_for_a_longer_time_within_the_maximum() -> None:
    asked = [
        trip(CLOSED, NO_RESULTS, 0, SETTINGS, at_least_ms=ms).until_ms for ms in (0, 3_000, 9_000)
    ]
    assert asked == [1_000, 3_000, 4_000]


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 50))
def test_jitter_only_shortens_the_open_time_and_not_by_much(rng: float, trips: int) -> None:
    state = trip(replace(CLOSED, trips=trips), NO_RESULTS, 0, SETTINGS, rng)
    whole_ms = SETTINGS.open_for_ms(trips + 1)
    assert whole_ms * (1 - JITTER) - 1 <= state.left_ms(0) <= whole_ms


def test_a_clock_that_was_set_back_leaves_no_time_in_the_future() -> None:
    opened = trip(CLOSED, NO_RESULTS, 1_000_000, SETTINGS)
    back = set_back(opened, 500)
    assert (back.since_ms, back.until_ms) == (500, 1_500)
    assert set_back(PROBING, 100) == replace(PROBING, since_ms=100)


TALLY = st.builds(
    lambda failed, succeeded, is_final: Tally(failed, failed + succeeded, is_final),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
)
SOME_SETTINGS = st.builds(
    BreakerSettings,
    share=st.floats(0.01, 1),
    minimum=st.integers(1, 8),
    open_ms=st.integers(1, 5_000),
    open_max_ms=st.integers(5_000, 60_000),
    probes=st.integers(1, 6),
)
ALLOWED = {
    (Phase.CLOSED, Phase.OPEN),
    (Phase.OPEN, Phase.HALF_OPEN),
    (Phase.HALF_OPEN, Phase.OPEN),
    (Phase.HALF_OPEN, Phase.CLOSED),
}


@given(SOME_SETTINGS, st.lists(st.tuples(st.integers(0, 9_000), TALLY), max_size=40))
def test_it_moves_along_four_edges_only_and_each_has_its_cause(
    settings: BreakerSettings, steps: list[tuple[int, Tally]]
) -> None:
    state, now_ms = CLOSED, 0
    for wait_ms, tally in steps:
        now_ms += wait_ms
        after = advance(state, tally, now_ms, settings)
        if after.phase is state.phase:
            assert after is state
            continue
        edge = state.phase, after.phase
        assert edge in ALLOWED
        assert after.since_ms == now_ms
        match edge:
            case (_, Phase.OPEN):
                assert after.trips == state.trips + 1
                assert tally.failed >= settings.share * min(tally.judged, settings.probes)
                assert 0 < after.left_ms(now_ms) <= settings.open_max_ms
            case (_, Phase.HALF_OPEN):
                assert now_ms >= state.until_ms
                assert after.trips == state.trips
            case (_, Phase.CLOSED):
                assert tally.judged >= settings.probes
                assert tally.failed < settings.share * settings.probes
                assert after == Breaker(Phase.CLOSED, now_ms)
        state = after
