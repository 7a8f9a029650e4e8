"""Grace periods of a worker that is asked to stop, before and after its first receive."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from durableq.supervisor import worker_process as module
from durableq.supervisor.reclaim import ExitReason
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.supervisor.worker_process import WorkerProcess
from durableq.worker.options import WorkerOptions

GRACE_SECONDS = 600.0


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A worker process that was asked to stop without a grace while it starts."""
    monkeypatch.setattr(module, "STARTING_GRACE_SECONDS", 0.0)
    worker = WorkerProcess(WorkerOptions("", "memory://", "worker"))
    worker._scoreboard = Scoreboard()
    worker._process = subprocess.Popen(["sleep", "600"])
    yield worker
    worker.kill(ExitReason.CUT_SHORT)


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.OPENING])
def test_a_worker_that_starts_is_soon_overdue(worker: WorkerProcess, stage: Stage) -> None:
    worker.scoreboard.reach(stage)
    worker.drain(GRACE_SECONDS)
    assert worker.is_overdue()


def test_a_worker_that_receives_has_the_grace(worker: WorkerProcess) -> None:
    worker.scoreboard.reach(Stage.READY)
    worker.drain(GRACE_SECONDS)
    assert not worker.is_overdue()


def test_a_worker_that_receives_after_the_stop_has_the_grace_too(
    worker: WorkerProcess,
) -> None:
    worker.drain(GRACE_SECONDS)
    worker.scoreboard.reach(Stage.READY)
    assert not worker.is_overdue()
    assert worker.kill_at is not None
    assert worker.kill_at > time.monotonic() + GRACE_SECONDS / 2
