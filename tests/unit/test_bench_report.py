"""The benchmark's report, plot and progress, of figures that were not measured."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from durableq.bench import plot, run
from durableq.bench.contention import in_threads
from durableq.bench.figures import (
    CLASSES_MS,
    Chart,
    Figure,
    Row,
    Setting,
    Spread,
    Theme,
    histogram,
)
from durableq.bench.large import BACKLOGS
from durableq.bench.peers import PEERS
from durableq.bench.piped import PipedProcess
from durableq.bench.progress import Progress
from durableq.bench.report import COLUMNS, DETAILS, PeerInfo, Planned, Report
from durableq.cli import main
from durableq.cli.tables import layout
from durableq.model.errors import DurableQError
from tests.support import wait_for

ROOT = Path(__file__).parents[2]
LINE = Chart("by backlog", "line", "ready", "per second", tuple((size, 3e3) for size in BACKLOGS))
SVG = "{http://www.w3.org/2000/svg}"


def figure_of(row: Row, synchronous: str = "normal", chart: Chart | None = None) -> Figure:
    value = (row.target or 10) * 1.234
    details = {"durableq, µs CPU": Spread(148.2, 140, 160), "wall, x raw": Spread(0.5, 0.4, 0.6)}
    return Figure(row, synchronous, Spread(value, value * 0.9, value * 1.1), details, chart)


@pytest.fixture
def report() -> Report:
    """A report of every row, with charts of both kinds."""
    report = Report("a processor with a long name, 2 cores, Linux, Python 3.11", 1.5, {}, [])
    for theme in run.THEMES:
        for row in theme.rows:
            which = (
                ("normal", "full") if theme.by_synchronous and not row.synchronous else ("full",)
            )
            report.figures += [figure_of(row, one) for one in which]
    report.figures[0] = figure_of(
        report.figures[0].row, "normal", histogram("idle", [1, 600], "messages")
    )
    report.figures[1] = figure_of(report.figures[0].row, "full", LINE)
    return report


def test_both_tables_fit_into_80_columns(report: Report) -> None:
    for headings, rows in ((COLUMNS, report.cells), (DETAILS, report.details)):
        columns = [*zip(*rows, strict=True)]
        (table,) = layout(headings, columns, [False] * len(headings), 80)
        assert max(map(len, table.heading + table.body)) <= 80
    names = [name for name, *_ in report.cells]
    assert len(set(names)) == len(names)


def test_a_detail_stands_before_its_unit(report: Report) -> None:
    assert "durableq 148 µs CPU, wall 0.5 x raw" in report.details[0][1]


def spans(root: ElementTree.Element) -> list[tuple[float, float, float, str]]:
    """Return y, the ends, and the text of each text; a character has about these widths."""
    found = []
    for element in root.iter(f"{SVG}text"):
        kinds = element.get("class", "").split()
        character = 9 if "title" in kinds else 5.5 if "small" in kinds else 6.6
        text = element.text or ""
        width, x = character * len(text), float(element.get("x", 0))
        left = x - width / 2 if "middle" in kinds else x
        found.append((float(element.get("y", 0)), left, left + width, text))
    return found


def test_the_plot_is_self_contained(report: Report) -> None:
    root = ElementTree.fromstring(plot.drawing(report))
    tags = [element.tag.removeprefix(SVG) for element in root.iter()]
    assert set(tags) == {"svg", "title", "style", "rect", "text", "line"}
    names = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in names if "href" in name or name.startswith("on")}
    style = root.findtext(f"{SVG}style") or ""
    assert not re.search(r"url\(|@import", style)
    assert "prefers-color-scheme:dark" in style
    used = {kind for one in root.iter() for kind in one.get("class", "").split()}
    assert used <= {*re.findall(r"\.([a-z]+)", style)} | {"small", "middle"}


def test_the_plot_has_each_row_with_its_target_and_no_text_on_another(report: Report) -> None:
    root = ElementTree.fromstring(plot.drawing(report))
    shown = spans(root)
    words = {text for *_, text in shown}
    for figure in report.figures:
        assert figure.name in words
        assert figure.row.bound in {"", *words}
    targets = [line for line in root.iter(f"{SVG}line") if line.get("class") == "mark target"]
    assert len(targets) == 1 + sum(one.row.target is not None for one in report.figures)
    for (y, _, right, text), (below, left, _, other) in pairwise(sorted(shown)):
        assert right <= plot.WIDTH, text
        assert y != below or right <= left, (text, other)
    height = float(root.get("height", 0))
    for element in root.iter(f"{SVG}rect"):
        right = float(element.get("x", 0)) + float(element.get("width", 0))
        assert 0 <= right <= plot.WIDTH
        assert float(element.get("y", 0)) + float(element.get("height", 0)) <= height


def test_a_histogram_counts_each_value_once() -> None:
    chart = histogram("latency", [0.1, 0.5, 0.6, 700.0], "messages")
    assert [x for x, _ in chart.points] == [*CLASSES_MS, None]
    assert [y for _, y in chart.points] == [2, 1, *[0] * (len(CLASSES_MS) - 2), 1]


def test_progress_estimates_the_rest_at_the_pace_of_the_ended_rows() -> None:
    now = 0.0
    shown: list[str] = []
    progress = Progress({"a": 10, "b": 20, "c": 30}, shown.append, now=lambda: now)
    progress("a: round 1")
    now = 20.0  # twice as slow as expected
    progress.end_row("a")
    assert progress.left_seconds == 100
    now = 50.0
    progress("b: round 2")
    assert shown == ["bench 1/3, ~60 s left: a: round 1", "bench 2/3, ~70 s left: b: round 2"]
    now = 500.0
    assert progress.left_seconds == 0


def test_terse_progress_is_one_line_for_a_row() -> None:
    shown: list[str] = []
    progress = Progress({"a": 1, "b": 1}, shown.append, is_terse=True, now=lambda: 0.0)
    for line in ("a: round 1", "a: round 2", "b: round 1", "a: round 3"):
        progress(line)
    assert [line.rpartition(" left: ")[2] for line in shown] == [
        "a: round 1",
        "b: round 1",
        "a: round 3",
    ]


# ------------------------------------------------------------------ runs that do not end well


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which a run leaves empty."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class Ending:
    """Themes whose second row ends in a given way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException | signal.Signals):
        self._error = error
        first = Theme("first", (Row("one", "s"), Row("two", "s"), Row("three", "s")), self._fail, 1)
        last = Theme("last", (Row("four", "s", 5.0),), self._measure, 1, by_synchronous=False)
        monkeypatch.setattr(run, "THEMES", (first, last))

    def _fail(self, rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
        (setting.folder / "file").touch()
        yield figure_of(rows[0])
        setting.progress("two: round 1")
        if isinstance(self._error, BaseException):
            raise self._error
        os.kill(os.getpid(), self._error)
        wait_for(lambda: False, what="the signal")

    def _measure(self, rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
        yield from map(figure_of, rows)


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["bench", "--synchronous", "normal", *arguments])
    return code, *capsys.readouterr()


def test_after_a_row_that_fails_the_other_themes_go_on(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Ending(monkeypatch, DurableQError("The fleet was late."))
    code, out, err = bench(capsys, "--json")
    document = json.loads(out)
    assert code == 1
    assert [row["name"] for row in document["rows"]] == ["one", "four"]
    missing = {"synchronous": "normal", "reason": "The fleet was late."}
    assert document["missing"] == [{"name": "two", **missing}, {"name": "three", **missing}]
    said = "durableq: The fleet was late.\n    Not measured: two (normal); three (normal)\n"
    assert err.endswith(said)
    assert list(temporary.iterdir()) == []


def test_a_defect_in_a_row_is_shown_with_its_place(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Ending(monkeypatch, ValueError("moved 1 rows of 2"))
    code, _, err = bench(capsys)
    assert code == 1
    assert re.search(r"ValueError in \w+\.py, line \d+: moved 1 rows of 2", err)


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [(KeyboardInterrupt(), 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_an_interrupted_run_prints_its_figures_and_the_missing_rows(
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: BaseException | signal.Signals,
    exit_code: int,
) -> None:
    Ending(monkeypatch, ending)
    plotted = temporary / "plot.svg"
    code, out, err = bench(capsys, "--plot", str(plotted))
    assert code == exit_code
    assert re.search(r"^one \(normal\) +12\.3 s$", out, re.MULTILINE)
    rows = "two (normal); three (normal); four"
    assert err.endswith(f"durableq: The run was interrupted.\n    Not measured: {rows}\n")
    assert "one (normal)" in plotted.read_text("utf-8")
    assert list(temporary.iterdir()) == [plotted]


def test_when_one_of_many_threads_fails_the_others_stop() -> None:
    calls = itertools.count()

    def fail_later() -> None:
        if next(calls) == 1000:
            raise DurableQError("The disk is full.")

    with pytest.raises(DurableQError, match="disk"):
        in_threads(fail_later, sys.maxsize)


def test_a_piped_process_is_spared_by_ctrl_c_and_ends_with_its_block() -> None:
    code = "import sys; [print(line.strip() * 2, flush=True) for line in sys.stdin]"
    with PipedProcess("an echo", "-c", code) as echo:
        echo.tell("ab")
        assert echo.answer() == "abab\n"
        assert os.getpgid(echo.pid) == echo.pid != os.getpgid(0)
        assert os.getsid(echo.pid) == os.getsid(0)  # its share of the processors
    with pytest.raises(ProcessLookupError):
        os.kill(echo.pid, 0)


def test_a_piped_process_that_ends_is_reported() -> None:
    with PipedProcess("an end", "-c", "raise SystemExit(3)") as ended:
        with pytest.raises(DurableQError, match="The process of an end ended with 3"):
            ended.answer()
        ended.tell("too late")


class Connected:
    """A queue as litequeue has it, in either of its versions."""

    def __init__(self) -> None:
        self.conn = sqlite3.connect(":memory:")


class ByPath(Connected):
    def __init__(self, filename_or_conn: str) -> None:
        super().__init__()
        self.opened = filename_or_conn


class ByFolder(Connected):
    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.opened = f"{folder}: {name}"


@pytest.mark.parametrize(
    ("kind", "opened"), [(ByPath, "/bench/peer.db"), (ByFolder, "/bench: peer")]
)
def test_both_versions_of_litequeue_can_be_opened(
    monkeypatch: pytest.MonkeyPatch, kind: type[Connected], opened: str
) -> None:
    monkeypatch.setitem(sys.modules, "litequeue", SimpleNamespace(LiteQueue=kind))
    queue = PEERS["litequeue"].open(Path("/bench/peer"), "full")
    assert queue._queue.opened == opened
    assert queue._queue.conn.execute("PRAGMA synchronous").fetchone() == (2,)
    queue._queue.conn.close()


# ------------------------------------------------------------------ the JSON, as documented


def documented(heading: str) -> set[str]:
    """Return the names in the first column of a table of docs/PERFORMANCE.md."""
    text = (ROOT / "docs/PERFORMANCE.md").read_text("utf-8")
    _, _, rest = text.partition(f"\n{heading}\n")
    table = re.search(r"\n\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", rest)
    assert table is not None, heading
    cells = [line.split("|")[1] for line in table[1].splitlines()]
    return {name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)}


def names_in(value: object, prefix: str = "") -> set[str]:
    """Return the names in a document, with dots; those of details, peers and load's are data."""
    if isinstance(value, list):
        return set().union(*(names_in(one, prefix) for one in value))
    if not isinstance(value, dict):
        return set()
    found = {f"{prefix}{name}" for name in value}
    for name, inner in value.items():
        if f"{prefix}{name}" in {"peers", "rows.details"}:
            found |= set().union(*(names_in(one, f"{prefix}{name}.") for one in inner.values()))
        else:
            found |= names_in(inner, f"{prefix}{name}.")
    return found


def test_the_json_has_the_documented_names(report: Report) -> None:
    report.peers = {"a peer": PeerInfo("1.0", "nothing")}
    report.plan(Planned("a row", which) for which in ("", "full"))
    assert names_in(report.as_dict()) == documented("### The JSON")
