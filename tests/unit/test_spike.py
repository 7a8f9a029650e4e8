"""The spike's downstream, and the drawing, page and live view of runs that did not happen."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.cli import spike
from durableq.demo.spike import drawing, figures, page
from durableq.demo.spike.downstream import PERIOD_NS, SECOND_NS, Downstream, Figures
from durableq.demo.spike.load import Load, limits
from durableq.demo.spike.recording import Change, Recording, Sample
from durableq.model.flow.breaker import Phase

SVG = "{http://www.w3.org/2000/svg}"
CAPACITY = 10
MS = 1_000_000


def recording(*, is_limited: bool, began_ns: int = 55_123_456_789) -> Recording:
    """A run of 6 s: a call every 110 ms, or every 25 ms without limits; down for a second."""
    load = Load(messages=54, capacity=CAPACITY, outage_seconds=1)
    downstream = Downstream(CAPACITY, 3300 // 75, 1)
    found = Recording(
        load.with_limits() if is_limited else load, began_ns, downstream=downstream.figures
    )
    for at in range(0, 6000, 110 if is_limited else 25):
        downstream.call(str(at // 75), began_ns + at * MS)
    for at in range(0, 6001, 100):
        phase = Phase.OPEN if 3300 < at < 4300 else Phase.HALF_OPEN if at == 4300 else Phase.CLOSED
        done = at // 111
        found.samples.append(
            Sample(at / 1000, 54 - done, done, 0, phase)
            if is_limited
            else Sample(at / 1000, 54 - done, done // 2, done - done // 2, None)
        )
    if is_limited:
        phases = {3.3: Phase.OPEN, 4.25: Phase.HALF_OPEN, 4.4: Phase.CLOSED}
        found.changes = [Change(at, phase) for at, phase in phases.items()]
    return found


@pytest.fixture(scope="module")
def runs() -> list[Recording]:
    return [recording(is_limited=True), recording(is_limited=False)]


# ------------------------------------------------------------------ the downstream


def test_it_answers_its_capacity_in_any_second_and_refuses_the_calls_above() -> None:
    downstream = Downstream(2, 9, 0)
    times = [0, 600, 700, 1000, 1001, 1599, 1600]
    assert [downstream.call("1", at * MS) for at in times] == [
        *(True, True, False),
        *(True, False, False),  # the answers of 600 and 1000
        True,
    ]
    assert downstream.figures.most_in_a_second == 5  # from 600 to 1599


def test_it_goes_down_once_with_the_call_for_the_message_after_half() -> None:
    downstream = Downstream(100, 2, 2)
    calls = [("1", 0), ("2", 900), ("2", 950), ("3", 1000), ("1", 1500), ("4", 2999), ("5", 3000)]
    answers = [downstream.call(message, at * MS) for message, at in calls]
    assert answers == [True, True, True, False, False, False, True]
    assert downstream.figures.outage == (1000 * MS, 3000 * MS)
    periods = downstream.figures.periods.values()
    assert sum(period.down for period in periods) == 3
    assert sum(period.repeated for period in periods) == 2


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 700 * MS), st.integers(0, 9)), min_size=1, max_size=60),
)
def test_its_counts_are_those_of_the_calls(capacity: int, gaps: list[tuple[int, int]]) -> None:
    downstream, now = Downstream(capacity, 5, 0.5), 0
    times, answered = [], []
    for gap, message in gaps:
        now += gap
        times.append(now)
        if downstream.call(str(message), now):
            answered.append(now)
    kept = downstream.figures
    most = max(sum(at - SECOND_NS < one <= at for one in times) for at in times)
    assert kept.most_in_a_second == most
    for at in answered:
        assert sum(at - SECOND_NS < one <= at for one in answered) <= capacity
    per_period = Counter(at // PERIOD_NS for at in times)
    assert {period: calls.all for period, calls in kept.periods.items()} == per_period
    repeated = len(gaps) - len({message for _, message in gaps})
    assert sum(calls.repeated for calls in kept.periods.values()) == repeated
    assert sum(calls.answered for calls in kept.periods.values()) == len(answered)


def test_figures_in_parts_make_the_whole() -> None:
    downstream, read = Downstream(3, 4, 1), Figures()
    for at in range(40):
        downstream.call(str(at % 7), at * 70 * MS)
        newest = max(read.periods, default=0)
        read.update(Figures.from_json(downstream.figures.to_json(newest).encode()))
        assert read == downstream.figures


# ------------------------------------------------------------------ the load


@given(st.integers(3, 100_000))
def test_the_limits_leave_the_downstream_its_capacity_in_any_second(capacity: int) -> None:
    settings = limits(capacity, 1)
    together = (settings["rate"], settings["burst"], settings["max_in_flight"])
    assert all(limit is not None and limit >= 1 for limit in together)
    assert sum(limit or 0 for limit in together) == capacity


# ------------------------------------------------------------------ the recording and its facts


def test_the_calls_of_a_second_are_those_of_its_ten_periods(runs: list[Recording]) -> None:
    for run in runs:
        rows = [*run.seconds()]
        for at, calls in rows:
            end = round((run.began_ns + at * SECOND_NS) / PERIOD_NS)
            periods = [run.downstream.periods.get(one) for one in range(end - 10, end)]
            assert calls.all == sum(one.all for one in periods if one is not None)
        assert rows[-7:] == [*run.seconds(newest=7)]


def test_a_run_with_limits_that_hold_has_no_problem(runs: list[Recording]) -> None:
    assert [figures.problems(run) for run in runs] == [[], []]
    assert [figures.openings(run) for run in runs] == [1, 0]


def test_each_fact_that_does_not_hold_is_a_sentence() -> None:
    run = recording(is_limited=False)
    limited = Recording(replace(run.load.with_limits(), messages=99), run.began_ns)
    limited.samples, limited.downstream = run.samples, run.downstream
    limited.interruption = "It did not end in time."
    assert figures.problems(limited) == [
        "It did not end in time.",
        "54 of 99 messages have ended.",
        "The downstream saw 40 calls in a second; it bears 10.",
        "The breaker did not open.",
        "27 messages died, of an outage that is not their fault.",
    ]


def test_the_json_has_the_runs_second_by_second(runs: list[Recording]) -> None:
    document = figures.document(runs, "page.html")
    assert (document["ok"], document["page"]) == (True, "page.html")
    limited, unprotected = document["runs"]
    assert limited["most_calls_in_a_second"] == 10
    assert unprotected["most_calls_in_a_second"] == 40
    assert [round(row["at"]) for row in limited["series"]] == [1, 2, 3, 4, 5, 6]
    assert [row["breaker"] for row in limited["series"]][2:5] == ["closed", "open", "closed"]
    assert {row["breaker"] for row in unprotected["series"]} == {None}
    assert [row["calls"] for row in unprotected["series"]][1:] == [40] * 5
    assert [row["completed"] for row in limited["series"]] == [9, 18, 27, 36, 45, 54]


# ------------------------------------------------------------------ the drawing


def test_the_drawing_is_self_contained(runs: list[Recording]) -> None:
    root = ElementTree.fromstring(drawing.drawing(runs))
    names = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in names if "href" in name or name.startswith("on")}
    style = root.findtext(f"{SVG}style") or ""
    assert not re.search(r"url\(|@import", style)
    light, _, dark = style.partition("prefers-color-scheme:dark")
    used = {kind for one in root.iter() for kind in one.get("class", "").split()}
    for scheme in (light, dark):
        coloured = {*re.findall(r"\.([a-z]+)\{(?:fill|stroke):#", scheme)}
        assert used - coloured == used & {
            *("title", "head", "unit", "small", "middle", "end", "curve")
        }


def corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (element.get("points") or "").split()
    return [(float(x), float(y)) for x, _, y in (pair.partition(",") for pair in pairs)]


def test_everything_drawn_is_inside(runs: list[Recording]) -> None:
    root = ElementTree.fromstring(drawing.drawing(runs))
    height = float(root.get("height", 0))
    points = [point for one in root.iter() for point in corners(one)]
    assert len(points) > 200
    assert all(0 <= x <= drawing.WIDTH and 0 <= y <= height for x, y in points)
    for element in root.iter(f"{SVG}text"):
        character = 9 if "title" in element.get("class", "") else 6.2
        width = 0 if "end" in element.get("class", "") else character * len(element.text or "")
        assert float(element.get("x", 0)) + width <= drawing.WIDTH, element.text


def test_both_runs_have_the_same_scales(runs: list[Recording]) -> None:
    root = ElementTree.fromstring(drawing.drawing(runs))
    lines = [one for one in root.iter(f"{SVG}line") if one.get("class") == "capacity"]
    assert len({one.get("y1") for one in lines[1:]}) == 1
    assert len(lines) == 3, "one in the legend, one for each run"
    capacity = float(lines[1].get("y1", 0))
    areas = [one for one in root.iter(f"{SVG}polygon") if one.get("class") == "refused"]
    highest = [min(y for _, y in corners(area)) for area in areas]
    assert highest[0] >= capacity > highest[1], "calls with limits stay below the line"
    outages = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "outage"]
    assert len(outages) == 1 + 2 * 4, "one in the legend, one in each plot"
    assert len({one.get("width") for one in outages[1:]}) == 1


def test_the_breaker_is_drawn_as_steps(runs: list[Recording]) -> None:
    root = ElementTree.fromstring(drawing.drawing(runs))
    (steps,) = [one for one in root.iter(f"{SVG}polyline") if one.get("class") == "curve breaker"]
    assert all(
        before[0] == after[0] or before[1] == after[1] for before, after in pairwise(corners(steps))
    )
    assert len({y for _, y in corners(steps)}) == 3
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert words.count("no breaker") == 1


# ------------------------------------------------------------------ the page


class Tags(HTMLParser):
    """The tags, attributes and texts of a page; each tag must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_one_file_with_the_drawing_and_all_figures(runs: list[Recording]) -> None:
    text = page.page(runs)
    tags = Tags(text)
    assert not {"script", "link", "img", "iframe"} & {*tags.found}
    assert not {"src", "href"} & tags.attributes
    assert tags.found.count("svg") == 1
    assert drawing.drawing(runs) in text
    for run in runs:
        for figure in figures.figures(run):
            assert figure.name in tags.texts
            assert f"{figure.value:,}" in tags.texts


def test_the_page_of_one_run_has_one_column(runs: list[Recording]) -> None:
    tags = Tags(page.page(runs[1:]))
    assert tags.found.count("td") == 2 * len(figures.figures(runs[1]))
    assert "with limits" not in tags.texts


# ------------------------------------------------------------------ the live view


def test_the_view_fits_80_columns_with_the_largest_numbers(runs: list[Recording]) -> None:
    for run in runs:
        lines = spike.block(run)
        assert all(len(line) < 80 for line in lines), lines
    large = recording(is_limited=False)
    large.load = Load(messages=100_000).with_limits()
    large.samples.append(Sample(754.0, 100_000, 99_999, 99_999, Phase.HALF_OPEN))
    large.downstream.most_in_a_second = 9_999
    large.downstream.outage = (large.began_ns, large.began_ns + 1000 * SECOND_NS)
    lines = spike.block(large)
    assert all(len(line) < 80 for line in lines), lines
    assert lines[0].startswith("With limits, 12:34 of about ")
    assert lines[-1].split() == ["breaker", "half-open", "downstream", "is", "down"]


def test_elsewhere_the_view_is_a_sentence(runs: list[Recording]) -> None:
    assert spike.sentence(runs[1]) == (
        "unprotected 0:06: 36 calls/s, 24 retries/s, 0 waiting, 27 completed, 27 dead letters"
    )
    assert spike.sentence(runs[0]).endswith(", 0 dead letters, breaker closed")
