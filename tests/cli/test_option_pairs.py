"""Every pair of options of every command works together, or is refused by both names.

Commands and options are found in the command tree, so a new option has to be given values here,
and is combined with all others. Loops that would run forever are cut, as in test_fuzz.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from durableq.cli import main
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.model.message import Reason
from durableq.supervisor.liveness import this_process
from tests.cli.console import Result, Shop
from tests.cli.test_fuzz import CODES, WATCHED, cut_loops, is_flag, judge
from tests.cli.test_help import FOUND

Attempt = Callable[[list[str]], Result]

#: Exit codes of success: 0, unhealthy, a cut watch, and a conflict for a fleet that would start.
RUNS = {0, 5, 6, WATCHED}
#: A sensible and a bad value by parameter name. All other parameters are numbers.
VALUES = {
    "after": ("1", "x"),
    "at": ("2027-01-31T09:00", "tomorrow"),
    "allow_host": ("shop.example", "a b"),
    "app": ("durableq.demo.app:dq", "no_such_module:dq"),
    "backup": ("copy.db", "missing.db"),
    "backup_dir": (".", "missing"),
    "breaker": ("on", "maybe"),
    "breaker_open_max": ("60", "never"),
    "breaker_share": ("0.5", "half"),
    "bury_at": ("receive", "never"),
    "dead_letter_queue": ("orders-dlq", "none"),
    "command": ("true", "'"),
    "db": ("durableq.db", "sqlite://["),
    "error_type": ("Exception", ""),
    "expires_in": ("60", "never"),
    "function": ("json:dumps", "no_such_module:handler"),
    "file": ("in.jsonl", "missing.jsonl"),
    "group": ("0123456789ab", ""),
    "group_field": ("body", ""),
    "group_on_dead": ("hold", "wait"),
    "host": ("localhost", "a b"),
    "ids": ("1", "999"),
    "key": ("k", "\udcff"),
    "keys_file": ("keys", "missing"),
    "kind": ("failed", "boredom"),
    "key_field": ("body", ""),
    "listen": ("127.0.0.1:0", "nowhere"),
    "log_format": ("json", "xml"),
    "log_level": ("debug", "loud"),
    "max_age": ("5m", "soon"),
    "max_rss": ("500M", "much"),
    "message_id": ("1", "999"),
    "task_id": ("1", "999"),
    "metrics": ("127.0.0.1:0", "nowhere"),
    "name": ("orders", "a b"),
    "names": ("orders", "none"),
    "note": ("because", "\udcff"),
    "on_expiry": ("dead", "keep"),
    "on_full": ("shed", "explode"),
    "policy": ("rules.toml", "missing.toml"),
    "port": ("0", "never"),
    "queue": ("orders", "none"),
    "redact": ("card", ""),
    "rules": ("rules.toml", "missing.toml"),
    "reason": (Reason.HANDLER_ERROR.value, "boredom"),
    "retry_share": ("0.5", "half"),
    "shell": ("bash", "sh"),
    "since": ("5m", "soon"),
    "state": ("delayed", "dead"),
    "text": ("b", "\udcff"),
    "textfile": ("new.prom", "new.txt"),
    "to": ("orders", "none"),
    "token_file": ("tokens", "missing"),
    "trust_header": ("X-User", "a b"),
}
NUMBER = ("2", "never")
SMALL = {"every": "0.5", "duplicates": "0.25"}
OF_COMMAND = {
    ("bench flow", "plot"): ("new.svg", "durableq.db"),
    ("bench flow", "rows"): ("flow", "none"),
    ("bench flow", "synchronous"): ("full", "loud"),
    ("bench serve", "plot"): ("new.svg", "durableq.db"),
    ("bench serve", "rows"): ("serve", "none"),
    ("bench serve", "synchronous"): ("full", "loud"),
    ("backup", "to"): ("new.db", "durableq.db"),
    ("metrics", "listen"): ("127.0.0.1:0", "nowhere"),
    ("metrics", "textfile"): ("new.prom", "new.txt"),
    ("chaos", "db"): ("new.db", "sqlite://["),
    ("demo", "db"): ("new.db", "sqlite://["),
    ("idempotency list", "after"): ("k", "\udcff"),
    ("once list", "after"): ("k", "\udcff"),
    ("queue create", "name"): ("mail", "a b"),
    ("lint", "target"): ("postgres", "mongo"),
    ("restore", "db"): ("new.db", "sqlite://["),
    ("worker drain", "name"): ("worker-1:7", "worker-9:9"),
    **{
        (f"schedule {verb}", "name"): ("tick", "nightly")
        for verb in ("show", "pause", "resume", "run", "remove")
    },
    ("transfer", "source"): ("durableq.db", "sqlite://["),
    ("transfer", "to"): ("new.db", "sqlite://["),
}
FILTERS = ("queue", "reason", "error_type", "group", "older_than")
CHOICES = {"ids", "all_", *FILTERS}
#: Options without which a command asks a question, or has nothing to do.
ALWAYS = {
    "dlq discard": {"yes"},
    "message cancel": {"yes"},
    "queue delete": {"yes", "force"},
    "queue purge": {"yes"},
    "queue set": {"max_receives"},
    "restore": {"db"},
}
LIMITS = {
    "burst": "rate",
    "group_burst": "group_rate",
    **dict.fromkeys(("group_rate", "group_on_dead"), "group_concurrency"),
}
#: Options that have no effect without another.
NEEDS = {
    "demo": {"unprotected": "spike"},
    "produce": {
        "max_bad": "skip_bad",
        **dict.fromkeys(
            (
                "envelope",
                "raw",
                "key_field",
                "group_field",
                "skip_bad",
                "expires_in",
            ),
            "file",
        ),
    },
    "queue create": LIMITS,
    "queue set": LIMITS,
    "restore": {"yes": "replace"},
    "status": {"every": "watch"},
    "work": dict.fromkeys(("batch_size", "batch_window", "report_failures"), "function"),
}
#: Options that contradict each other.
EXCLUDED = {
    "chaos": [("postgres", "db")],
    "dashboard": [("token_file", "trust_header"), ("read_only", "backup_dir")],
    "demo": [("spike", "seed")],
    "dlq discard": [
        *(("ids", name) for name in ("all_", *FILTERS)),
        *(("all_", name) for name in FILTERS),
    ],
    "dlq explain": [("policy", "app")],
    **{
        path: [("name", "queue")] for path in ("peek", "dlq list", "dlq groups", "idempotency list")
    },
    "dlq redrive": [
        *(("ids", name) for name in ("all_", "to", "rate", *FILTERS)),
        *(("all_", name) for name in FILTERS),
    ],
    "message reschedule": [("delay", "at")],
    "produce": [
        *(("file", name) for name in ("count", "duplicates", "seed")),
        *(("envelope", name) for name in ("key_field", "group_field", "raw")),
    ],
    "events": [("since", "limit")],
    "metrics": [("textfile", "listen")],
    "recover": [("policy", "app"), ("dry_run", "rate")],
    "serve": [("token_file", "trust_header")],
    "show": [("raw", "body"), ("raw", "as_json")],
    "transfer": [("dry_run", "abort")],
    "work": [
        ("command", "app"),
        *(("function", name) for name in ("app", "command", "threads")),
    ],
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a database that gives every command something to do."""
    place = tmp_path_factory.mktemp("template")
    shop = Shop(place / "durableq.db")
    assert shop.bury("letter") == VALUES["ids"][0]
    shop.complete("done", key="k")
    shop.dq.once("k", lambda: 1, ttl=86_400)
    shop.dq.every("@daily", "tick", queue="orders")
    shop.queue.send("ready", key="k2")
    shop.dq.close()
    shutil.copy2(shop.path, place / "copy.db")
    (place / "in.jsonl").write_text('{"body": 1}\n')
    (place / "keys").write_text("AKIDEXAMPLE a-secret\n")
    (place / "tokens").write_text("a-token-of-sixteen-characters\n")
    (place / "rules.toml").write_text('[[rule]]\nthen = "hold"\n')
    return place


@pytest.fixture
def attempt(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Attempt:
    """Run a command line in a fresh copy of the template; it keeps every command's promises."""
    for name in ("DURABLEQ_DB", "DURABLEQ_APP"):
        monkeypatch.delenv(name, raising=False)
    cut_loops(monkeypatch)
    numbers = itertools.count()

    def run(line: list[str]) -> Result:
        monkeypatch.chdir(shutil.copytree(template, tmp_path / str(next(numbers))))
        if line[:2] in (["dlq", "resume"], ["dlq", "set"], ["dlq", "cancel"]):
            leave_a_move_running()
        if line[:2] == ["worker", "drain"]:
            register_this_process()
        capsys.readouterr()
        with patch.dict(os.environ):  # --lambda sets those of a function
            code = main(line)
        out, err = capsys.readouterr()
        judge(line, code, out, err, CODES | {WATCHED})
        return Result(code, out, err)

    return run


def register_this_process() -> None:
    shop = Shop(Path("durableq.db"))
    shop.store.register(this_process("worker-1:7"))
    shop.dq.close()


def leave_a_move_running() -> None:
    shop = Shop(Path("durableq.db"))
    shop.store.start_redrive(DeadLetterFilter("orders"), Requeue(), actor="a test")
    shop.dq.close()


def options(path: str) -> dict[str, Any]:
    return {str(p.name): p for p in FOUND[path].params}


def values(path: str, name: str) -> tuple[str, str]:
    """Return a sensible value of an option, and a bad one."""
    found = OF_COMMAND.get((path, name)) or VALUES.get(name)
    return found or (SMALL.get(name, NUMBER[0]), NUMBER[1])


def line_of(path: str, names: Set[str], *, bad: str | None = None) -> list[str]:
    """Return a command line with these options and all required ones."""
    words, positional = path.split(), []
    for name, parameter in options(path).items():
        if name not in names and not parameter.required:
            continue
        value = values(path, name)[name == bad]
        option = parameter.opts[-1]
        if not option.startswith("-"):
            positional.append(value)
        else:
            words.append(option if is_flag(parameter) else f"{option}={value}")
    return [*words, *positional]


def completed(path: str, names: Set[str]) -> set[str]:
    """Return these options with those that they need."""
    found = {*names, *ALWAYS.get(path, ())}
    for name, needed in NEEDS.get(path, {}).items():
        if name in found:
            found.add(needed)
    if path in {"dlq redrive", "dlq discard"} and not found & CHOICES:
        found.add("all_")
    if path == "message reschedule" and not found & {"delay", "at"}:
        found.add("delay")
    return found | ({"yes"} if path == "restore" and "replace" in found else set())


def excluded(path: str, names: Set[str]) -> list[tuple[str, str]]:
    """Return the pairs of these options that contradict each other."""
    return [pair for pair in EXCLUDED.get(path, []) if names >= set(pair)]


def shown_name(path: str, name: str) -> str:
    """Return the name of an option or argument as sentences show it."""
    option = str(options(path)[name].opts[-1])
    return (
        option if option.startswith("-") else {"ids": "ids", "file": "FILE", "name": "QUEUE"}[name]
    )


def assert_refused(path: str, ended: Result, *names: str) -> None:
    assert (ended.code, ended.out) == (2, ""), ended
    for name in names:
        # The settings of a queue have the same names in Python.
        is_setting = path in {"queue create", "queue set"}
        assert (name if is_setting else shown_name(path, name)) in ended.err, ended.err


def optional(path: str) -> Iterator[str]:
    return (name for name, parameter in options(path).items() if not parameter.required)


def sets(path: str) -> Iterator[frozenset[str]]:
    """Yield no option, each alone, and sets that contain every pair of compatible options."""
    names = list(optional(path))
    for few in ((), *((name,) for name in names)):
        yield frozenset(completed(path, set(few)))
    left = {frozenset(pair) for pair in itertools.combinations(names, 2)}
    while left:
        wanted = completed(path, min(left, key=sorted))
        left.discard(min(left, key=sorted))
        if excluded(path, wanted):
            continue
        for name in names:
            more = completed(path, wanted | {name})
            wanted = wanted if excluded(path, more) else more
        left = {pair for pair in left if not pair <= wanted}
        yield frozenset(wanted)


@pytest.mark.parametrize("path", sorted(FOUND))
def test_options_that_do_not_contradict_work_together(path: str, attempt: Attempt) -> None:
    for names in dict.fromkeys(sets(path)):
        ended = attempt(line_of(path, names))
        assert ended.code in RUNS, f"{line_of(path, names)}: {ended}"


@pytest.mark.parametrize("path", sorted(EXCLUDED))
def test_options_that_contradict_are_refused_by_name(path: str, attempt: Attempt) -> None:
    for pair in EXCLUDED[path]:
        assert_refused(path, attempt(line_of(path, completed(path, set(pair)))), *pair)


@pytest.mark.parametrize("path", sorted(NEEDS))
def test_an_option_that_has_no_effect_without_another_is_refused(
    path: str, attempt: Attempt
) -> None:
    for name, needed in NEEDS[path].items():
        names = {name, *ALWAYS.get(path, ())}
        assert_refused(path, attempt(line_of(path, names)), name, needed)


@pytest.mark.parametrize("path", sorted(FOUND))
def test_a_bad_value_is_refused(path: str, attempt: Attempt) -> None:
    for name, parameter in options(path).items():
        if not is_flag(parameter):
            names = completed(path, {name})
            ended = attempt(line_of(path, names, bad=name))
            assert ended.code in {1, 2, 3, 5}, f"{line_of(path, names, bad=name)}: {ended}"
            assert ended.said.startswith("durableq: "), ended


@pytest.mark.parametrize("line", [["--db=new.db", "bench"], ["bench", "--db=new.db"]])
def test_a_database_is_no_option_of_a_command_that_makes_its_own(
    line: list[str], attempt: Attempt
) -> None:
    ended = attempt([*line, "fleet"])
    assert (ended.code, ended.out) == (2, "")
    assert "leave out --db" in ended.err
