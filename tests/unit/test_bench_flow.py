"""The figures of `durableq bench flow` that are computed from what was counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.bench.flow_crew import beyond_rate, beyond_share, most_in
from durableq.bench.flow_outage import measured
from durableq.demo.spike.downstream import Downstream
from durableq.demo.spike.load import Load
from durableq.demo.spike.recording import Change, Recording, Sample
from durableq.model.errors import DurableQError
from durableq.model.flow.breaker import Phase

MS = 1_000_000
GAPS = st.lists(st.tuples(st.integers(0, 900), st.booleans()), min_size=1, max_size=40)


@given(GAPS)
def test_windows_have_the_figures_of_a_count(gaps: list[tuple[int, bool]]) -> None:
    at, events = 0, list[tuple[float, bool]]()
    for gap, is_marked in gaps:
        at += gap
        events.append((at / 1024, is_marked))  # exact, as are their differences
    times = [at for at, _ in events]
    # One begins with each event, also with the second of two at the same time.
    windows = [[one for one in events[n:] if one[0] < at + 1] for n, at in enumerate(times)]
    assert most_in(times, 1) == max(map(len, windows))
    whole = [found for found in windows if found[0][0] + 1 <= times[-1]]
    beyond = max((sum(one for _, one in found) - 0.2 * len(found) for found in whole), default=None)
    if beyond is not None:
        assert beyond_share(events, 0.2, 1) == pytest.approx(beyond)
    closed = [
        last + 1 - first - 3 * (until - since)
        for first, since in enumerate(times)
        for last, until in enumerate(times)
        if last >= first
    ]
    assert beyond_rate(times, 3) == pytest.approx(max(closed))


def outage(*changes: tuple[float, Phase]) -> Recording:
    """A run of 8 s: a call each 100 ms, two at once from 6 s on; down from 3 to 4 s."""
    load = Load(messages=60, capacity=10, outage_seconds=1).with_limits()
    downstream = Downstream(10, 30, 1)
    found = Recording(load, 0, downstream=downstream.figures)
    for number in range(80):
        for _ in range(1 + (number >= 60)):
            downstream.call(str(number), number * 100 * MS)
    found.samples.append(Sample(8.0, 0, 58, 2, Phase.CLOSED))
    found.changes = [Change(at, phase) for at, phase in changes]
    return found


def test_the_figures_of_an_outage_are_those_of_its_calls_and_its_breaker() -> None:
    probe, closed = (3.5, Phase.HALF_OPEN), (4.5, Phase.CLOSED)
    dead, calls, opened, peak = measured(
        outage((3.0, Phase.OPEN), probe, (4.2, Phase.HALF_OPEN), closed, (7.0, Phase.OPEN))
    )
    assert dead.value == 2
    assert (calls.value, dict(calls.details)) == (
        6,
        {"calls in the outage": 10, "in flight": 1, "places of probes": 3},
    )
    assert (opened.value, dict(opened.details)) == (1, {"closed after the outage, s": 0.5})
    assert (peak.value, peak.details["calls"], peak.details["calls, later"]) == (125, 10, 20)


def test_a_run_whose_breaker_does_not_close_has_no_figures() -> None:
    with pytest.raises(DurableQError, match="did not close after an outage"):
        measured(outage((1.0, Phase.CLOSED), (3.0, Phase.OPEN)))
    late = outage((4.5, Phase.CLOSED))
    late.interruption = "The run did not end in 9 seconds."
    with pytest.raises(DurableQError, match="did not end"):
        measured(late)
