"""The spike with real processes: small runs, their pages, and no process left behind."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from durableq import DurableQ
from durableq.cli import main
from durableq.demo.spike import figures, page, run
from durableq.demo.spike.load import QUEUE, Load
from durableq.demo.spike.recording import Recording
from durableq.model.errors import DurableQError
from durableq.model.flow.breaker import Phase
from durableq.store.core import Capability
from tests.process.child import Child, runs
from tests.support import wait_for

SPIKE = [sys.executable, "-m", "durableq", "demo", "--spike", "--procs", "2"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the temporary files of a run."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def record(load: Load) -> Recording:
    said: list[str] = []
    recording = run.run(load, lambda _: None, said.append)
    assert said == []
    return recording


def processes_naming(folder: Path) -> list[psutil.Process]:
    """Return the processes that have a folder in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if runs(process) and str(folder) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_with_limits_the_downstream_is_never_overloaded_and_nothing_dies(temporary: Path) -> None:
    load = Load(messages=240, procs=2, capacity=40, outage_seconds=1)
    recording = record(load.with_limits())
    assert figures.problems(recording) == []
    assert recording.downstream.most_in_a_second <= 40
    total, last = recording.total, recording.last
    assert (total.refused, last.dead, last.completed) == (0, 0, 240)
    assert total.down >= 1, "the call that met the outage"
    assert recording.changes[0].phase is Phase.OPEN
    assert recording.changes[-1].phase is Phase.CLOSED
    assert list(temporary.iterdir()) == []
    assert processes_naming(temporary) == []


def test_without_limits_the_downstream_is_overloaded_and_messages_die(temporary: Path) -> None:
    load = Load(messages=120, procs=2, capacity=10, outage_seconds=1)
    recording = record(load)
    assert figures.problems(recording) == []
    assert recording.downstream.most_in_a_second > 10
    total, last = recording.total, recording.last
    assert total.refused > 0
    assert total.down > 0
    assert last.dead > 0
    assert last.ended == 120
    assert {sample.breaker for sample in recording.samples} == {None}
    assert list(temporary.iterdir()) == []


def test_both_runs_use_one_schema_of_postgresql_one_after_the_other(
    temporary: Path, postgres_tables_url: str
) -> None:
    load = Load(messages=20, procs=2, capacity=20, outage_seconds=0.5, url=postgres_tables_url)
    runs = [record(load.with_limits()), record(load)]
    assert [figures.problems(one) for one in runs] == [[], []]
    assert [one.last.ended for one in runs] == [20, 20]
    assert runs[0].downstream.most_in_a_second <= 20
    assert runs[1].total.down > 0
    assert runs[0].changes[0].phase is Phase.OPEN
    assert "queue in one schema of PostgreSQL" in page.page(runs)
    with DurableQ(postgres_tables_url) as left:
        assert left.store.require(Capability.INSPECT).queues() == []
    assert processes_naming(temporary) == []


def test_a_database_with_a_queue_of_that_name_is_left_alone(
    temporary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with DurableQ("shop.db") as dq:
        dq.queue(QUEUE).send("mine")
        assert main(["demo", "--spike", "--messages", "5", "--db", "shop.db"]) == 5
        assert "has a queue 'calls' already" in capsys.readouterr().err
        assert dq.queue(QUEUE).info().counts.present == 1
    assert not (tmp_path / page.FILE).exists()


def test_a_run_that_does_not_end_in_time_is_a_problem(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr(run, "DEADLINE_FACTOR", 0.0)
    recording = record(Load(messages=5000, procs=1))
    first, *_ = figures.problems(recording)
    assert first.startswith("The run did not end in 0 seconds: ")
    assert list(temporary.iterdir()) == []


def test_a_process_that_fails_ends_the_run_with_its_last_words(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "APP", "there.is.no:such")
    with pytest.raises(DurableQError, match=r"(?s)`durableq work` failed .*no module"):
        record(Load(messages=5, procs=1))
    assert list(temporary.iterdir()) == []
    assert processes_naming(temporary) == []


def test_the_command_writes_the_page_and_prints_the_figures(
    temporary: Path, tmp_path: Path
) -> None:
    command = [*SPIKE, "--unprotected", "--messages", "40", "--json"]
    spike = Child(command, tmp_path / "spike.out", None, cwd=tmp_path)
    try:
        assert spike.end() == 0, spike.complaints
    finally:
        spike.kill()
    document = json.loads("\n".join(spike.said))
    assert (document["ok"], document["messages"], document["capacity"]) == (True, 40, 200)
    (unprotected,) = document["runs"]
    assert unprotected["completed"] + unprotected["dead_letters"] == 40
    assert unprotected["refused_down"] > 0
    assert "unprotected 0:0" in spike.complaints
    assert "\x1b" not in spike.complaints
    assert spike.complaints.endswith(f"The plots of the run: {page.FILE}\n")
    text = (tmp_path / page.FILE).read_text("utf-8")
    drawn = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert "calls in the last second" in {element.text for element in drawn.iter()}
    assert f">{unprotected['calls']:,}<" in text


def test_a_folder_that_takes_no_page_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/proc")
    assert main(["demo", "--spike", "--messages", "5"]) == 1
    assert capsys.readouterr().err == (
        f"durableq: {page.FILE} cannot be written into this folder: No such file or directory. "
        "Run the command in another one.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_process_and_no_page(
    number: signal.Signals, temporary: Path, tmp_path: Path
) -> None:
    command = [*SPIKE, "--unprotected"]
    spike = Child(command, tmp_path / "spike.out", None, cwd=tmp_path)
    try:
        spike.wait_until(lambda: "unprotected 0:0" in spike.complaints, "its first figures")
        family = spike.family
        assert len(family) >= 4, "downstream, supervisor and workers"
        spike.signal(number)
        assert spike.end() != 0
        wait_for(lambda: not any(map(runs, family)), what="the end of all it had started")
    finally:
        spike.kill()
    assert not (tmp_path / page.FILE).exists()
    assert number == signal.SIGKILL or list(temporary.iterdir()) == []
