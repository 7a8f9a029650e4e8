"""`durableq bench fleet` prints its figures; no test depends on their size."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from durableq.bench.fleet import percentile
from tests.process.child import Child, runs
from tests.support import scaled, wait_for

BENCH = [sys.executable, "-m", "durableq", "bench", "fleet", "--messages", "3", "--kills", "1"]
IDLE = ["--procs", "2", "--seconds", "0.2"]


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (51, 3.0), (99, 4.0), (1, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: float) -> None:
    assert percentile([3.0, 1.0, 4.0, 2.0], percent) == value


def test_it_prints_its_figures_as_json_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ran = subprocess.run(
        [*BENCH, *IDLE, "--json"], capture_output=True, text=True, timeout=scaled(60), check=False
    )
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["procs"] == 2
    assert figures["wake_up_ms"]["count"] == 3
    assert figures["give_back_ms"]["count"] == 1
    assert 0 < figures["wake_up_ms"]["p50"] <= figures["wake_up_ms"]["max"]
    assert figures["give_back_ms"]["max"] < 60_000, "it waited for the lease"
    assert set(figures["idle"]) == {"seconds", "workers_percent", "supervisor_percent"}
    assert [process for process in psutil.process_iter() if names(process, tmp_path)] == []


def names(process: psutil.Process, folder: Path) -> bool:
    """Return whether the command line of a running process names a file in the folder."""
    try:
        return runs(process) and str(folder) in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_process(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    bench = Child([*BENCH, "--seconds", "600"], tmp_path / "bench.out", None)
    try:
        bench.wait_until(lambda: len(bench.family) >= 5, "its fleet")
        family = bench.family
        bench.signal(number)
        assert bench.end() != 0
        wait_for(lambda: not any(map(runs, family)), what="the end of all it had started")
    finally:
        bench.kill()
    assert number == signal.SIGKILL or list(temporary.iterdir()) == []
