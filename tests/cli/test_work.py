"""`work`: its arguments, its messages for people, and its JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.cli.console import Run, Shop, forked

APP = """
from durableq import DurableQ

dq = DurableQ()

@dq.handler("orders")
def handle(message):
    print("the handler prints", message.body)
    if message.body == "bad":
        raise ValueError("boom")
"""
OPTIONS = (
    *("--procs", "--threads", "--app", "--queue", "--exec", "--drain", "--timeout", "--grace"),
    *("--lambda", "--batch-size", "--batch-window", "--report-batch-item-failures"),
    *("--max-rss", "--max-messages", "--settle-window", "--start-timeout", "--db", "--json"),
)
EVENTS = {"started", "starting", "ready", "ended", "died"}


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "a_worker.py").write_text(APP)
    return "a_worker:dq"


def check_untouched(shop: Shop) -> None:
    messages = shop.store.peek("orders", 10)
    assert [message.receive_count for message in messages] == [0]
    assert shop.store.workers() == []


SECONDS = "a number of seconds above 0"
SIZE = "--max-rss is a size such as 500M or 2G"
LEAST = "greater than or equal to"
MOST = "less than or equal to"


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--procs", "0", LEAST),
        ("--procs", "-1", LEAST),
        ("--procs", "257", MOST),
        ("--threads", "0", LEAST),
        ("--threads", "-1", LEAST),
        ("--threads", "257", MOST),
        ("--threads", "two", "valid integer"),
        ("--grace", "0", SECONDS),
        ("--grace", "-1", SECONDS),
        ("--grace", "nan", MOST),
        ("--grace", "inf", MOST),
        ("--start-timeout", "0", SECONDS),
        ("--start-timeout", "nan", MOST),
        ("--timeout", "0", SECONDS),
        ("--timeout", "-0.5", SECONDS),
        ("--timeout", "nan", MOST),
        ("--max-rss", "lots", SIZE),
        ("--max-rss", "0", SIZE),
        ("--max-rss", "-1M", SIZE),
        ("--max-rss", "1.5G", SIZE),
        ("--max-messages", "0", LEAST),
        ("--settle-window", "-1", LEAST),
        ("--settle-window", "1001", MOST),
        ("--settle-window", "nan", MOST),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_before_any_message(
    run: Run, shop: Shop, app: str, option: str, value: str, why: str
) -> None:
    shop.queue.send("good")
    refused = run("work", "--drain", "--app", app, option, value)
    assert (refused.code, refused.out) == (2, "")
    assert option in refused.err
    assert why in refused.err
    assert refused.err.count("\n") == 1
    check_untouched(shop)


@pytest.mark.parametrize(
    ("command", "more", "code", "why"),
    [
        ("nowhere-at-all x", [], 2, "There is no program 'nowhere-at-all' that can be executed"),
        ("./not-executable", [], 2, "make it executable (chmod +x)"),
        (".", [], 2, "There is no program '.'"),
        ("echo 'open", [], 2, "cannot be read: No closing quotation"),
        ("", [], 2, "The command is empty"),
        ("  ", [], 2, "The command is empty"),
        ("true", ["--app", "a_worker:dq"], 2, "choose one"),
        ("true", ["--queue", "nope"], 3, "There is no queue 'nope'"),
        ("true", ["--db", "memory://"], 1, "name a file"),
        ("true", ["--db", "new.db"], 2, "has no queue yet"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_before_any_message(
    run: Run,
    shop: Shop,
    tmp_path: Path,
    app: str,
    command: str,
    more: list[str],
    code: int,
    why: str,
) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    shop.queue.send("good")
    refused = run("work", "--drain", "--exec", command, *more)
    assert (refused.code, refused.out) == (code, "")
    assert why in refused.err
    assert refused.err.count("\n") == 1
    check_untouched(shop)


def test_a_queue_that_is_named_twice_is_worked_once(shop: Shop, tmp_path: Path) -> None:
    shop.queue.send("good")
    twice = ("--queue", "orders", "--queue", "orders")
    worked = forked("work", "--drain", "--exec", "true", *twice, cwd=tmp_path)
    assert (worked.code, shop.queue.info().counters.completed) == (0, 1)


def test_help_names_every_option_and_exit_code(run: Run) -> None:
    shown = run("work", "--help").out
    assert [option for option in OPTIONS if option not in shown] == []
    for fact in ("SIGTERM", "SIGHUP", "Exit codes: 0", "130 or 143"):
        assert fact in shown


def test_as_json_each_event_is_a_line_with_a_stable_name_and_prints_stay_on_stderr(
    shop: Shop, tmp_path: Path, app: str
) -> None:
    shop.queue.send_many(["good", "bad"])
    worked = forked("work", "--app", app, "--drain", "--procs", 2, "--json", cwd=tmp_path)
    assert worked.code == 0
    *events, summary = [json.loads(line) for line in worked.lines]
    assert (summary["event"], summary["completed"]) == ("fleet_summary", 1)
    for event in events:
        assert list(event) == ["schema", "event", "text", "worker", "pid"]
        assert event["event"] in EVENTS
        assert event["text"].startswith(f"{event['worker']} (pid {event['pid']}) ")
    for name in ("worker-1", "worker-2"):
        of_it = [event["event"] for event in events if event["worker"] == name]
        assert (of_it[0], of_it[-1]) == ("started", "ended")
    assert "the handler prints good" in worked.err
    assert "failed at receive 1: ValueError: boom; moved to the dead-letter queue" in worked.err


def test_without_json_stdout_stays_empty(tmp_path: Path) -> None:
    with DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send(1, key="k")
    worked = forked("work", "--drain", "--exec", "echo '{}'", cwd=tmp_path)
    assert (worked.code, worked.out) == (0, "")
    assert " INFO worker-1: 1 handled, 0 failed, in " in worked.err
    *told, summary = [line for line in worked.err.splitlines() if " INFO supervisor: " in line]
    assert "drained in " in summary
    assert [line.split(") ")[1] for line in told if "receives" not in line] == [
        "started",
        "ended: drained",
    ]
