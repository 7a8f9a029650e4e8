"""`work --exec`: a command per message, and the meaning of its exit code, output and end."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from durableq import Delivery, DurableQ, Queue
from durableq.worker.command import Command, application, parse
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, runs
from tests.support import new_file, wait_for


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(new_file(db)) as dq:
        queue = dq.queue("orders", max_receives=1, backoff_base=0)
        dq.init()
        yield queue


def work(queue: Queue, *command: str, timeout_ms: int = 0) -> None:
    """Run one worker, in this process, until nothing is left."""
    url = queue._app.url
    app = application(["orders"], Command(command, timeout_ms), url)
    Worker(app, WorkerOptions("", url, "worker", drain=True)).run()
    app.close()


def sh(queue: Queue, script: str) -> None:
    work(queue, "/bin/sh", "-c", script)


def failures(db: Path) -> list[Any]:
    told = "reason, error_type, error_message"
    return plain.rows(db, f"SELECT {told} FROM durableq_history WHERE event = 'failed'")


# ---- input of the command


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ({"n": [1, "é"]}, '{"n":[1,"é"]}'.encode()),
        (b"\x00\xff raw", b"\x00\xff raw"),
        ("", b'""'),
        (b"", b""),
    ],
    ids=["JSON", "bytes", "an empty string", "no bytes"],
)
def test_the_body_is_its_stdin(orders: Queue, tmp_path: Path, body: Any, given: bytes) -> None:
    orders.send(body)
    sh(orders, f"cat > {tmp_path}/given")
    assert (tmp_path / "given").read_bytes() == given


def test_everything_else_is_in_its_environment(orders: Queue, tmp_path: Path) -> None:
    attributes: dict[str, str | int | float] = {"a": "x\0\ny", "n": 1}
    sent = orders.send({}, key="a\0b", attributes=attributes, priority=7)
    sh(orders, f"env -0 > {tmp_path}/given")
    pairs = (tmp_path / "given").read_text().rstrip("\0").split("\0")
    given = dict(pair.split("=", maxsplit=1) for pair in pairs)
    assert json.loads(given["DURABLEQ_ATTRIBUTES"]) == attributes
    assert int(given["DURABLEQ_SENT_AT_MS"]) > 1_600_000_000_000
    expected = {
        "MESSAGE_ID": sent,
        "QUEUE": "orders",
        "KEY": "a\\0b",
        "PRIORITY": "7",
        "RECEIVE_COUNT": "1",
        "RECOVERY_COUNT": "0",
    }
    assert {name: given[f"DURABLEQ_{name}"] for name in expected} == expected


# ---- end of the command


@pytest.mark.parametrize(
    ("printed", "result"),
    [
        ('{"paid": 12}\n', '{"paid":12}'),
        ("done\n", None),
        ("", None),
        ("null", None),
        ("NaN", None),
        ('"\\ud800"', None),
        ("[" * 2000 + "]" * 2000, None),
        ('"' + "x" * (2 << 20) + '"', None),
        ("\x1b[31m\xff", None),
    ],
    ids=["JSON", "text", "nothing", "null", "NaN", "surrogate", "deep", "large", "control"],
)
def test_exit_code_0_completes_with_the_json_it_printed(
    orders: Queue, tmp_path: Path, printed: str, result: str | None
) -> None:
    (tmp_path / "printed").write_text(printed)
    orders.send({}, key="k")
    work(orders, "/bin/cat", str(tmp_path / "printed"))
    record = orders.record("k")
    assert record is not None
    assert (orders.info().counters.completed, record.result) == (1, result)
    orders.send({}, key="k")
    (duplicate,) = orders._app.store.receive("orders", 1).duplicates
    assert duplicate.result == result


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("1" * 5000, "a number of thousands of digits"),
        ("0.1234567890123456789", "no double holds it"),
        ('"\\ud800"', "a lone surrogate"),
        ('"' + "x" * (2 << 20) + '"', "a result has at most"),
    ],
    ids=["a name twice", "NaN", "huge", "inexact", "surrogate", "large"],
)
def test_json_that_cannot_be_kept_is_shown_and_the_log_says_why(
    orders: Queue,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    printed: str,
    why: str,
) -> None:
    (tmp_path / "printed").write_text(printed)
    orders.send({}, key="k")
    work(orders, "/bin/cat", str(tmp_path / "printed"))
    record = orders.record("k")
    assert record is not None
    assert (orders.info().counters.completed, record.result) == (1, None)
    assert why in caplog.text
    assert "so it is shown and not kept" in caplog.text
    assert capsys.readouterr().err.strip() == printed[-(64 << 10) :]


@pytest.mark.parametrize(
    ("script", "story"),
    [
        ("echo no; echo why >&2; echo bad order >&2; exit 65", ("rejected", "Reject", "bad order")),
        ("exit 65", ("rejected", "Reject", "exit code 65")),
        ("echo bank is down >&2; exit 69", ("unavailable", "Unavailable", "bank is down")),
        ("echo first >&2; echo last >&2; exit 3", ("handler_error", "exit code 3", "last")),
        (
            "printf 'a\\033m\\377' >&2; exit 1",
            ("handler_error", "exit code 1", "a\x1bm\\xff"),
        ),
        ("kill -SEGV $$", ("handler_error", "SIGSEGV", "")),
        ("kill -40 $$", ("handler_error", "signal 40", "")),
    ],
    ids=[
        "rejected",
        "rejected, silent",
        "unavailable",
        "failed",
        "control characters",
        "signal",
        "real-time",
    ],
)
def test_any_other_end_fails_the_message_and_its_history_says_why(
    orders: Queue, db: Path, script: str, story: tuple[str, str, str]
) -> None:
    orders.send({})
    sh(orders, script)
    assert failures(db) == [story]
    assert orders._app.queue("orders-dlq").info().counts.ready == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [("kill -SEGV $$", "SIGSEGV"), ("sleep 60", "the handler ran too long and was stopped")],
)
def test_the_log_leaves_out_unknown_parts_of_its_end(
    orders: Queue, caplog: pytest.LogCaptureFixture, script: str, said: str
) -> None:
    orders.send({})
    work(orders, "/bin/sh", "-c", script, timeout_ms=500)
    assert f" failed at receive 1: {said}; moved to the dead-letter queue" in caplog.text


def test_the_tail_of_its_stderr_is_kept_in_history(orders: Queue, db: Path) -> None:
    orders.send({})
    script = "import sys; print('x' * (5 << 20), file=sys.stderr); sys.exit('the end of it')"
    work(orders, sys.executable, "-c", script)
    trace = plain.one(db, "SELECT traceback FROM durableq_history WHERE event = 'failed'")
    assert trace.startswith("x")
    assert trace.endswith("the end of it\n")
    assert len(trace) < 1 << 17


def test_a_program_that_is_gone_fails_the_message(orders: Queue, db: Path) -> None:
    orders.send({})
    work(orders, "/nowhere/at-all")
    assert failures(db)[0][:2] == ("handler_error", "FileNotFoundError")


def test_a_body_that_cannot_be_read_is_not_given_to_it(
    orders: Queue, db: Path, tmp_path: Path
) -> None:
    orders.send("bad")
    orders.send("good")
    plain.script(db, "UPDATE durableq_message SET body = '{cut' WHERE id = 1")
    sh(orders, f"cat >> {tmp_path}/given")
    assert (tmp_path / "given").read_text() == '"good"'
    assert [reason for reason, *_ in failures(db)] == ["undecodable"]
    assert plain.column(db, "SELECT body FROM durableq_message") == ["{cut"]


def test_a_process_that_it_leaves_running_blocks_no_worker(
    orders: Queue, db: Path, tmp_path: Path
) -> None:
    orders.send({}, key="k")
    sh(orders, f"sleep 600 & echo $! > {tmp_path}/left; echo 1")
    left = int((tmp_path / "left").read_text())
    assert runs(psutil.Process(left)), "it is the command's own affair"
    psutil.Process(left).kill()
    record = orders.record("k")
    assert record is not None
    assert record.result == "1"


def test_it_hears_every_signal(orders: Queue, tmp_path: Path, db: Path, nursery: Nursery) -> None:
    orders.send({})
    fleet = nursery.work("--db", db, "--drain", "--exec", f"cp /proc/self/status {tmp_path}/it")
    assert fleet.end() == 0
    (ignored,) = (
        line.split()[1]
        for line in (tmp_path / "it").read_text().splitlines()
        if line.startswith("SigIgn")
    )
    deaf = {number for number in signal.Signals if int(ignored, 16) & (1 << (number - 1))}
    assert not deaf & {signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE}


# ---- stopping it

STAY = """
import os, pathlib, signal, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
ledger = pathlib.Path(sys.argv[1])
with ledger.open("a") as lines:
    lines.write(f"began {os.environ['DURABLEQ_MESSAGE_ID']} {os.getpid()}\\n")
    lines.write(f"child {os.environ['DURABLEQ_MESSAGE_ID']} {child.pid}\\n")
if os.environ["DURABLEQ_RECEIVE_COUNT"] == "1":
    signal.pause()
child.kill()
"""


@pytest.fixture
def stay(tmp_path: Path, ledger: Ledger) -> str:
    """A command that stays at its first try, with a child of its own."""
    (tmp_path / "stay.py").write_text(STAY)
    return f"{sys.executable} {tmp_path}/stay.py {ledger.path}"


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or not runs(psutil.Process(pid))


def wait_gone(ledger: Ledger) -> None:
    for pid in ledger.pids("began") + ledger.pids("child"):
        wait_for(lambda pid=pid: is_gone(pid), what=f"{pid} to be gone")  # type: ignore[misc]


def test_its_whole_group_is_killed_when_its_time_is_over_and_the_worker_stays(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, stay: str
) -> None:
    orders._app.queue("orders", max_receives=1000)
    orders.send({})
    fleet = nursery.work("--db", db, "--drain", "--exec", stay, "--timeout", 1)
    assert fleet.end() == 0
    assert {reason for reason, *_ in failures(db)} == {"timeout"}
    assert "failed at receive 1: the handler ran too long" in fleet.complaints
    assert orders.info().counters.completed == 1
    assert fleet.complaints.count(") started") == 1
    wait_gone(ledger)


def test_it_does_not_outlive_a_killed_worker(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, stay: str
) -> None:
    orders._app.queue("orders", max_receives=2)
    orders.send({})
    fleet = nursery.work("--db", db, "--drain", "--exec", stay)
    fleet.wait_until(lambda: ledger.lines("child"), "the command to run")
    (worker,) = psutil.Process(fleet.pid).children()
    worker.kill()
    assert fleet.end() == 0
    assert failures(db)[0][:2] == ("worker_lost", "SIGKILL")
    assert len(ledger.lines("began")) == 2
    wait_gone(ledger)


def test_it_does_not_outlive_the_grace(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, stay: str
) -> None:
    orders.send({})
    fleet = nursery.work("--db", db, "--exec", stay, "--grace", 0.3)
    fleet.wait_until(lambda: ledger.lines("child"), "the command to run")
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 128 + signal.SIGTERM
    assert plain.rows(db, "SELECT state, receive_count FROM durableq_message") == [(0, 0)]
    wait_gone(ledger)


# ---- a fleet of them


def test_a_shell_script_works_with_many_at_a_time(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, tmp_path: Path
) -> None:
    script = tmp_path / "handle order.sh"
    script.write_text(f'#!/bin/sh\necho "done $DURABLEQ_KEY $$" >> {ledger.path}\ncat\n')
    script.chmod(0o755)
    for number in range(20):
        orders.send({"n": number}, key=f"k{number}")
    given = ["--db", db, "--drain", "--procs", 2, "--threads", 4]
    assert nursery.work(*given, "--exec", f"'{script}'").end() == 0
    assert Counter(line.of for line in ledger.lines("done")) == Counter(
        f"k{number}" for number in range(20)
    )
    results = plain.column(db, "SELECT result FROM durableq_idempotency ORDER BY result")
    assert sorted(results) == sorted(f'{{"n":{number}}}' for number in range(20))
    plain.check_sound(db)


def test_a_command_line_is_split_as_a_shell_would() -> None:
    assert parse("sh -c 'a  b' \"c d\" e\\ f")[1:] == ("-c", "a  b", "c d", "e f")


def test_a_command_is_a_handler_like_any_other(orders: Queue) -> None:
    orders.send({"n": 1})
    (message,) = orders.receive()
    assert isinstance(message, Delivery)
    assert Command(["/bin/cat"], 0)(message) == {"n": 1}
