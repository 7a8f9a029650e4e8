"""Whole runs: faults that happen, planted bugs that are seen, and no process left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from durableq import DurableQ
from durableq.cli import main, output
from durableq.testing.chaos.run import Asked
from durableq.testing.chaos.run import run as chaos_run
from tests.cli.console import COMMAND, ROOT, Result, environment, process
from tests.process.child import Child, runs
from tests.sabotage.planted import planting
from tests.support import scaled, wait_for

SMALL = ("--messages", "30", "--kills", "6", "--seconds", "3")
LIMIT_FAULTS = dict.fromkeys(("last_token", "last_place", "group_head", "outage"), 1)


def chaos(*arguments: object, temporary: Path, **env: str) -> Result:
    env["TMPDIR"] = str(temporary)
    return process("chaos", *arguments, cwd=temporary, stdin=b"", **env)


def test_a_small_run_holds_every_promise_under_real_faults(tmp_path: Path) -> None:
    ran = chaos(*SMALL, "--json", temporary=tmp_path)
    assert ran.code == 0, ran.out + ran.err
    report = ran.json
    assert report["violations"] == []
    assert report["ok"] is True
    assert report["faults"] == report["asked"]["faults"] == {"kill": 5, "stop": 1, **LIMIT_FAULTS}
    assert (report["seed"], report["asked"]["messages"], report["asked"]["seconds"]) == (1, 30, 3)
    accounts = report["accounts"]
    assert accounts["messages_sent"] == 30
    assert accounts["orders"] == accounts["orders_charged_once"] + accounts["orders_discarded"]
    assert accounts["stale_receipts_refused"] >= 1
    assert accounts["messages_left"] == 0
    assert accounts["calls_completed"] >= accounts["calls_in_flight_at_most"] > 0
    assert accounts["breaker_opened"] >= 1
    assert accounts["calls_during_the_outage"] >= 1
    assert accounts["steps_completed"] > 0
    assert accounts["parcels_completed"] > 0
    assert accounts["sends_refused"] > 0
    assert accounts["parcels_retried"] > accounts["parcels_completed"]
    assert (report["database"], report["ledgers"]) == (None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bug", "messages", "kills", "seconds", "seen"),
    [
        # A quarter of the messages are duplicates, which are charged again.
        ("forget_the_record", 16, 0, 1, "4 effects once: "),
        # Two of the ten faults are stops. The stale receipt is accepted, in one of the queues, if
        # its worker is the first to commit.
        ("remove_the_fence", 60, 10, 4, "(6|18) .* stale receipt"),
        ("see_a_place_for_each", 8, 0, 2, "15 in flight: "),
        ("let_two_more_in", 24, 0, 1, "19 backlog: [56] messages were in parcels"),
        ("let_retries_through_without_credit", 8, 0, 1, "20 retries: parcels had "),
        # The first step of each group fails once, and the next overtakes it.
        ("let_all_of_a_group_be_active", 8, 0, 1, "16 groups in order: Step 0:0 was received"),
    ],
)
def test_a_planted_bug_is_seen_and_the_evidence_stays(
    bug: str, messages: int, kills: int, seconds: int, seen: str, tmp_path: Path
) -> None:
    faults = ("--messages", messages, "--kills", kills, "--seconds", seconds)
    ran = chaos(*faults, temporary=tmp_path, **planting(bug))
    assert ran.code == output.UNHEALTHY, ran.out + ran.err
    assert re.search(f"^VIOLATION: {seen}", ran.out, re.MULTILINE), ran.out
    *_, file, ledgers = ran.lines
    assert Path(file.removeprefix("The file:").strip()).is_file()
    assert list(Path(ledgers.removeprefix("The ledgers:").strip()).glob("*.ledger"))


def test_a_small_run_on_postgresql_holds_every_promise(tmp_path: Path, postgres_url: str) -> None:
    few = ("--messages", 12, "--kills", 5, "--seconds", 2)
    ran = chaos(*few, "--db", postgres_url, "--json", temporary=tmp_path)
    assert ran.code == 0, ran.out + ran.err
    report = ran.json
    assert report["violations"] == []
    happened = {"kill": 4, "stop": 1, "cut": 3, **LIMIT_FAULTS}
    assert report["faults"] == report["asked"]["faults"] == happened
    accounts = report["accounts"]
    assert accounts["messages_sent"] >= 12
    assert accounts["stale_receipts_refused"] >= 1
    assert accounts["calls_completed"] >= accounts["calls_in_flight_at_most"] > 0
    assert accounts["sends_refused"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_kills_its_own_postgresql_and_holds_every_promise(tmp_path: Path) -> None:
    few = ("--messages", 12, "--kills", 1, "--seconds", 2)
    ran = chaos(*few, "--postgres", "--json", temporary=tmp_path)
    assert ran.code == 0, ran.out + ran.err
    report = ran.json
    assert report["violations"] == []
    assert report["faults"] == {"kill": 1, "cut": 1, "crash": 1, **LIMIT_FAULTS}
    (place,) = re.findall(r"host=(\S+?),", ran.err)
    assert not Path(unquote(place)).exists()


@pytest.mark.parametrize(
    ("bug", "messages", "kills", "seconds", "seen"),
    [
        # Both are planted in the functions of the hot verbs too.
        ("forget_the_record", 16, 0, 1, "4 effects once: "),
        ("remove_the_fence", 80, 20, 4, "(6|18) .* stale receipt"),
        ("see_a_place_for_each", 8, 0, 1, "15 in flight: "),
        ("let_all_of_a_group_be_active", 8, 0, 1, "16 groups in order: Step 0:0 was received"),
    ],
)
def test_a_planted_bug_is_seen_on_postgresql(
    bug: str,
    messages: int,
    kills: int,
    seconds: int,
    seen: str,
    tmp_path: Path,
    postgres_url: str,
) -> None:
    faults = ("--messages", messages, "--kills", kills, "--seconds", seconds)
    asked = (*faults, "--db", postgres_url)
    ran = chaos(*asked, temporary=tmp_path, **planting(bug))
    assert ran.code == output.UNHEALTHY, ran.out + ran.err
    assert re.search(f"^VIOLATION: {seen}", ran.out, re.MULTILINE), ran.out


def test_a_run_without_faults_needs_none(tmp_path: Path) -> None:
    database = tmp_path / "calm.db"
    ran = chaos(
        *("--messages", 8, "--kills", 0, "--seconds", 1, "--db", database, "--seed", 3, "--keep"),
        temporary=tmp_path,
    )
    assert ran.code == 0, ran.out + ran.err
    assert "Seed 3: every invariant holds." in ran.lines
    assert ran.lines[-2].split() == ["The", "file:", str(database)]
    assert Path(ran.lines[-1].partition(":")[2].strip()).is_dir()
    again = chaos("--db", database, temporary=tmp_path)
    assert again.code == 5
    assert re.search(r"has had \d+ messages in its queue 'calls' already", again.err)
    assert "Nothing was started" in again.err


def test_a_file_with_messages_of_others_is_refused(
    tmp_path: Path,
) -> None:
    with DurableQ(tmp_path / "shop.db") as dq:
        dq.queue("mail").send("mine")
    refused = chaos(*SMALL, "--db", "shop.db", temporary=tmp_path)
    assert (refused.code, refused.out) == (5, "")
    assert "has had 1 messages in its queue 'mail' already" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--kills", "-1"], 2, "--kills"),
        (["--kills", "many"], 2, "--kills"),
        (["--messages", "0"], 2, "--messages"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--seconds", "nan"], 2, "--seconds"),
        (["--db", "memory://"], 1, "name a file"),
        (["--db", "new.db", "--postgres"], 2, "drop --db"),
        (["--db", "."], 2, "is a directory"),
    ],
)
def test_bad_input_starts_nothing(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["chaos", *arguments]) == code
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_fleet_that_ends_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("durableq.testing.chaos.run.APP", "there.is.no:such")
    found = chaos_run(Asked(seed=1, kills=0, messages=4, seconds=1), None, lambda _: None)
    assert any(v.startswith("11 liveness: `durableq ") for v in found.violations), found.violations
    assert found.database is not None
    with DurableQ(found.database) as left:
        assert left.queue("orders").info().counts.in_flight == 0


def test_a_signal_leaves_no_process_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    running = Child(
        [*COMMAND, "chaos", "--kills", "10", "--seconds", "4"], tmp_path / "chaos.out", None
    )
    try:
        running.wait_until(lambda: any(map(is_stopped, running.family)), "a stopped worker")
        children = running.family
        running.signal(signal.SIGTERM)
        assert running.end() != 0
    finally:
        running.kill()
    wait_for(lambda: not any(map(runs, children)), what="the end of every child")
    assert list(temporary.iterdir()) == []


def is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def test_the_script_is_the_command(tmp_path: Path) -> None:
    script = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "chaos.py"), "--seconds", "0"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=scaled(60),
        check=False,
    )
    assert script.returncode == output.USAGE
    assert b"See `durableq chaos --help`" in script.stderr
