"""The commands on a PostgreSQL database, named with a password that none of them shows."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.cli.console import Run
from tests.process.child import Nursery
from tests.process.fleet_app import APP

PASSWORD = "no-one-may-read-this"
COMMANDS = [
    "status --json",
    "queue list",
    "queue set orders --max-in-flight 5",
    "queue pause orders",
    "queue resume orders",
    "dlq list",
    "audit",
    "explain 1",
    "prune",
    "migrate",
    "work --drain --grace 5",
    "recover --once",
]


@pytest.fixture
def url(postgres_url: str) -> str:
    """The URL of a new schema, with a password that the server does not ask for."""
    scheme, separator, rest = postgres_url.partition("://")
    user, at, place = rest.partition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}:{PASSWORD}{at}{place}"


def test_a_database_without_our_tables_is_not_there(run: Run, url: str) -> None:
    for command in ("status", "audit", "dlq list"):
        result = run(*command.split(), "--db", url)
        assert result.code > 0
        assert "There is no database at postgresql://" in result.err
        assert PASSWORD not in result.err


def test_each_command_runs_and_shows_no_password(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLEQ_DB", url)
    assert run("init").out.endswith(": created.\n")
    assert run("init").out.endswith(": ready already.\n")
    sent = run("produce", "--count", "10")
    assert "Sent 10 messages" in sent.err
    for command in COMMANDS:
        done = run(*command.split())
        assert done.code == 0, (command, done.out, done.err)
        assert PASSWORD not in done.out + done.err
    examined = run("doctor")
    assert "fsync is off" in examined.out
    assert PASSWORD not in examined.out + examined.err
    (orders, _) = json.loads(run("status", "--json").out)["queues"]
    assert orders["counters"]["sent"] == 10
    assert orders["counts"]["in_flight"] == 0


@pytest.mark.parametrize("command", ["backup copy.db", "restore copy.db"])
def test_a_command_that_works_on_files_only_says_so(run: Run, url: str, command: str) -> None:
    result = run(*command.split(), "--db", url)
    assert result.code > 0
    assert PASSWORD not in result.out + result.err
    own = {"backup copy.db": "pg_dump", "restore copy.db": "pg_restore"}
    assert own[command] in result.err


def test_the_arguments_of_a_running_worker_have_no_password(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLEQ_DB", url)
    with DurableQ(url) as dq:
        dq.queue("orders")
        dq.queue("bulk")
        dq.init()
    nursery = Nursery(tmp_path)
    try:
        fleet = nursery.work("--json", f"--app={APP}", "--procs=2")
        fleet.wait_until(lambda: fleet.complaints or '"ready"' in "".join(fleet.said), "a worker")
        for process in fleet.family:
            assert PASSWORD not in " ".join(process.cmdline())
        fleet.signal(signal.SIGTERM)
        assert fleet.end() == 0
        assert PASSWORD not in "".join(fleet.said) + fleet.complaints
    finally:
        nursery.close()
