"""`durableq bench` and `bench fleet` print figures; no test depends on their size."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from durableq.bench.figures import percentile
from durableq.bench.peers import PEERS
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


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durableq", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=scaled(120),
        check=False,
    )


def test_the_rows_of_messages_are_measured_beside_raw(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    theme = ("--row", "messages", "--quick", "--rounds", "1", "--synchronous", "normal")
    ran = bench(*theme, "--plot", str(plot), "--against", str(Path(__file__).parents[2]), "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert set(document) == {
        *("schema", "machine", "sqlite", "postgres", "load", "seconds"),
        *("peers", "missing_peers", "rows", "missing"),
    }
    listed = bench("--list", "--row", "messages", "--json").stdout.splitlines()
    assert [row["name"] for row in document["rows"]] == [json.loads(row)["name"] for row in listed]
    for row in document["rows"]:
        assert 0.01 < row["value"]["low"] <= row["value"]["median"] <= row["value"]["high"] < 10
        assert row["reached"] == (row["target"] and row["value"]["median"] >= row["target"])
        for side in ("raw", "durableq", "against"):
            assert row["details"][f"{side}, µs CPU"]["median"] > 0.1
    for row in document["rows"]:
        assert f">{row['name']} (normal)<" in plot.read_text("utf-8")


@pytest.mark.parametrize(
    "chosen",
    [
        ("bodies",),
        ("fleet of 4, keys", "batch of 50 with effects", "transactions, 4 procs, FULL"),
        ("async against threads",),
        ("contention",),
        ("latency",),
        ("processes",),
        ("memory of a worker, 500 KB bodies", "memory of a sender, 500 KB bodies"),
        ("large",),
        ("rate: receive + complete one", "100 groups: in 10", "backlog limits: send in 10"),
        ("rate: most beyond rate x window", "replace_key: waiting of 1,000 sends"),
        (
            "debounce: received after max_wait",
            "once: wait beyond the computation, p95",
            "redrive at a rate: most in a second",
            "slow start: most calls in a second",
            "one group of 100,000: batches of 100",
        ),
    ],
    ids="-".join,
)
def test_the_other_rows_are_measured(chosen: tuple[str, ...]) -> None:
    rows = [word for name in chosen for word in ("--row", name)]
    ran = bench(*rows, "--quick", "--rounds", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    listed = {
        row["name"]: row
        for row in map(json.loads, bench("--list", *rows, "--json").stdout.splitlines())
    }
    measured = json.loads(ran.stdout)["rows"]
    assert {row["name"] for row in measured} == set(listed)
    for row in measured:
        value, target = row["value"], row["target"]
        assert -10_000 < value["low"] <= value["median"] <= value["high"] < 10_000, row
        if row["name"].startswith("latency"):
            # A handler may begin before the send returns, which has been committed: less than 0.
            assert value["median"] != 0, row
        else:
            # The log may be empty by then, and receives that wait may cost nothing.
            may_be_zero = row["name"] in {"log after a drain", "serve: 100 long polls"}
            assert value["low"] >= 0 if may_be_zero else value["low"] > 0, row
        assert target in {listed[row["name"]]["target"], None}
        if target is not None:
            is_less = value["median"] < target
            assert value["median"] == target or row["reached"] == (is_less != row["at_least"])


def test_the_rows_of_the_endpoint_are_measured() -> None:
    ran = bench("serve", "--quick", "--rounds", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    rows = {row["name"]: row for row in json.loads(ran.stdout)["rows"]}
    assert len(rows) == 7
    for name in ("serve: send", "serve: receive + delete", "serve: send a batch of 10"):
        parts = rows[name]["details"]
        assert set(parts) == {"boto3, ms", "floor, ms", "one commit, ms"}
        assert all(parts[side]["median"] > 0 for side in parts)
    for name in ("serve: 64 connections", "serve: 64, disk 4 ms slower"):
        sides = rows[name]["details"]
        assert set(sides) == {
            f"{side}, {unit}"
            for side in ("groups", "single commits")
            for unit in ("requests/s", "µs CPU")
        }
        assert rows[name]["value"]["median"] > 0
    # Each request of that server waits for a commit of its own, of 4 ms.
    slow = rows["serve: 64, disk 4 ms slower"]["details"]
    assert slow["single commits, requests/s"]["high"] < 250
    assert rows["serve: 100,000 messages"]["value"]["median"] > 0
    assert 0 <= rows["serve: 100 long polls"]["value"]["median"] < 100


def test_the_tables_name_target_and_result() -> None:
    ran = bench("--row", "send one", "--quick", "--rounds", "2", "--synchronous", "both")
    assert ran.returncode == 0, ran.stderr
    figures, details = (part.splitlines() for part in ran.stdout.split("\n\n")[1:])
    assert figures[0].split() == ["ROW", "FIGURE", "TARGET", "MET"]
    assert [row.split()[2] for row in figures[1:]] == ["(normal)", "(full)"]
    assert all(row.split()[-3:-1] == ["≥", "0.6"] for row in figures[1:])
    assert all(row.split()[-1] in {"yes", "NO"} for row in figures[1:])
    assert all(re.search(r"\d to \d.*, durableq \S+ µs CPU", row) for row in details[1:])


def test_ctrl_c_prints_the_figures_so_far_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    # The first ignores the number of rounds, so the second is not over when it is interrupted.
    rows = ("memory of an idle worker", "dlq list --limit 10000")
    words = [word for name in rows for word in ("--row", name)]
    command = [*BENCH[:4], *words, "--quick", "--rounds", "1000", "--json"]
    bench = Child(["setsid", *command], tmp_path / "bench.out", None)
    try:
        bench.wait_until(lambda: f"{rows[1]}: 1000 rounds" in bench.complaints, "the second row")
        family = bench.family
        os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
        assert bench.end() == 130
        wait_for(lambda: not any(map(runs, family)), what="the end of all it had started")
    finally:
        bench.kill()
    document = json.loads("\n".join(bench.said))
    assert [row["name"] for row in document["rows"]] == [rows[0]]
    assert [row["name"] for row in document["missing"]] == [rows[1]]
    said = f"durableq: The run was interrupted.\n    Not measured: {rows[1]}\n"
    assert bench.complaints.endswith(said)
    assert "Traceback" not in bench.complaints
    assert list(temporary.iterdir()) == []


def test_missing_peers_are_named_with_the_way_to_install_them() -> None:
    missing = [name for name, peer in PEERS.items() if not peer.is_installed]
    ran = bench("--row", "send one", "--quick", "--rounds", "1", "--peers", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["missing_peers"] == missing
    assert ("pip install 'durableq[bench]'" in ran.stderr) == bool(missing)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--row", "nothing"], "There is no row 'nothing'."),
        (["--row", "send on"], "Did you mean 'send one'?"),
        (["--row", "peers"], "needs --peers"),
        (["--against", "nowhere"], "is not a source tree"),
        (["--plot", __file__], "exists already"),
        (["--plot", "/nowhere/plot.svg"], "cannot be written: No such file or directory"),
        (["--plot", "/proc/plot.svg"], "cannot be written: "),
        (["--db", "my.db"], "leave out --db"),
        (["--synchronous", "off"], "'off'"),
        (["--quick", "fleet"], "do not apply to `bench fleet`"),
        (["flow", "--row", "send one"], "no row of limits"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments: list[str], sentence: str) -> None:
    ran = bench(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert sentence in ran.stderr


def test_the_fleet_has_the_niceness_of_the_command(tmp_path: Path) -> None:
    niceness = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    nice = Child(["nice", "-n", "3", *BENCH, "--seconds", "600"], tmp_path / "bench.out", None)
    try:
        nice.wait_until(lambda: len(nice.family) >= 5, "its fleet")
        for process in nice.family:
            assert process.nice() == niceness
        group = Path(f"/proc/{worker_of(nice).pid}/autogroup")
        if group.exists() and Path("/proc/sys/kernel/sched_autogroup_enabled").read_text() == "1\n":
            # The session of the fleet, whose niceness counts against other sessions.
            wait_for(
                lambda: group.read_text().split()[-1] == str(niceness),
                what="the session's niceness",
            )
    finally:
        nice.kill()


def worker_of(bench: Child) -> psutil.Process:
    return next(one for one in bench.family if "durableq.worker" in one.cmdline())
