"""`init`, `migrate`, `work`, `recover`, `demo`: their effects and their refusals."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.cli import output
from durableq.cli.options import DEMO_APP, Session
from durableq.demo import show
from durableq.demo.accounts import Report
from durableq.engines.sqlite import schema
from tests.cli.console import COMMAND, Run, Shop, environment, forked, process
from tests.migrations.test_released import RELEASED
from tests.support import scaled, wait_for

APP = """
from durableq import Delivery, Discard, DurableQ, Requeue

dq = DurableQ()

@dq.handler("orders")
def handle(message: Delivery) -> None:
    if message.body == "bad" and not message.recovery_count:
        raise ValueError("boom")

@dq.recovery("orders")
def recover(letter):
    return Requeue("again") if letter.body == "bad" else Discard("no use")
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "a_shop.py").write_text(APP)
    return "a_shop:dq"


# ---- init, migrate


def test_init_reports_whether_the_file_was_there(run: Run, tmp_path: Path) -> None:
    assert run("init").lines == ["durableq.db: created."]
    assert run("init").lines == ["durableq.db: ready already."]
    assert run("migrate", "--json").json == {
        "schema": 1, "database": "durableq.db", "found": "current", "done": "ready already"
    }  # fmt: skip


@pytest.mark.skipif(schema.LACKS_OCTET_LENGTH, reason="files of 0.1 need a newer SQLite")
def test_migrate_estimates_the_upgrade_before_it_begins(run: Run, tmp_path: Path) -> None:
    shutil.copy(RELEASED / "0001.db", tmp_path / "old.db")
    done = run("migrate", "--db", "old.db")
    assert done.lines == ["old.db: upgraded."]
    assert "This upgrade rebuilds durableq_message (9 rows)" in done.err
    assert "This upgrade" not in run("migrate", "--db", "old.db").err


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE invoice (id INTEGER)")
    connection.close()


def test_init_adds_tables_beside_others_only_with_its_option(run: Run, tmp_path: Path) -> None:
    foreign(tmp_path / "app.db")
    refused = run("init", "--db", "app.db")
    assert refused.code == 1
    assert "--beside-other-tables" in refused.err
    assert (
        run("init", "--db", "app.db", "--beside-other-tables", "--json").json["found"] == "foreign"
    )
    assert run("status", "--db", "app.db").code == 0


def unusable(kind: str, path: Path) -> None:
    match kind:
        case "directory":
            path.mkdir()
        case "text":
            path.write_text("no database at all " * 100)
        case "foreign":
            foreign(path)
        case "hard link":
            DurableQ(path).store.close()
            path.with_suffix(".too").hardlink_to(path)
        case "read-only":
            DurableQ(path).store.close()
            path.chmod(0o444)
        case "newer":
            with DurableQ(path) as dq, dq.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE durableq_version SET version_num = '9999'")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("directory", "is a directory"),
        ("text", "is not a SQLite database"),
        ("foreign", "another application's tables"),
        ("hard link", "has 2 hard links"),
        ("read-only", "is read-only"),
        ("newer", "was made by a newer durableq"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(
    kind: str, why: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "there"
    unusable(kind, path)
    (tmp_path / "in.jsonl").write_text("1\n")
    before = path.read_bytes() if path.is_file() else b""
    commands = (["status"], ["produce", "in.jsonl"], ["work", "--drain"], ["recover", "--once"])
    for command in commands:
        shown = run(*command, "--db", path)
        assert (shown.code, shown.out) == (1, "")
        assert why in shown.err
        assert shown.err.count("\n") == 1
    assert (path.read_bytes() if path.is_file() else b"") == before


# ---- work, recover


def test_a_whole_life_from_the_command_line(shop: Shop, tmp_path: Path, app: str) -> None:
    shop.queue.send_many(["good", "bad", "good"])
    worked = process("work", "--app", app, "--drain", "--json", cwd=tmp_path)
    assert worked.code == 0, worked.err
    assert any("started" in json.loads(line)["event"] for line in worked.lines)
    assert (shop.bodies(), len(shop.dead_ids())) == ([], 1)
    planned = forked("recover", "--app", app, "--dry-run", cwd=tmp_path)
    assert planned.code == 0
    assert planned.lines[0].startswith("requeue ")
    assert planned.said == "Would decide: 1 requeue.\n"
    assert len(shop.dead_ids()) == 1
    decided = forked("recover", "--app", app, "--once", "--json", cwd=tmp_path)
    (decision,) = map(json.loads, decided.lines)
    assert (decision["decision"], decision["reason"], decision["outcome"]) == (
        "requeue",
        "again",
        "done",
    )
    assert shop.bodies() == ["bad"]
    assert forked("work", "--drain", cwd=tmp_path, DURABLEQ_APP=app).code == 0
    assert shop.queue.info().counters.completed == 3


@pytest.mark.parametrize(
    ("command", "stop"), [("work", signal.SIGTERM), ("recover", signal.SIGINT)]
)  # the others in tests/process
def test_a_signal_stops_it_cleanly(
    command: str, stop: signal.Signals, shop: Shop, tmp_path: Path, app: str
) -> None:
    with subprocess.Popen(
        [*COMMAND, command, "--app", app],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        wait_for(shop.store.workers, seconds=30, what="a registered process")
        child.send_signal(stop)
        _, err = child.communicate(timeout=scaled(30))
    assert child.returncode == 0, err
    assert b"Traceback" not in err
    assert shop.store.workers() == []


def test_pyproject_names_the_application(run: Run, shop: Shop, tmp_path: Path, app: str) -> None:
    project = tmp_path / "pyproject.toml"
    for text, why in (
        ('[tool.durableq]\napp = "nowhere_at_all:dq"', "There is no module 'nowhere_at_all'"),
        ("[tool.durableq]\napp = 7", "is not a string MODULE:ATTRIBUTE"),
        ("[tool", "pyproject.toml cannot be read"),
    ):
        project.write_text(text)
        for command in ("work", "recover"):
            shown = run(command)
            assert (shown.code, shown.out) == (1, "")
            assert why in shown.err


@pytest.mark.parametrize("text", ["", "tool = 3", "[tool]\ndurableq = 3", "[tool.durableq]"])
def test_a_pyproject_without_an_application_means_the_demos(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "durableq.demo.app", raising=False)  # another test's database
    (tmp_path / "pyproject.toml").write_text(text)
    spec, _ = Session().application()
    assert spec == DEMO_APP


REFUSED = [
    ("nowhere:dq", "There is no module 'nowhere'"),
    ("a_broken:dq", "a_broken.py, line 1): ZeroDivisionError: division by zero"),
    ("a_silent:dq", "The application holds no"),
    ("a_silent:other", "'a_silent:other' is nothing, not a DurableQ"),
    ("a_silent:number", "'a_silent:number' is a int, not a DurableQ"),
    (":dq", "':dq' names no application"),
]


@pytest.mark.parametrize("command", ["work", "recover"])
@pytest.mark.parametrize(("spec", "why"), REFUSED)
def test_an_application_that_cannot_run_is_refused_before_any_message(
    command: str, spec: str, why: str, run: Run, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "a_broken.py").write_text("1 / 0")
    (tmp_path / "a_silent.py").write_text(
        "from durableq import DurableQ\ndq = DurableQ()\nnumber=1"
    )
    shop.queue.send("b")
    shown = run(command, "--app", spec)
    assert (shown.code, shown.out) == (1, "")
    assert why in shown.err
    assert shop.store.peek("orders", 1)[0].receive_count == 0


def test_a_queue_without_a_handler_is_refused(run: Run, shop: Shop) -> None:
    for command, why in (
        ("work", "No handler for queue 'mail'"),
        ("recover", "No recovery policy"),
    ):
        shown = run(command, "--queue", "mail", "--db", "durableq.db")
        assert shown.code == 1
        assert why in shown.err


# ---- demo


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["2 orders were lost."], 6)])
def test_the_demo_prints_its_accounts_and_the_exit_code_judges_them(
    problems: list[str], code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def fake(*arguments: Any, keep: bool) -> Report:
        calls.append(arguments[:-1])
        arguments[-1]("sent 1/2")
        kept = "/tmp/its file.db" if keep and arguments[0] is None else ""
        return Report([("produced", "200", "199")], problems, kept)

    monkeypatch.setattr(show, "run", fake)
    shown = run("demo", "--count", 5, "--procs", 2, "--seed", 9)
    assert shown.code == code
    assert shown.err.startswith("sent 1/2\n")
    assert "export DURABLEQ_DB='/tmp/its file.db'\n" in shown.err
    assert shown.lines[0].split() == ["ACCOUNT", "REFERENCE", "MEASURED"]
    assert shown.lines[1].split() == ["produced", "200", "199"]
    decision = [f"PROBLEM: {problem}" for problem in problems] or ["Every account balances."]
    assert shown.lines[3:] == decision
    as_json = run("demo", "--json", "--db", "there.db")
    assert (as_json.code, as_json.json["problems"]) == (code, problems)
    assert (as_json.json["kept"], as_json.err) == (None, "sent 1/2\n")
    assert [call[:3] for call in calls] == [(None, 5, 2), ("there.db", 200, 4)]


def test_on_a_terminal_progress_stays_on_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(output, "_announced", [])  # an earlier test may have left a line
    tell = output.live()
    for text in ("begin", "sent 1", "sent 2", "end"):
        tell(text)
    assert capsys.readouterr().err == "begin\nsent 1\n\x1b[1A\x1b[2Ksent 2\nend\n"
