"""Steady time as arithmetic: the size of a jump, and the time after one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.limits import DAY_MS
from durableq.model.message import FOREVER_MS, Message, Received, State
from durableq.runtime.clock import (
    JUMP_MS,
    RENEW_MS,
    Anchor,
    Reading,
    SteadyClock,
    advance,
    jump,
    shift,
)
from durableq.testing import FakeClock

WALL, BOOT = 1_700_000_000_000, 5_000_000
START = Anchor(WALL, BOOT, "a", WALL)


def later(wall_ms: int, boot_ms: int, boot_id: str = "a") -> Reading:
    return Reading(WALL + wall_ms, BOOT + boot_ms, boot_id)


@pytest.mark.parametrize(
    ("now", "jump_ms", "steady_ms"),
    [
        (later(1_000, 1_000), 0, 1_000),
        (later(30 * DAY_MS, 30 * DAY_MS), 0, 30 * DAY_MS),
        (later(1_000 + JUMP_MS, 1_000), 0, 1_000 + JUMP_MS),
        (later(1_000 - JUMP_MS, 1_000), 0, 1_000 - JUMP_MS),
        (later(DAY_MS, 1_000), DAY_MS - 1_000, 1_000),
        (later(-DAY_MS, 1_000), -DAY_MS - 1_000, 1_000),
        (later(1_000, DAY_MS), 1_000 - DAY_MS, DAY_MS),
        (later(DAY_MS, -DAY_MS), 2 * DAY_MS, 0),
        (later(DAY_MS, 0, "b"), 0, DAY_MS),
        (later(1_000 - JUMP_MS, 0, "b"), 0, 1_000 - JUMP_MS),
        (later(-DAY_MS, 0, "b"), -DAY_MS, 0),
    ],
    ids=[
        "a second",
        "a quiet month",
        "a step within the bound",
        "a step back within the bound",
        "ahead",
        "back",
        "set back by most of what passed",
        "a boot clock that goes back",
        "another boot, after a day switched off",
        "another boot, a little behind",
        "another boot, behind",
    ],
)
def test_steady_time_after_a_jump(now: Reading, jump_ms: int, steady_ms: int) -> None:
    assert jump(START, now) == jump_ms
    assert advance(START, now).steady_ms - WALL == steady_ms


def test_clocks_that_agree_again_are_equal() -> None:
    ahead = advance(START, later(DAY_MS, 1_000))
    assert ahead.offset_ms == DAY_MS - 1_000
    back = advance(ahead, later(1_500, 2_000))
    assert (back.steady_ms, back.offset_ms) == (WALL + 1_500, 0)


steps = st.lists(
    st.tuples(
        st.integers(0, 3 * DAY_MS),
        st.sampled_from([0, 0, 0, 500, -2_000, DAY_MS, -DAY_MS, 366 * DAY_MS, -21 * DAY_MS]),
        st.booleans(),
    ),
    max_size=20,
)


@given(steps)
def test_within_one_boot_steady_time_advances_as_the_boot_clock_but_for_small_steps(
    walk: list[tuple[int, int, bool]],
) -> None:
    anchor, boot_ms, wall_ms, small_ms = START, 0, 0, 0
    for passed_ms, step_ms, renewed in walk:
        boot_ms += passed_ms
        wall_ms += passed_ms + step_ms
        now = advance(anchor, later(wall_ms, boot_ms))
        small_ms += JUMP_MS if step_ms else 0
        assert abs(now.steady_ms - WALL - boot_ms) <= small_ms
        if renewed:
            anchor = now


@given(steps)
def test_an_older_anchor_tells_the_same_time(
    walk: list[tuple[int, int, bool]],
) -> None:
    """But for the steps that are followed, and the equality of clocks that agree again."""
    anchor, boot_ms, wall_ms = START, 0, 0
    for passed_ms, step_ms, _ in walk:
        boot_ms += passed_ms
        wall_ms += passed_ms + step_ms
        anchor = advance(anchor, later(wall_ms, boot_ms))
    direct = advance(START, later(wall_ms, boot_ms))
    assert abs(direct.steady_ms - anchor.steady_ms) <= JUMP_MS * (len(walk) + 1)


@given(steps)
def test_across_boots_steady_time_never_goes_back(walk: list[tuple[int, int, bool]]) -> None:
    anchor, wall_ms = START, 0
    for number, (_, step_ms, _) in enumerate(walk):
        wall_ms += step_ms
        now = advance(anchor, later(wall_ms, 0, f"boot {number}"))
        assert now.steady_ms >= anchor.steady_ms - JUMP_MS
        anchor = now


def test_an_anchor_is_stored_and_read() -> None:
    anchor = advance(START, later(DAY_MS, 1_000))
    assert Anchor.from_json(anchor.to_json()) == anchor


@pytest.mark.parametrize("text", [None, "", "null", "{}", "[]", "7", '{"wall_ms": "x"}', "\udcff"])
def test_an_anchor_that_cannot_be_read_is_none(text: str | None) -> None:
    assert Anchor.from_json(text) is None


@pytest.mark.parametrize("number", ["1e400", "9e99", "-1e18", "NaN"])
def test_an_anchor_with_a_time_that_no_clock_shows_is_none(number: str) -> None:
    text = START.to_json().replace(f'"wall_ms": {START.wall_ms}', f'"wall_ms": {number}')
    assert number in text
    assert Anchor.from_json(text) is None


def test_an_anchor_is_renewed_when_it_is_old_or_the_clock_has_jumped() -> None:
    clock = FakeClock()
    steady = SteadyClock(clock)
    assert steady.is_due(), "nothing is stored yet"
    steady.keep()
    assert not steady.is_due()
    clock.advance(RENEW_MS / 1000 - 0.001)
    assert not steady.is_due()
    clock.advance(0.001)
    assert steady.is_due()
    steady.keep()
    clock.set_wall(clock.wall_ms() + DAY_MS)
    assert steady.is_due()
    steady.keep()
    assert not steady.is_due()
    clock.reboot()
    assert steady.is_due()


MESSAGE = Message("1", "q", "1", None, None, 0, State.READY, 0, 0, 5, 5, 0, 0, None, None)


def test_dates_are_shifted_wherever_they_are() -> None:
    moved = MESSAGE._replace(sent_at_ms=7, enqueued_at_ms=7)
    assert shift(MESSAGE, 2) == moved
    assert shift([MESSAGE], 2) == [moved]
    assert shift(Received([MESSAGE], [], 1), 2) == Received([moved], [], 1)
    assert shift(DeadLetterFilter(died_before_ms=5), 2) == DeadLetterFilter(died_before_ms=7)
    assert shift(MESSAGE, 0) is MESSAGE


def test_a_date_that_means_never_is_left() -> None:
    held = MESSAGE._replace(delayed_until_ms=FOREVER_MS)
    assert shift(held, 2).delayed_until_ms == FOREVER_MS
    assert shift(DeadLetterFilter(), 2) == DeadLetterFilter()
    assert shift(None, 2) is None
