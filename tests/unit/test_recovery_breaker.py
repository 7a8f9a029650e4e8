"""The breaker: opens on deaths of distinct messages, waits, probes, closes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq import DurableQ
from durableq.model.dead_letters import Recovered, RecoveredFate
from durableq.model.errors import InvalidInput
from durableq.model.flow.breaker import Phase
from durableq.recovery.circuit_breaker import (
    DEFAULT_THRESHOLDS,
    METADATA_PREFIX,
    BreakerState,
    Probe,
    Result,
    Thresholds,
    admit,
    advance,
    read,
)
from durableq.recovery.rules_file import parse
from durableq.store.core import Capability

LIMITS = Thresholds(window=6, share=0.5, least=4, cool_down=1, longest_cool_down=4, probes=2)
CLOSED = BreakerState(Phase.CLOSED, 0)
DIED, ENDED, PENDING = RecoveredFate.DIED, RecoveredFate.ENDED, RecoveredFate.PENDING


def facts(*fates: RecoveredFate, at: int = 10) -> list[Recovered]:
    return [Recovered(str(n), at + n, fate) for n, fate in enumerate(fates)]


DIED_PROBES = facts(DIED, DIED, at=5_002)


def half_open(trips: int = 1) -> BreakerState:
    probes = (Probe(5_001, "0"), Probe(5_001, "1"))
    return BreakerState(Phase.HALF_OPEN, 5_000, trips, probes=probes)


def test_the_breaker_opens_when_enough_distinct_messages_died() -> None:
    assert advance(CLOSED, facts(DIED, DIED, DIED), 99, LIMITS).phase is Phase.CLOSED
    opened = advance(CLOSED, facts(DIED, ENDED, DIED, ENDED), 99, LIMITS)
    assert (opened.phase, opened.since_ms, opened.trips) == (Phase.OPEN, 99, 1)
    assert (opened.died, opened.judged) == (2, 4)
    assert advance(CLOSED, facts(DIED, ENDED, ENDED, ENDED), 99, LIMITS).phase is Phase.CLOSED
    assert advance(CLOSED, facts(DIED, PENDING, DIED, PENDING), 99, LIMITS).phase is Phase.CLOSED


def test_one_message_that_dies_again_and_again_counts_once() -> None:
    state = CLOSED
    for at in range(10, 50):
        state = advance(state, [Recovered("7", at, DIED)], at, LIMITS)
    assert state.phase is Phase.CLOSED
    assert state.seen == (Result(49, "7", True),)


def test_a_death_is_remembered_when_its_message_was_sent_back_again() -> None:
    state = CLOSED
    for n in range(4):
        dead = Recovered(str(n), 10 + n, DIED)
        again = [Recovered(str(m), 20 + m, PENDING) for m in range(n)]
        state = advance(state, [dead, *again], 30, LIMITS)
    assert state.phase is Phase.OPEN


def test_only_the_newest_messages_count() -> None:
    state = advance(CLOSED, facts(DIED, DIED, DIED), 99, LIMITS)
    state = advance(state, facts(*[ENDED] * 6, at=50), 99, LIMITS)
    assert [seen.died for seen in state.seen] == [False] * 6


def test_the_cool_down_grows_up_to_the_longest() -> None:
    trips = (0, 1, 2, 98)
    opened = [advance(half_open(n), DIED_PROBES, 5_010, LIMITS) for n in trips]
    assert [state.left_ms(5_010) for state in opened] == [1_000, 2_000, 4_000, 4_000]
    state = BreakerState(Phase.OPEN, 100, 2, until_ms=2_100)
    assert advance(state, facts(ENDED, at=200), 2_099, LIMITS) == state
    assert state.left_ms(1_100) == 1_000
    assert advance(state, [], 2_100, LIMITS) == BreakerState(Phase.HALF_OPEN, 2_100, 2)


def probes(*known: tuple[str, int]) -> BreakerState:
    state: BreakerState | None = BreakerState(Phase.HALF_OPEN, 5_000, 1)
    for message_id, at_ms in known:
        assert state is not None
        state = admit(state, message_id, at_ms, LIMITS)
    assert state is not None
    return state


def test_a_half_open_breaker_admits_a_few_probes_once_each() -> None:
    state = probes(("1", 5_001))
    assert admit(state, "1", 5_002, LIMITS) is None
    state = probes(("1", 5_001), ("2", 5_002))
    assert state.probes == (Probe(5_001, "1"), Probe(5_002, "2"))
    assert admit(state, "3", 5_003, LIMITS) is None


@pytest.mark.parametrize(
    ("fates", "phase"),
    [
        ((ENDED, ENDED), Phase.CLOSED),
        ((DIED, DIED), Phase.OPEN),
        ((DIED, PENDING), Phase.OPEN),
        ((ENDED, PENDING), Phase.HALF_OPEN),
        ((PENDING, PENDING), Phase.HALF_OPEN),
    ],
)
def test_probes_close_or_open_the_breaker(fates: tuple[RecoveredFate, ...], phase: Phase) -> None:
    state = advance(probes(("0", 5_001), ("1", 5_001)), facts(*fates, at=5_002), 99_999, LIMITS)
    assert state.phase is phase
    assert state.trips == {Phase.CLOSED: 0, Phase.OPEN: 2, Phase.HALF_OPEN: 1}[phase]


def test_a_death_from_before_the_probe_does_not_count() -> None:
    state = probes(("0", 5_001), ("1", 5_001))
    assert advance(state, facts(DIED, DIED, at=4_000), 5_100, LIMITS) == state


def test_a_probe_that_was_never_sent_is_forgotten_after_a_cool_down() -> None:
    state = probes(("0", 5_001), ("1", 5_002))
    assert advance(state, [], 5_900, LIMITS) == state
    left = advance(state, facts(PENDING, at=5_005), 6_100, LIMITS)
    assert left.probes == (Probe(5_001, "0"),)


def test_a_single_probe_that_died_opens_it_after_a_cool_down() -> None:
    limits = Thresholds(window=6, share=0.5, least=4, cool_down=1, longest_cool_down=4, probes=3)
    state = probes(("0", 5_001))
    died = facts(DIED, at=5_002)
    assert advance(state, died, 5_100, limits).phase is Phase.HALF_OPEN
    assert advance(state, died, 6_001, limits).phase is Phase.OPEN


def test_a_clock_that_was_set_back_keeps_it_open_no_longer_than_a_cool_down() -> None:
    opened = BreakerState(Phase.OPEN, 1_000_000, 1, until_ms=1_001_000)
    back = advance(opened, [], 500, LIMITS)
    assert (back.phase, back.since_ms) == (Phase.OPEN, 500)
    assert advance(back, [], 1_500, LIMITS).phase is Phase.HALF_OPEN


@pytest.mark.parametrize(
    "bad",
    [
        "window = 0", "window = 201", "window = true", "least = 21", "least = 0", "share = 0",
        "share = 1.5", 'share = "x"', "share = true", "cool_down = 0", "cool_down = -1",
        'cool_down = "1"', "longest_cool_down = 1", "probes = 0", "probes = 1.0",
    ],
)  # fmt: skip
def test_thresholds_have_bounds(bad: str) -> None:
    name = bad.partition(" ")[0]
    with pytest.raises(InvalidInput, match=rf"^r\.toml, line 2: breaker\.{name}: "):
        parse(f"[breaker]\n{bad}\n[[rule]]\nthen = 'hold'\n", "r.toml")


def test_the_state_can_be_read_by_others() -> None:
    with DurableQ("memory://") as dq:
        assert read(dq.store, "orders") is None
        state = BreakerState(Phase.OPEN, 7, 2, until_ms=9, died=3, judged=4)
        dq.store.require(Capability.METADATA).compare_and_set(
            METADATA_PREFIX + "orders", state.to_json(), expected=None
        )
        assert read(dq.store, "orders") == state
        dq.store.require(Capability.METADATA).compare_and_set(
            METADATA_PREFIX + "orders", "[]", expected=state.to_json()
        )
        assert read(dq.store, "orders") is None


def test_the_state_of_release_0_1_probes_at_once() -> None:
    old = {"phase": "open", "since_ms": 7, "trips": 2, "died": 3, "judged": 4}
    stored = json.dumps(old | {"seen": [], "probes": []})
    assert BreakerState.from_json(stored) == BreakerState(Phase.OPEN, 7, 2, 7, 3, 4)


FACT = st.builds(
    Recovered,
    st.integers(0, 9).map(str),
    st.integers(0, 20_000),
    st.sampled_from(list(RecoveredFate)),
)
STEP = st.tuples(st.integers(0, 3_000), st.lists(FACT, max_size=8), st.integers(0, 9).map(str))
STEPS = st.lists(STEP, max_size=30)


@given(STEPS)
def test_an_open_breaker_sends_none_and_a_half_open_one_at_most_the_probes(
    steps: list[tuple[int, list[Recovered], str]],
) -> None:
    state, now_ms = CLOSED, 0
    for wait_ms, known, message_id in steps:
        now_ms += wait_ms
        before = state
        state = advance(state, known, now_ms, LIMITS)
        check_edge(before, state, now_ms)
        allowed = admit(state, message_id, now_ms, LIMITS)
        if state.phase is Phase.OPEN:
            assert allowed is None
        if allowed is not None:
            assert len(allowed.probes) <= LIMITS.probes
            assert allowed.phase is state.phase
            state = allowed
        assert BreakerState.from_json(state.to_json()) == state


def check_edge(before: BreakerState, after: BreakerState, now_ms: int) -> None:
    edge = (before.phase, after.phase)
    assert edge not in {(Phase.OPEN, Phase.CLOSED), (Phase.CLOSED, Phase.HALF_OPEN)}
    if edge == (Phase.OPEN, Phase.HALF_OPEN):
        assert now_ms >= before.since_ms + LIMITS.settings.open_for_ms(before.trips)
    if after.phase is Phase.OPEN and before.phase is not Phase.OPEN:
        assert after.trips == before.trips + 1
        assert after.died >= LIMITS.share * min(after.judged, LIMITS.probes)
    assert len(after.seen) <= LIMITS.window


@given(st.lists(FACT, max_size=12), st.randoms())
def test_the_same_facts_again_in_any_order_change_nothing_more(
    known: list[Recovered], rng: object
) -> None:
    once = advance(CLOSED, known, 30_000, LIMITS)
    if once.phase is Phase.CLOSED:
        assert advance(once, known, 30_000, LIMITS) == once


def test_the_largest_state_fits_the_metadata() -> None:
    most = Thresholds(window=200, least=200)
    many = [Recovered(str(10**12 + n), 1_700_000_000_000 + n, ENDED) for n in range(300)]
    state = advance(BreakerState(Phase.CLOSED, 0), many, 1_800_000_000_000, most)
    with DurableQ("memory://") as dq:
        assert dq.store.require(Capability.METADATA).compare_and_set(
            METADATA_PREFIX + "q", state.to_json(), expected=None
        )
    assert DEFAULT_THRESHOLDS.window <= 200
