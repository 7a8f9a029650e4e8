"""Other processes write to the file while a redrive task or `durableq prune` is carried out.

SQLite has no queue of writers. Whoever begins its next transaction right after a commit gets the
lock again: short steps alone let nobody in. A server looks for its tasks between two steps, which
is pause enough.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Requeue
from durableq.cli import main
from durableq.dashboard import redrives
from durableq.engines.sql import maintenance, redrive
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


def by_command(dq: DurableQ, task: RedriveTask) -> None:
    assert main(["dlq", "resume", task.id, "--db", dq.address]) == 0


def by_dashboard(dq: DurableQ, task: RedriveTask) -> None:
    redrives._carry_out(dq, task)


def state(dq: DurableQ, task: RedriveTask) -> RedriveState:
    return dq.store.require(Capability.REDRIVE).redrive_task(task.id).state


def last_messages_before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """Return a list that gets the last id of a message at each step, which makes none itself."""
    take_step, ids = getattr(module, name), list[int]()

    def noted(tx: Any, *arguments: Any) -> Any:
        ids.append(tx.execute(tx.sql.LAST_IDS).fetchone()[1])
        return take_step(tx, *arguments)

    monkeypatch.setattr(module, name, noted)
    return ids


@contextmanager
def sender_beside(dq: DurableQ, path: Path) -> Iterator[None]:
    """Let another process send all the time."""
    dq.store.declare_queue("live", {})
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(path)])
    try:
        inspect = dq.store.require(Capability.INSPECT)
        wait_for(lambda: inspect.queue("live").counts.ready, what="the first send")
        yield
    finally:
        sender.kill()
        sender.wait()


def check_turns(ids: list[int]) -> None:
    turns = sum(before < after for before, after in pairwise(ids))
    assert turns >= len(ids) // 4, f"{turns} turns in {len(ids)} steps"


@pytest.mark.parametrize("carry_out", [by_command, by_dashboard])
def test_another_process_sends_between_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carry_out: Callable[..., None]
) -> None:
    path = tmp_path / "durableq.db"
    with DurableQ(path) as dq:
        for queue in ("failed", "repaired"):
            dq.store.declare_queue(queue, {"group_concurrency": 1, "bury_at": 1})
        for number in (1_000, 500):
            dq.store.send("failed", [draft(n, group=f"g{n % 50}") for n in range(number)])
        with sender_beside(dq, path):
            ids = last_messages_before(monkeypatch, redrive, "take_step")
            task = dq.store.require(Capability.REDRIVE).start_redrive(
                WholeQueue("failed"), Requeue(), to_queue="repaired"
            )
            carry_out(dq, task)
        assert state(dq, task) is RedriveState.DONE
    check_turns(ids)


def test_another_process_sends_between_the_slices_of_a_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "durableq.db"
    with DurableQ(path) as dq:
        dq.store.declare_queue("old", {})
        for _ in range(20):
            dq.store.send("old", [draft(n, expires_in=0.001) for n in range(1_000)])
        with sender_beside(dq, path):
            ids = last_messages_before(monkeypatch, maintenance, "expire_messages")
            assert main(["prune", "--db", dq.address]) == 0
        assert dq.store.require(Capability.INSPECT).queue("old").counts.present == 0
    assert len(ids) > 20
    check_turns(ids)
