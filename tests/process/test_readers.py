"""Real workers and recovery processes register the queues that they receive from."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

from durableq import DurableQ
from durableq.store.core import Capability
from tests.cli.console import COMMAND, environment, process
from tests.support import scaled, wait_for

APP = """
from durableq import DurableQ, Requeue
dq = DurableQ()

@dq.handler("current")
def handle(message):
    pass

@dq.recovery("current")
def recover(letter):
    return Requeue()
"""


def start(db: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--app", "nobapp:dq", "--db", str(db)],
        cwd=db.parent,
        env=environment(PYTHONPATH=f"{db.parent}:{environment()['PYTHONPATH']}"),
        stderr=subprocess.DEVNULL,
    )


def test_a_backlog_that_the_fleet_does_not_handle_is_told_everywhere(tmp_path: Path) -> None:
    db = tmp_path / "shop.db"
    (tmp_path / "nobapp.py").write_text(APP)
    with DurableQ(db) as dq:
        legacy = dq.queue("legacy").send({"x": 1})
        dead_letter = bury(dq)
        running = [start(db, "work"), start(db, "recover")]
        try:
            wait_for(
                lambda: (
                    sorted(
                        worker.queues or ()
                        for worker in dq.store.require(Capability.FLEET).workers()
                    )
                    == [("current",), ("current-dlq",)]
                ),
                what="a worker and a recovery process, registered with their queues",
            )
            told = look(tmp_path, db, legacy, dead_letter)
        finally:
            for child in running:
                child.send_signal(signal.SIGTERM)
            for child in running:
                child.wait(scaled(60))
    no_one = "o running worker handles 'legacy'; those that run handle 'current'"
    assert told["explain"]["because"][0].startswith(f"N{no_one}. Start a worker that has a handler")
    assert told["dead"]["because"][-1].startswith("No running recovery process decides about")
    (finding,) = (f for f in told["doctor"]["findings"] if f["name"] == "handlers")
    assert (finding["level"], finding["queue"]) == ("warn", "legacy")
    assert finding["what"] == f"n{no_one}; 1 message waits there"
    assert told["doctor"]["healthy"]
    handled = {queue["name"]: queue["handled_by"] for queue in told["status"]["queues"]}
    assert handled == handled | {"current": 1, "current-dlq": 1, "legacy": 0, "legacy-dlq": 0}
    assert f"N{no_one}; 1 message waits there." in told["shown"]


def bury(dq: DurableQ) -> str:
    """Let a message of a queue without a policy die."""
    queue = dq.queue("other", max_receives=1)
    dead_letter = queue.send("x")
    queue.receive()[0].fail("boom")
    return dead_letter


def look(folder: Path, db: Path, legacy: str, dead_letter: str) -> dict[str, Any]:
    """Ask every command that looks."""

    def ask(*arguments: str) -> Any:
        return process(*arguments, "--json", "--db", db, cwd=folder).json

    return {
        "explain": ask("explain", legacy),
        "dead": ask("explain", dead_letter),
        "doctor": ask("doctor"),
        "status": ask("status"),
        "shown": process("status", "--db", db, cwd=folder).out,
    }


def test_a_recovery_process_tells_of_queues_that_come_later(tmp_path: Path) -> None:
    db = tmp_path / "shop.db"
    (tmp_path / "all.toml").write_text('[[rule]]\nthen = "requeue"\n')
    with DurableQ(db) as dq:
        dq.queue("first")
        child = subprocess.Popen(
            [*COMMAND, "recover", "--policy", "all.toml", "--db", str(db)],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.DEVNULL,
        )
        try:
            first = ["first-dlq"]
            assert wait_for(lambda: told(dq) == first, what="a process that recovers first")
            dq.queue("second")
            both = ["first-dlq", "second-dlq"]
            assert wait_for(lambda: told(dq) == both, what="it tells of second")
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(scaled(60))


def told(dq: DurableQ) -> list[str]:
    """Return the queues of the registered processes."""
    return [
        queue
        for worker in dq.store.require(Capability.FLEET).workers()
        for queue in worker.queues or ()
    ]
