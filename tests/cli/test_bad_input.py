"""Bad input of every kind ends in a sentence and an exit code, and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.cli.console import forked, process

GOOD = b'{"a": 1}\n'


def sent(folder: Path) -> int:
    with DurableQ(folder / "durableq.db") as dq:
        counters = dq.queue("orders").info().counters
    return counters.sent


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json\n", "it is not JSON"),
        (b"\xff\xfe\n", "it is not UTF-8"),
        (b'{"a": NaN}\n', "NaN is not a JSON number"),
        (b"[" * 100_000 + b"]" * 100_000 + b"\n", "nested too deep"),
        (b"[" * 300 + b"]" * 300 + b"\n", "nested more than 200 levels deep"),
        (b'"\\ud800"\n', "lone surrogate (U+D800)"),
        (b'"' + b"x" * (1 << 20) + b'"\n', "at most 1048576"),
    ],
    ids=["not JSON", "not UTF-8", "NaN", "far too deep", "too deep", "surrogate", "too large"],
)
def test_a_bad_line_is_named_and_earlier_messages_stay_sent(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(GOOD + GOOD + line + GOOD)
    stopped = forked("produce", "in.jsonl", cwd=tmp_path)
    assert stopped.code == 1
    assert "Line 3: " in stopped.err
    assert reason in stopped.err
    assert "2 messages were sent before it and stay sent" in stopped.err
    assert sent(tmp_path) == 2
    skipped = forked("produce", "-", "--skip-bad", "--json", cwd=tmp_path, stdin=line + GOOD)
    assert skipped.code == 0
    summary = skipped.json
    assert (summary["sent"], summary["skipped"]) == (1, 1)
    assert sent(tmp_path) == 3


def test_an_empty_file_sends_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    done = process("produce", "in.jsonl", cwd=tmp_path)
    assert (done.code, "Nothing to send" in done.err) == (0, True)


APPS = {
    "broken": "x = 1 / 0\n",
    "empty": "from durableq import DurableQ\ndq = DurableQ()\n",
    "other": "dq = 7\n",
}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["produce", "in.jsonl", "--queue", "nope"], 3, "There is no queue 'nope'"),
        (["produce", "missing.jsonl"], 1, "missing.jsonl cannot be read"),
        (["produce", "--count", "-1"], 2, "--count"),
        (["work", "--app", "nowhere:dq"], 1, "There is no module 'nowhere'"),
        (["work", "--app", "broken:dq"], 1, "broken.py, line 1): ZeroDivisionError"),
        (["work", "--app", "empty:dq"], 1, "holds no handler"),
        (["work", "--app", "other:dq"], 1, "is a int, not a DurableQ"),
        (["work", "--queue", "nope"], 1, "No handler for queue 'nope'"),
        (["work", "--procs", "0"], 2, "--procs"),
        (["recover", "--app", "empty:dq"], 1, "no recovery policy"),
        (["status", "--db", "folder"], 1, "is a directory"),
        (["show", "9" * 30], 3, "There is no message"),
        (["dlq", "show", "1"], 3, "There is no dead letter 1"),
        (["queue", "purge", "orders"], 2, "--yes"),
        (["queue", "delete", "orders", "--yes"], 5, "still holds messages"),
        (["queue", "create", "a b"], 2, "A queue's name has"),
        (["frobnicate"], 2, "frobnicate"),
        (["stauts"], 2, "Did you mean 'status'? See `durableq --help`."),
    ],
)
def test_each_mistake_has_its_sentence_and_exit_code(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.jsonl").write_bytes(GOOD)
    for name, source in APPS.items():
        (tmp_path / f"{name}.py").write_text(source)
    with DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send("kept")
    done = forked(*arguments, cwd=tmp_path)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    with DurableQ(tmp_path / "durableq.db") as dq:
        info = dq.queue("orders").info()
    assert (info.counts.ready, info.counters.sent) == (1, 1)


def test_produce_work_and_recover_agree_on_everything_without_arguments(tmp_path: Path) -> None:
    assert forked("produce", "--count", "40", cwd=tmp_path).code == 0
    worked = process("work", "--procs", "2", "--drain", cwd=tmp_path)
    recovered = forked("recover", "--once", cwd=tmp_path)
    for done in (worked, recovered):
        assert done.code == 0
        assert "No application is named: this is the demo's." in done.err
    assert forked("work", "--procs", "1", "--drain", cwd=tmp_path).code == 0
    status = forked("--json", "status", cwd=tmp_path).json
    assert status
    assert sent(tmp_path) == 40
    with DurableQ(tmp_path / "durableq.db") as dq:
        assert all(
            info.counters.expected == info.counts.present
            for info in dq.store.require(Capability.INSPECT).queues()
        )
        assert dq.queue("orders").info().counters.completed > 20


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["peek"],
        ["queue", "list"],
        ["dlq", "list"],
        ["idempotency", "list"],
        ["show", "1"],
        ["recover", "--dry-run"],
        ["init"],
        ["migrate"],
    ],
    ids=" ".join,
)
def test_every_answer_can_be_had_as_json(tmp_path: Path, command: list[str]) -> None:
    with DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send({"a": "\x1b[31m\u202e"}, key="k")
    done = forked(*command, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    is_list = command[-1] in {"peek", "list", "--dry-run"}
    for document in done.out.splitlines() if is_list else [done.out]:
        assert json.loads(document)["schema"] == 1
    assert "\x1b" not in done.out
    plain = forked(*command, cwd=tmp_path)
    assert "\x1b" not in plain.out
    assert "\u202e" not in plain.out
