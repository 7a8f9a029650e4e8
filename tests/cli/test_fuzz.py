"""Every command and option with odd values ends in an exit code and sentences.

The commands and options are found in the command tree, so new ones are covered. Loops that would
run forever are cut: the tests are about arguments, not about loops.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durableq.cli import main
from durableq.cli.status import SAMPLE_SECONDS
from durableq.model.errors import Conflict
from durableq.model.text import visible
from tests.cli.console import Shop, environment, warm
from tests.cli.test_help import FOUND
from tests.support import scaled

CODES = set(range(7))
#: The exit code of `status --watch` and `events --follow`, interrupted as by Ctrl-C.
WATCHED = 130
LONGEST_LINE = 4_000
#: Odd values; none of them is a path outside the working directory.
ODD = [
    *("", " ", "-", "--", "---", "--no-such", "=", "@", "\t", "line\nbreak", "\r", "\x7f"),
    *("\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202egnp.exe\u2066", "\ufeff", "\u200b"),
    *("\udcff", "a\ud800", "é" * 300, "\u0301" * 200, "x" * 5_000, "a" * 256 + ".db", "[" * 200),
    *("[bold]", "[/x]", "[red", "\\[", "{0}", "%s", "%", "$(id)", "`id`", "'", '"', "\\", ";"),
    *("0", "-0", "-1", "1e400", "-1e400", "nan", "NaN", "inf", "-inf", "1_000", "0x10", "१२", "٣"),
    *("1e-400", "9" * 30, "1.5", "2147483648", "9223372036854775808", "1e18", "5M", "-1G", "true"),
    *("None", "null", "orders", "orders-dlq", "orders-dlq-dlq", "none", "1", "2", "b/../x", "a/b"),
    *(":", "a:", ":a", "a:b:c", "os:path", "os.path:", "a..b:c", ".a:b", "__main__", "\u00e9:x"),
    *("durableq.demo.app:dq", "durableq.demo.app", "durableq.demo.app:dq.x", "tests", "sys:exit"),
    *("sqlite://", "sqlite://[", "sqlite:///", "sqlite://[::1", "sqlite:///q.db?", "memory://"),
    *("sqlite:///q.db?synchronous=", "sqlite:///q.db?a=b&a=c", "memory://[", "x://", ":memory:"),
    *("sqlite:///%ff.db", "sqlite:///%", "sqlite:///q.db#x", "file:q.db", "/dev/null", "/", "."),
    *("~", "~nobody-of-this-name/x", "/proc/self/mem", "durableq.db", "durableq.db-wal"),
    *("in.jsonl", "rules.toml"),
]
text = st.text(st.characters(exclude_characters="\0/~"), max_size=20)
odd = st.sampled_from(ODD) | text
PLAUSIBLE = {
    "ids": "1",
    "message_id": "1",
    "task_id": "1",
    "key": "k",
    "name": "orders",
    "to": "copy.db",
    "backup": "durableq.db",
    "queue": "orders",
    "shell": "bash",
}


@pytest.fixture
def place(tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a database, a file of lines and one of rules; loops of commands are cut."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("DURABLEQ_DB", "DURABLEQ_APP"):
        monkeypatch.delenv(name, raising=False)
    shop = Shop(Path(shutil.copy2(fresh, tmp_path)))
    shop.bury("letter", key="k")
    shop.queue.send("ready", key="k2")
    shop.dq.close()
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "rules.toml").write_text('[[rule]]\nthen = "hold"\n')
    cut_loops(monkeypatch)
    return tmp_path


def cut_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command start processes, wait or repeat; import the demo's application anew."""
    # An earlier test may have opened the application on another database.
    monkeypatch.delitem(sys.modules, "durableq.demo.app", raising=False)
    from durableq.demo import traffic

    def refuse(*_: object, **__: object) -> Any:
        raise Conflict("It would run now.")

    for target in (
        *(
            "durableq.supervisor.supervisor.Supervisor.run",
            "durableq.recovery.process.Recovery.run",
            "durableq.metrics.serving.MetricsServer.serve",
        ),
        *(
            "durableq.demo.show.run",
            "durableq.demo.spike.run.run",
            "durableq.testing.chaos.run.run",
            "durableq.bench.fleet.measure",
            "durableq.bench.run.run",
            "durableq.runtime.http_server.listen",
            "durableq.metrics.serving.MetricsServer",
        ),
    ):
        monkeypatch.setattr(target, refuse)
    monkeypatch.setattr("durableq.dashboard.server.serve", lambda *_: None)
    monkeypatch.setattr("durableq.serve.server.serve", lambda *_, **__: None)

    def sleep(seconds: float) -> None:
        if seconds != SAMPLE_SECONDS:  # the loop of --watch, which ends with Ctrl-C
            raise KeyboardInterrupt

    monkeypatch.setattr("durableq.cli.status.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("durableq.cli.events.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("durableq.admin.redriving.time", SimpleNamespace(sleep=sleep))
    orders = traffic.orders
    monkeypatch.setattr(traffic, "orders", lambda *a: itertools.islice(orders(*a), 3))


def arguments(path: str, given: dict[str, str]) -> list[str]:
    """Return a command line with these values by name, and plausible ones where required."""
    words = path.split()
    positional = []
    for parameter in FOUND[path].params:
        option = parameter.opts[-1]
        name = str(parameter.name)
        if not option.startswith("-"):
            value = given.get(name, PLAUSIBLE.get(name) if parameter.required else None)
            positional += [] if value is None else [value]
        elif name in given:
            words.append(option if is_flag(parameter) else f"{option}={given[name]}")
    return [*words, *(["--"] if any(w.startswith("-") for w in positional) else []), *positional]


def is_flag(parameter: Any) -> bool:
    return parameter.opts[-1].startswith("-") and parameter.default is False


def judge(line: list[str], code: int, out: str, err: str, codes: set[int]) -> None:
    """Check the promises of every command about its outcome."""
    said = f"{line!r} ended with {code}: {err}"
    assert code in codes, said
    for word in ("defect", "Traceback", "Exception ignored"):
        assert word not in err, said
    assert code in {0, WATCHED} or err or out, f"{said} nothing"
    for told in (*err.splitlines(), *out.splitlines()):
        assert len(told) <= LONGEST_LINE or told in out, said
        assert visible(told) == told, said


def attempt(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = main(line)
    out, err = capsys.readouterr()
    watches = bool({"--watch", "-w", "--follow", "-f"} & set(line))
    judge(line, code, out, err, CODES | ({WATCHED} if watches else set()))


@pytest.mark.parametrize("path", sorted(FOUND))
def test_odd_values_end_in_a_sentence_and_an_exit_code(
    path: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(parameter.name) for parameter in FOUND[path].params]
    for name in names:
        attempt(arguments(path, {name: "\udcff"}), capsys)
    values = st.dictionaries(st.sampled_from(names), odd, min_size=1, max_size=3)

    @settings(
        max_examples=settings().max_examples // 10,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(values)
    def odd_values(given: dict[str, str]) -> None:
        attempt(arguments(path, given), capsys)

    odd_values()


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    words=st.lists(st.sampled_from([w for path in FOUND for w in path.split()]) | odd, max_size=5)
)
def test_any_words_end_in_a_sentence_and_an_exit_code(
    words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(words, capsys)


SAMPLE = [
    ["queue", "create", b"\xff"],
    ["peek", "--queue", b"\xff\x1b[31m"],
    ["produce", "in.jsonl", "--queue", b"\xe9"],
    ["idempotency", "get", b"\xff", "--queue", "orders"],
    ["once", "get", b"\xff"],
    ["dlq", "redrive", "--all", "--note", b"\xff"],
    ["work", "--app", b"\xff:dq"],
    ["recover", "--policy", b"\xff.toml", "--once"],
    ["doctor", "--db", b"\xff.db"],
    ["status", "--db", "sqlite://["],
    [b"\xff"],
]


@pytest.mark.parametrize("line", SAMPLE, ids=str)
def test_a_process_refuses_arguments_that_are_not_utf8(
    line: list[str | bytes], place: Path
) -> None:
    ended = subprocess.run(
        [*warm(), *line],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=scaled(60),
        check=False,
    )
    words = [os.fsdecode(word) for word in line]
    judge(words, ended.returncode, ended.stdout.decode(), ended.stderr.decode(), CODES - {0})
