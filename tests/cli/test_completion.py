"""Completion: what it offers, and the scripts in real shells."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.cli import commands, completion, help
from durableq.cli.completion import offers
from durableq.model.message import Event, State
from tests.cli.console import Run, Shop, environment, process, run_process
from tests.cli.terminals import Terminal
from tests.cli.test_help import FOUND
from tests.support import scaled, wait_for

#: The command, on a machine of any load.
PATIENT = [
    sys.executable,
    "-c",
    "import sys; from durableq.cli import completion, main; completion.LONGEST_SECONDS = 200.0; "
    "sys.exit(main())",
]


def values(*words: str) -> list[str]:
    return [value for value, _ in offers(words)]


def test_commands_are_offered_with_their_summaries() -> None:
    assert dict(offers([""])) == {name: each.summary for name, each in commands.ENTRIES.items()}
    assert values("pe") == ["peek"]
    assert values("queue", "p") == ["purge", "pause"]
    assert values("dlq", "mo") == [], "it is hidden"
    assert values("no-such", "") == []


def test_options_are_offered_until_they_are_given() -> None:
    assert values("peek", "--ne") == ["--newest"]
    assert "--help" in values("--")
    everything = values("events", "--")
    assert {"--queue", "--kind", "--since", "--follow", "--db", "--json"} <= {*everything}
    given = values("events", "--since", "1h", "--kind", "failed", "--")
    assert {*everything} - {*given} == {"--since"}, "--kind may be repeated"
    assert values("events", "--", "--") == []


def test_values_of_options_are_offered() -> None:
    assert values("work", "--log-format", "") == ["text", "json"]
    assert values("work", "--log-format=j") == ["--log-format=json"]
    assert [value for value, _ in offers(["work", "--log-format=j"], splits=True)] == ["json"]
    assert values("peek", "--state", "") == [state.label for state in State]
    assert values("events", "--kind", "") == [event.value for event in Event]
    assert values("completion", "") == ["bash", "zsh", "fish"]
    assert values("peek", "--limit", "") == []


def test_queues_of_the_database_are_offered(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ["orders", "orders-dlq"]
    assert values("peek", "--queue", "") == names
    assert values("queue", "pause", "orders-") == names[1:]
    assert values("--db", "durableq.db", "breaker", "show", "") == names
    assert values("queue", "delete", "--db=durableq.db", "") == names
    assert values("breaker", "show", "orders", "") == names, "it takes several"
    assert values("queue", "pause", "orders", "") == []
    assert values("peek", "--db", "other.db", "--queue", "") == []
    assert not (tmp_path / "other.db").exists()
    shop.dq.close()
    shutil.move(tmp_path / "durableq.db", tmp_path / "moved.db")
    monkeypatch.setenv("DURABLEQ_DB", "moved.db")
    assert values("peek", "--queue", "") == names


def test_queues_of_a_server_are_offered(postgres_url: str) -> None:
    assert values("peek", "--db", postgres_url, "--queue", "") == [], "there are no tables"
    with DurableQ(postgres_url) as dq:
        dq.queue("orders").info()
    assert values("peek", "--db", postgres_url, "--queue", "") == ["orders", "orders-dlq"]


def test_an_application_is_not_imported(run: Run, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("raise SystemExit('it was imported')")
    assert values("--app", "loud:dq", "peek", "--queue", "") == []
    (tmp_path / "pyproject.toml").write_text('[tool.durableq]\napp = "loud:dq"\n')
    assert values("peek", "--queue", "") == []
    assert values("peek", "--db", "durableq.db", "--queue", "o") == ["orders", "orders-dlq"]


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of a folder, with their sizes and times of change."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


@pytest.mark.parametrize("kind", ["closed", "missing", "text", "directory", "left log"])
def test_no_file_is_created_or_changed_and_no_error_is_shown(
    kind: str, fresh: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    path = folder / "durableq.db"
    match kind:
        case "closed":
            shutil.copy2(fresh, path)
        case "text":
            path.write_text("no database " * 1000)
        case "directory":
            path.mkdir()
        case "left log":
            shutil.copy2(fresh, path)
            path.with_name("durableq.db-wal").write_bytes(b"")
    before = state_of(folder)
    env = {completion.ASKED: "fish"}
    asked = run_process(PATIENT, "peek", "--queue", "", cwd=folder, stdin=b"", **env)
    expected = "orders\norders-dlq\n" if kind == "closed" else ""
    assert (asked.code, asked.out, asked.err) == (0, expected, "")
    assert state_of(folder) == before


@pytest.mark.parametrize("words", [["--db", "sqlite://[", "peek", "--queue", ""], ["\udcff", ""]])
def test_a_line_that_makes_no_sense_is_answered_with_nothing(
    words: list[str], tmp_path: Path
) -> None:
    asked = process(*words, cwd=tmp_path, _DURABLEQ_COMPLETE="zsh")
    assert (asked.code, asked.out, asked.err) == (0, "", "")


def test_a_database_that_does_not_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = threading.Event()
    ended: list[int] = []
    monkeypatch.setattr(completion, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(completion, "offers", lambda *_, **__: never.wait(scaled(60)) or [])
    monkeypatch.setattr(os, "_exit", ended.append)
    assert completion.answer("fish", ["peek", "--queue", ""]) == 0
    assert (ended, capsys.readouterr()) == ([0], ("", ""))
    never.set()


@pytest.mark.parametrize(
    ("shell", "words", "before_the_summary"),
    [
        ("bash", ["durableq dlq grou"], "groups\n"),
        ("zsh", ["dlq", "grou"], "groups:"),
        ("fish", ["dlq", "grou"], "groups\t"),
    ],
)
def test_each_shell_has_its_form(
    shell: str,
    words: list[str],
    before_the_summary: str,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(completion.ASKED, shell)
    summary = "" if shell == "bash" else f"{help.summary(FOUND['dlq groups'])}\n"
    assert run(*words).out == before_the_summary + summary


def test_the_script_is_json_too(run: Run) -> None:
    document = run("completion", "zsh", "--json").json
    assert document == {"schema": 1, "shell": "zsh", "script": run("completion", "zsh").out}


def test_another_shell_is_refused_with_the_names_of_the_three(run: Run) -> None:
    refused = run("completion", "ksh")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "durableq: SHELL is one of bash, zsh and fish, got 'ksh'. "
        "See `durableq completion --help`.\n"
    )
    refused = run("work", "--log-format", "xml")
    assert "--log-format is one of text and json, got 'xml'. See `durableq work" in refused.err


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path on which `durableq` is this one."""
    command = tmp_path / "bin" / "durableq"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(PATIENT)} "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}:{os.environ['PATH']}"


#: Completes the line of the variable LINE, as the shell does it at Tab.
ASK = {
    "bash": """
        eval "$(durableq completion bash)"
        COMP_LINE=$LINE COMP_POINT=${#LINE}
        _durableq_completion durableq
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "fish": """
        durableq completion fish | source
        complete --do-complete "$LINE" | string split -f1 \\t
        true
    """,
}


@pytest.mark.parametrize("shell", ASK)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("durableq pee", ["peek"]),
        ("durableq dlq redr", ["redrive", "redrives"]),
        ("durableq peek --newest --queue o", ["orders", "orders-dlq"]),
        ("durableq peek --db 'durableq.db' --st", ["--state"]),
    ],
)
def test_a_shell_completes(
    shell: str, line: str, expected: list[str], path: str, shop: Shop, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    asked = subprocess.run(
        [shell, "-c", ASK[shell]],
        cwd=tmp_path,
        env=environment(PATH=path, LINE=line),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    assert (asked.stdout.split(), asked.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("shell", "load"),
    [
        (["bash", "--norc", "--noprofile", "-i"], 'eval "$(durableq completion bash)"'),
        (
            ["zsh", "-f", "-i"],
            'autoload -U compinit; compinit -u; eval "$(durableq completion zsh)"',
        ),
        (["fish", "--no-config", "-i"], "durableq completion fish | source"),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_tab_completes_in_a_terminal(
    shell: list[str], load: str, path: str, shop: Shop, tmp_path: Path
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    terminal = Terminal(shell, tmp_path, TERM="dumb", PS1="> ", PATH=path, HOME=str(tmp_path))
    try:
        terminal.type(f"{load}; echo loa''ded\n")
        wait_for(lambda: terminal.shows("loaded"), what="the script in the shell")
        terminal.type("durableq pee\t")
        wait_for(lambda: terminal.shows("durableq peek"), what="a completed command")
        terminal.type("--que\t")
        wait_for(lambda: terminal.shows("--queue"), what="a completed option")
        terminal.type("orders-\t")
        wait_for(lambda: terminal.shows("orders-dlq"), what="a completed queue")
    finally:
        terminal.close()
