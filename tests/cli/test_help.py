"""Every command explains itself, quickly."""

import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import durableq
from durableq.cli import commands, help
from tests.cli.console import Run, process

COMMANDS = {
    *("produce", "work", "recover", "demo", "chaos", "status", "peek", "show"),
    *("explain", "events", "dashboard", "serve", "metrics", "init"),
    "migrate",
    "completion",
    *("doctor", "audit", "backup", "restore", "prune", "transfer", "lint"),
    *("queue create", "queue set", "queue list", "queue purge", "queue delete"),
    *("queue pause", "queue resume"),
    *("breaker show", "breaker open", "breaker close"),
    *("message cancel", "message reschedule", "message run-now"),
    *("dlq list", "dlq groups", "dlq explain", "dlq show", "dlq redrive", "dlq discard"),
    *("dlq redrives", "dlq moves", "dlq resume", "dlq set", "dlq cancel"),
    *("bench fleet", "bench flow", "bench serve", "worker drain"),
    *("once get", "once list", "once forget"),
    *("schedule list", "schedule show", "schedule pause", "schedule resume"),
    *("schedule run", "schedule remove"),
    *("idempotency get", "idempotency list", "idempotency forget", "idempotency prune"),
}
#: Commands that run until they are stopped, or start processes.
RUN = {
    *["work", "dashboard", "serve", "demo", "chaos"],
    "worker drain",
    "bench fleet",
    "bench flow",
    "bench serve",
}


def walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, command


GROUPS = (
    *("message", "breaker", "queue", "dlq", "idempotency", "once", "bench", "worker"),
    "schedule",
)
FOUND = dict(walk(commands.tree()))


def test_every_command_is_known() -> None:
    assert set(FOUND) == COMMANDS


@pytest.mark.parametrize("path", sorted(FOUND))
def test_help_describes_and_gives_an_example(path: str, run: Run) -> None:
    shown = run(*path.split(), "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"Usage: durableq {path}" in shown.out
    named = "dlq redrives" if path == "dlq moves" else path
    assert f"\nExample:\n  durableq {named}" in shown.out
    assert "\nDocumentation: " in shown.out


@pytest.mark.parametrize("path", ["", *GROUPS, *sorted(FOUND)])
def test_help_is_plain_at_80_columns(path: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*path.split(), "--help").lines
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if re.search(r"<\w[^>]*>|<=|\{\w+\}", line)] == []


@pytest.mark.parametrize("path", sorted(FOUND))
def test_every_value_has_a_placeholder_and_every_default_is_shown(path: str, run: Run) -> None:
    shown = " ".join(run(*path.split(), "--help").out.split())
    for param in FOUND[path].params:
        flag = getattr(param, "is_flag", False)
        assert flag or (param.metavar or "").isupper(), f"{param.name} has no placeholder"
        if not flag:
            name = max(param.opts, key=len)
            assert name == param.name or f"{name} {param.metavar} " in shown
        if param.default is not None and not flag:
            default = getattr(param.default, "value", param.default)
            assert f"[default: {default}]" in shown


@pytest.mark.parametrize("path", ["", *GROUPS])
def test_a_summary_is_one_line_and_a_sentence(
    path: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*path.split(), "--help").lines
    for name, command in FOUND.items():
        if (
            not command.hidden
            and name.startswith(f"{path} " if path else "")
            and (path or " " not in name)
        ):
            summary = help.summary(command)
            assert summary.endswith(".")
            assert [line for line in shown if line.endswith(f" {summary}")], summary


def test_the_old_name_of_a_command_is_hidden(run: Run) -> None:
    shown = run("dlq", "--help").out
    assert ("redrives" in shown, "moves " in shown) == (True, False)


@pytest.mark.parametrize("path", sorted(FOUND))
def test_every_option_and_argument_has_help(path: str) -> None:
    assert [p.name for p in FOUND[path].params if not getattr(p, "help", None)] == []


@pytest.mark.parametrize("path", sorted(FOUND))
def test_every_command_takes_db_and_json(path: str) -> None:
    needs_none = path.startswith("bench ") or path == "completion"  # a benchmark makes its own
    wanted = {"as_json"} if needs_none else {"db", "as_json"}
    assert wanted <= {parameter.name for parameter in FOUND[path].params}


@pytest.mark.parametrize("arguments", [(), ("queue",), ("dlq",), ("once",)])
def test_a_noun_alone_shows_its_commands_and_is_no_success(
    arguments: tuple[str, ...], run: Run
) -> None:
    shown = run(*arguments)
    assert shown.code == 2
    assert "Usage: durableq" in shown.out + shown.err
    assert "durableq: " not in shown.err


def test_the_summaries_of_the_root_are_those_of_the_commands() -> None:
    for name, command in commands.tree().commands.items():
        assert commands.ENTRIES[name].summary == help.summary(command), name


def test_version_is_printed(tmp_path: Path) -> None:
    shown = process("--version", cwd=tmp_path)
    assert shown.code == 0
    assert shown.out == f"durableq {durableq.__version__}\n"


@pytest.mark.parametrize("words", [["--version", "--json"], ["--json", "--version"]])
def test_the_version_as_json_has_those_of_python_and_the_libraries(
    words: list[str], run: Run
) -> None:
    shown = run(*words)
    facts = shown.json
    assert (shown.code, shown.err, facts.pop("schema")) == (0, "", 1)
    assert (facts["version"], facts["python"]) == (durableq.__version__, platform.python_version())
    assert set(facts) == {
        *("version", "python", "implementation", "platform"),
        *("sqlite", "sqlite_module", "psycopg"),
    }
    assert facts["sqlite_module"] in {"pysqlite3", "sqlite3"}


def test_the_version_is_that_of_the_distribution() -> None:
    assert durableq.__version__ == metadata.version("durableq")


def test_an_unknown_command_is_a_usage_error_that_names_the_help(run: Run) -> None:
    shown = run("prodce")
    assert shown.code == 2
    assert shown.out == ""
    assert shown.err.startswith("durableq: No such command 'prodce'")
    assert shown.err.endswith("See `durableq --help`.\n")


def test_a_wrong_option_names_the_commands_own_help(run: Run) -> None:
    shown = run("queue", "create", "a", "--max-receive", "5")
    assert shown.code == 2
    assert "--max-receive" in shown.err
    assert "`durableq queue create --help`" in shown.err
