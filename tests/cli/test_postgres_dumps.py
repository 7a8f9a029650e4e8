"""The commands that `backup` and `restore` name work, on a database with workers and leases."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.model.message import State
from durableq.store.core import Capability, WorkerInfo
from tests.cli.console import Result, Run
from tests.migrations.catalog import connected, split
from tests.postgres import new_schema, programs


def run_named(told: Result, program: str) -> None:
    """Run the command that a refusal names, with the programs of the wheel."""
    assert told.code > 0
    (line,) = (line for line in told.err.splitlines() if line.strip().startswith(program))
    path = {"PATH": f"{programs()}:{os.environ['PATH']}"}
    command = shlex.split(line)
    done = subprocess.run(
        command, env=os.environ | path, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def fill(url: str) -> None:
    """Leave a message in flight with a worker of this boot, a waiting one, and a dead letter."""
    with DurableQ(url) as dq:
        orders = dq.queue("orders", visibility_timeout=3600, max_receives=1)
        orders.send("dies")
        for message in orders.receive():
            message.fail(ValueError("no"))
        told = WorkerInfo("host-a:7", 7, 1, "boot-b", host_id="host-b")
        worker = dq.store.require(Capability.FLEET).register(told)
        orders.send("in flight", key="k")
        dq.store.receive("orders", 1, owner_id=worker.owner_id)
        orders.send(b"waits")
        value = dq.once("rate", lambda: 7, ttl=3600)
        assert value == 7


@pytest.mark.parametrize("beside", [False, True], ids=["in place", "in a new schema"])
def test_a_dump_is_restored_without_leases_and_workers(
    run: Run, postgres_url: str, tmp_path: Path, beside: bool
) -> None:
    fill(postgres_url)
    dump = tmp_path / "my dump"
    run_named(run("backup", str(dump), "--db", postgres_url), "pg_dump")
    with DurableQ(postgres_url) as dq:
        dq.queue("orders").send("after the dump")
    if beside:
        with connected(postgres_url) as connection:
            name = split(postgres_url)[1]
            connection.execute(f"DROP SCHEMA {name} CASCADE; CREATE SCHEMA {name}".encode())
    run_named(run("restore", str(dump), "--db", postgres_url), "pg_restore")
    examined = run("doctor", "--db", postgres_url)
    assert "restored from a dump" in examined.out
    with DurableQ(postgres_url) as dq:
        info = dq.queue("orders").info()
        assert (info.counts.ready, info.counts.in_flight) == (2, 0)
        assert dq.store.require(Capability.FLEET).workers() == []
        received = dq.store.receive("orders", 10).messages
        assert [(m.body, m.receive_count, m.state) for m in received] == [
            ('"in flight"', 1, State.IN_FLIGHT),
            (b"waits", 1, State.IN_FLIGHT),
        ]
        assert dq.queue("orders-dlq").info().counts.present == 1
        assert dq.once("rate", lambda: 8, ttl=3600) == 7
        assert int(dq.queue("orders").send("next")) > max(int(m.id) for m in received)
    assert "restored" not in run("doctor", "--db", postgres_url).out
    assert run("audit", "--db", postgres_url).code == 0


def test_the_commands_of_another_schema_leave_this_one_alone(
    run: Run, postgres_url: str, postgres_server: str, tmp_path: Path
) -> None:
    fill(postgres_url)
    with new_schema(postgres_server) as other:
        fill(other)
        dump = tmp_path / "dump"
        run_named(run("backup", str(dump), "--db", other), "pg_dump")
        with connected(other) as connection:
            connection.execute("DROP TABLE durableq_message CASCADE")
        run_named(run("restore", str(dump), "--db", other), "pg_restore")
    with DurableQ(postgres_url) as dq:
        assert dq.queue("orders").info().counts.in_flight == 1
