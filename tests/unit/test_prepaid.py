"""Tokens paid for ahead: no window has more than burst + rate x window, and few are lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.flow.prepaid import LEAST, MOST_MS, Prepaid
from durableq.model.flow.rate import available, default_burst, interval_ns, wait_ms
from tests.unit.test_rate import MS, SECOND, START_NS, Grant, excess


class Step(NamedTuple):
    """A pause in nanoseconds; then this taker asks for a number of tokens."""

    pause_ns: int
    taker: int
    wanted: int
    is_killed: bool = False


rates = st.sampled_from([400, 1_000, 7_777.7, 50_000]) | st.floats(300, 100_000)
bursts = st.none() | st.integers(20, 5_000)
steps = st.builds(
    Step,
    st.integers(0, MS) | st.integers(0, 15 * MS),
    st.integers(0, 2),
    st.integers(1, 40),
    st.sampled_from([False] * 9 + [True]),
)
busy = st.lists(steps, min_size=20, max_size=60)


class Fleet:
    """Processes that take tokens of one rate as receives do."""

    def __init__(self, rate: float, burst: int, takers: int = 3) -> None:
        self.of = 1, rate, burst
        self.pace = interval_ns(rate), burst
        self.tat_ns = 0
        self.takers = [Prepaid() for _ in range(takers)]
        self.writes = self.prepaid = 0

    def take(self, at_ns: int, taker: int, wanted: int) -> int:
        now_ms, ahead = at_ns // MS, self.takers[taker]
        if ahead.covers(wanted, now_ms):
            ahead.take(wanted)
            self.prepaid += wanted
            return wanted
        number = ahead.left(self.of, now_ms) + available(self.tat_ns, now_ms, *self.pace)
        if granted := min(wanted, number):
            self.tat_ns = ahead.pay(self.of, granted, self.tat_ns, now_ms, self.pace)
            self.writes += 1
        return granted

    def kill(self, taker: int) -> None:
        self.takers[taker] = Prepaid()


def taken(fleet: Fleet, history: Sequence[Step]) -> list[Grant]:
    at_ns, grants = START_NS, []
    for step in history:
        at_ns += step.pause_ns
        if step.is_killed:
            fleet.kill(step.taker)
        grants.append((at_ns, fleet.take(at_ns, step.taker, step.wanted)))
    return grants


@given(rates, bursts, busy)
def test_no_window_has_more_than_burst_and_rate_allow(
    rate: float, burst: int | None, history: list[Step]
) -> None:
    fleet = Fleet(rate, burst or default_burst(rate))
    assert excess(taken(fleet, history), rate, fleet.of[2]) <= 0


@pytest.mark.parametrize("rate", [500, 1_000, 5_000])
@pytest.mark.parametrize("late_ms", range(MOST_MS + 2))
def test_tokens_that_are_taken_late_count_as_taken_then(rate: int, late_ms: int) -> None:
    """One process takes those that it has left, and another one takes all that there are."""
    fleet = Fleet(rate, default_burst(rate), 2)
    history = [Step(0, 0, 9), Step(2 * MS, 0, 1)]
    at_ns = START_NS + (2 + late_ms) * MS
    grants = taken(fleet, history)
    left = fleet.takers[0].left(fleet.of, at_ns // MS)
    assert left >= LEAST or late_ms > MOST_MS
    grants += [(at_ns, fleet.take(at_ns, 0, left)), (at_ns, fleet.take(at_ns, 1, 1_000))]
    assert excess(grants, rate, fleet.of[2]) <= 0


def run(fleet: Fleet, *, limit: int, work_ns: int, seconds: float = 1) -> int:
    """Let each process take tokens as fast as it can; return how many all of them took."""
    chance, total = random.Random(1), 0
    ready = [START_NS + number for number in range(len(fleet.takers))]
    while (at_ns := min(ready)) < START_NS + seconds * SECOND:
        taker = ready.index(at_ns)
        granted = fleet.take(at_ns, taker, limit)
        total += granted
        pause_ns = granted * chance.randint(work_ns // 2, work_ns * 3 // 2)
        ready[taker] += pause_ns or MS * max(1, wait_ms(fleet.tat_ns, at_ns // MS, *fleet.pace))
    return total


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("takers", [1, 8])
@pytest.mark.parametrize("rate", [500, 5_000, 20_000])
def test_processes_that_a_rate_holds_back_lose_little(rate: int, takers: int, limit: int) -> None:
    fleet = Fleet(rate, default_burst(rate), takers)
    total = run(fleet, limit=limit, work_ns=MS // 50)
    begins = rate * MOST_MS // 1_000  # who pays ahead in a burst loses what it may take last
    assert total >= 0.99 * rate + fleet.of[2] - begins


@pytest.mark.parametrize(("limit", "most"), [(1, 0.03), (10, 0.2)])
def test_a_process_that_a_rate_does_not_hold_back_seldom_writes(limit: int, most: float) -> None:
    fleet = Fleet(1_000_000, 1_000_000, 1)
    total = run(fleet, limit=limit, work_ns=MS // 10)
    assert fleet.writes <= most * total / limit
    assert fleet.prepaid >= (1 - most) * total


def test_a_slow_process_pays_for_its_messages_alone() -> None:
    fleet = Fleet(1_000, 1_000, 1)
    assert run(fleet, limit=1, work_ns=5 * MS) == fleet.writes
    assert fleet.prepaid == 0


OF = 1, 5_000.0, 500
PAID_AT_MS = START_NS // MS + 2


def paid() -> Prepaid:
    """Return what a process has that took 50 tokens, and paid again 2 ms later."""
    ahead, pace = Prepaid(), (interval_ns(OF[1]), OF[2])
    tat_ns = ahead.pay(OF, 50, 0, PAID_AT_MS - 2, pace)
    ahead.pay(OF, 1, tat_ns, PAID_AT_MS, pace)
    return ahead


@pytest.mark.parametrize("of", [(2, 5_000.0, 500), (1, 4_000.0, 500), (1, 5_000.0, 499)])
def test_tokens_of_another_queue_rate_or_burst_are_not_taken(of: tuple[int, float, int]) -> None:
    assert paid().left(OF, PAID_AT_MS) >= LEAST
    assert paid().left(of, PAID_AT_MS) == 0


@pytest.mark.parametrize("passed_ms", [-1, MOST_MS + 1])
def test_tokens_are_not_taken_before_they_were_paid_or_after_their_time(passed_ms: int) -> None:
    ahead = paid()
    number = ahead.left(OF, PAID_AT_MS)
    assert ahead.covers(number, PAID_AT_MS)
    assert ahead.covers(number, PAID_AT_MS + MOST_MS)
    assert not ahead.covers(number + 1, PAID_AT_MS)
    assert not ahead.covers(number, PAID_AT_MS + passed_ms)
    assert ahead.left(OF, PAID_AT_MS + passed_ms) == 0
