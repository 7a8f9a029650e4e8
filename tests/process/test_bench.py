"""`durableq bench fleet`: it measures what it says; how much it measures decides nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from durableq.bench.fleet import percentile
from tests.process.child import runs

BENCH = [sys.executable, "-m", "durableq", "bench", "fleet", "--messages", "5", "--kills", "1"]
IDLE = ["--procs", "2", "--seconds", "0.2"]


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (51, 3.0), (99, 4.0), (1, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: float) -> None:
    assert percentile([3.0, 1.0, 4.0, 2.0], percent) == value


def test_it_prints_its_figures_as_json_and_leaves_no_process() -> None:
    before = set(psutil.pids())
    ran = subprocess.run(
        [*BENCH, *IDLE, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["procs"] == 2
    assert figures["wake_up_ms"]["count"] == 5
    assert figures["give_back_ms"]["count"] == 1
    assert 0 < figures["wake_up_ms"]["p50"] <= figures["wake_up_ms"]["max"]
    assert figures["give_back_ms"]["max"] < 60_000, "it waited for the lease"
    assert set(figures["idle"]) == {"seconds", "workers_percent", "supervisor_percent"}
    left = [psutil.Process(pid) for pid in set(psutil.pids()) - before if psutil.pid_exists(pid)]
    ours = [p for p in left if runs(p) and "durableq.bench.app" in " ".join(p.cmdline())]
    assert ours == []
