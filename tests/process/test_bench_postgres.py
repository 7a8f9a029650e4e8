"""`durableq bench --db postgresql://…` prints figures, and leaves no schema."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from durableq.bench.postgres import raw
from durableq.bench.postgres.peers import PEERS
from tests.process.child import Child
from tests.support import scaled, wait_for

BENCH = [sys.executable, "-m", "durableq", "bench", "--quick", "--rounds"]


def schemas(server: str, pid: int) -> list[str]:
    """Return the schemas that the benchmark of a process has made and not dropped."""
    with psycopg.connect(server) as connection:
        rows = connection.execute(
            "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, %s)",
            (f"durableq_bench_{pid}_",),
        ).fetchall()
    return [name for (name,) in rows]


class Ran(NamedTuple):
    """A benchmark that has ended."""

    pid: int
    returncode: int
    stdout: str
    stderr: str


def bench(*arguments: str) -> Ran:
    pipe = subprocess.PIPE
    with subprocess.Popen([*BENCH, "1", *arguments], stdout=pipe, stderr=pipe, text=True) as run:
        try:
            stdout, stderr = run.communicate(timeout=scaled(120))
        finally:
            run.kill()
    return Ran(run.pid, run.returncode, stdout, stderr)


@pytest.fixture
def raw_side(postgres_url: str) -> Iterator[raw.Raw]:
    raw.create(postgres_url)
    with closing(raw.Raw(postgres_url)) as side:
        yield side


@pytest.mark.parametrize(
    "rows",
    [
        ("send one", "send in 100, key", "receive + complete one", "receive + complete in 10, key"),
        ("processes",),
        ("wake-up",),
        ("churn",),
    ],
    ids="-".join,
)
def test_rows_are_measured_and_no_schema_is_left(
    rows: tuple[str, ...], postgres_server: str
) -> None:
    words = [word for name in rows for word in ("--row", name)]
    ran = bench("--db", postgres_server, *words, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["sqlite"] == ""
    assert document["postgres"]["synchronous_commit"] == "on"
    assert document["postgres"]["version"]
    listed = bench("--db", postgres_server, "--list", *words, "--json").stdout.splitlines()
    assert [row["name"] for row in document["rows"]] == [json.loads(row)["name"] for row in listed]
    for row in document["rows"]:
        value = row["value"]
        assert value["low"] <= value["median"] <= value["high"]
        # A handler may begin before the send returns, which has been committed: less than 0.
        assert value["median"] != 0 if "wake-up" in row["name"] else value["low"] > 0.01
        assert row["details"]
    assert schemas(postgres_server, ran.pid) == []


def test_processor_time_is_that_of_client_and_server(postgres_server: str) -> None:
    ran = bench("--db", postgres_server, "--row", "send one", "--json")
    document = json.loads(ran.stdout)
    if document["postgres"]["time"] == "wall":
        pytest.skip("the processes of the server are not to be seen")
    (row,) = document["rows"]
    # A round trip, a parse and a write of the log take the server longer than this.
    assert row["details"]["raw, µs CPU"]["median"] > 50


def test_a_signal_leaves_no_schema(postgres_server: str, tmp_path: Path) -> None:
    command = [*BENCH, "1000", "--db", postgres_server, "--row", "messages"]
    child = Child(command, tmp_path / "bench.out", None)
    try:
        wait_for(lambda: len(schemas(postgres_server, child.pid)) == 2, what="its schemas")
        child.signal(signal.SIGTERM)
        assert child.end() == 128 + signal.SIGTERM
    finally:
        child.kill()
    assert schemas(postgres_server, child.pid) == []


def test_by_hand_keyed_messages_are_leased_and_completed(raw_side: raw.Raw) -> None:
    raw_side.send_many([{"order": 1}, {"order": 2}], ["b", "a"])
    (first,) = raw_side.receive(1)
    assert (first.key, first.body) == ("b", {"order": 1})
    rows = raw_side.connection.execute(
        "SELECT key, state, receive_count FROM bench_message ORDER BY id"
    ).fetchall()
    assert rows == [("b", 1, 1), ("a", 0, 0)]
    raw_side.complete([first])
    with pytest.raises(ValueError, match="completed 0 of 1"):
        raw_side.complete([first])
    records = raw_side.connection.execute("SELECT key, status FROM bench_record").fetchall()
    assert records == [("b", 1)]
    assert [message.key for message in raw_side.receive(10)] == ["a"]


def test_missing_peers_are_named(postgres_server: str) -> None:
    missing = [name for name, peer in PEERS.items() if not peer.is_installed]
    ran = bench("--db", postgres_server, "--row", "send one", "--peers", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["missing_peers"] == missing
    for name in document["peers"]:
        assert f"x {name}" in document["rows"][0]["details"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--synchronous", "full"], "do not apply to PostgreSQL"),
        (["--against", "."], "do not apply to PostgreSQL"),
        (["--row", "bodies"], "There is no row 'bodies'."),
    ],
)
def test_options_that_cannot_be_are_refused(
    arguments: list[str], sentence: str, postgres_server: str
) -> None:
    ran = bench("--db", postgres_server, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert sentence in ran.stderr
