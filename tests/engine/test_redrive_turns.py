"""Other processes write to the file while a redrive task is carried out.

SQLite has no queue of writers. Whoever begins its next transaction right after a commit gets the
lock again: short steps alone let nobody in. A server looks for its tasks between two steps, which
is pause enough.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Requeue
from durableq.cli import main
from durableq.dashboard import redrives
from durableq.engines.sql import redrive
from durableq.model.dead_letters import RedriveState, RedriveTask, WholeQueue
from durableq.model.message import draft
from durableq.store.core import Capability
from tests.support import wait_for

SENDER = """\
import sys
from durableq import DurableQ
with DurableQ(sys.argv[1]) as dq:
    while True:
        dq.queue("live").send(1)
"""
MESSAGES = 1_500


def by_command(dq: DurableQ, task: RedriveTask) -> None:
    assert main(["dlq", "resume", task.id, "--db", dq.address]) == 0


def by_dashboard(dq: DurableQ, task: RedriveTask) -> None:
    redrives._carry_out(dq, task)


def state(dq: DurableQ, task: RedriveTask) -> RedriveState:
    return dq.store.require(Capability.REDRIVE).redrive_task(task.id).state


def last_messages_before_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the last id of a message at each step, which redrives do not make."""
    module: Any = redrive
    take_step, ids = module.take_step, []

    def noted(tx: Any, *arguments: Any) -> Any:
        ids.append(tx.execute(tx.sql.LAST_IDS).fetchone()[1])
        return take_step(tx, *arguments)

    monkeypatch.setattr(module, "take_step", noted)
    return ids


@pytest.mark.parametrize("carry_out", [by_command, by_dashboard])
def test_another_process_sends_between_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carry_out: Callable[..., None]
) -> None:
    path = tmp_path / "durableq.db"
    with DurableQ(path) as dq:
        for queue in ("failed", "repaired"):
            dq.store.declare_queue(queue, {"group_concurrency": 1, "bury_at": 1})
        dq.store.send("failed", [draft(n, group=f"g{n % 50}") for n in range(1_000)])
        dq.store.send("failed", [draft(n, group=f"g{n % 50}") for n in range(MESSAGES - 1_000)])
        dq.store.declare_queue("live", {})
        sender = subprocess.Popen([sys.executable, "-c", SENDER, str(path)])
        try:
            inspect = dq.store.require(Capability.INSPECT)
            wait_for(lambda: inspect.queue("live").counts.ready, what="the first send")
            ids = last_messages_before_steps(monkeypatch)
            task = dq.store.require(Capability.REDRIVE).start_redrive(
                WholeQueue("failed"), Requeue(), to_queue="repaired"
            )
            carry_out(dq, task)
        finally:
            sender.kill()
            sender.wait()
        assert state(dq, task) is RedriveState.DONE
    turns = sum(before < after for before, after in pairwise(ids))
    assert turns >= len(ids) // 4, f"{turns} turns in {len(ids)} steps"
