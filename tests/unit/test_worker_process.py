"""How long a worker that is told to stop has: little before it receives, the grace afterwards."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from durableq.supervisor import worker_process as module
from durableq.supervisor.reclaim import Ending
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.supervisor.worker_process import WorkerProcess
from durableq.worker.options import WorkerOptions

GRACE_SECONDS = 600.0


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A member whose worker is another process, told to stop with no time while it starts."""
    monkeypatch.setattr(module, "STARTING_GRACE_SECONDS", 0.0)
    member = WorkerProcess(WorkerOptions("", "memory://", "worker"))
    member._scoreboard = Scoreboard()
    member._process = subprocess.Popen(["sleep", "600"])
    yield member
    member.kill(Ending.CUT_SHORT)


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.OPENING])
def test_one_that_starts_is_soon_overdue(member: WorkerProcess, stage: Stage) -> None:
    member.scoreboard.reach(stage)
    member.drain(GRACE_SECONDS)
    assert member.is_overdue()


def test_one_that_receives_has_the_grace(member: WorkerProcess) -> None:
    member.scoreboard.reach(Stage.READY)
    member.drain(GRACE_SECONDS)
    assert not member.is_overdue()


def test_one_that_receives_after_it_was_told_has_the_grace_too(member: WorkerProcess) -> None:
    member.drain(GRACE_SECONDS)
    member.scoreboard.reach(Stage.READY)
    assert not member.is_overdue()
    assert member.kill_at is not None
    assert member.kill_at > time.monotonic() + GRACE_SECONDS / 2
