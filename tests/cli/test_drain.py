"""`work --drain`: its progress and its summary."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import Busy
from durableq.cli import drain
from durableq.cli.drain import Counting
from durableq.model.message import Failure, Reason
from durableq.supervisor.supervisor import SupervisorEvent
from tests.cli.console import COMMAND, Shop, environment, forked
from tests.cli.terminals import Terminal
from tests.support import scaled, wait_for

APP = """
import os, time
from durableq import DurableQ, Reject

dq = DurableQ()

@dq.handler("orders")
def handle(message):
    print("handling", message.body)
    while os.path.exists("wait") and message.body == "slow":
        time.sleep(0.01)
    if message.body == "bad":
        raise Reject("no such order")
"""

Told = list[tuple[SupervisorEvent, dict[str, Any]]]


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "a_worker.py").write_text(APP)
    return "a_worker:dq"


@pytest.fixture
def told() -> Told:
    """The events that were reported."""
    return []


def fill(shop: Shop) -> None:
    """Store three that succeed, one of them twice, and one that dies."""
    shop.queue.send_many([1, 2])
    for _ in range(2):
        shop.queue.send(3, key="k")
    shop.queue.send("bad")


SUMMARY = {"completed": 3, "failed": 1, "dead": 1, "duplicates": 1, "left": 0, "blocked": 0}
WORDS = " s: 3 completed, 1 failed, 1 dead, 1 duplicates skipped"


def test_a_drained_fleet_ends_with_a_summary(shop: Shop, app: str, tmp_path: Path) -> None:
    fill(shop)
    ended = forked("work", "--drain", "--app", app, cwd=tmp_path)
    assert (ended.code, ended.out) == (0, "")
    last = ended.err.splitlines()[-1]
    assert " INFO supervisor: drained in " in last
    assert last.endswith(WORDS)


@pytest.mark.parametrize("form", ["--json", "--log-format=json"])
def test_the_summary_has_its_numbers_in_json(
    form: str, shop: Shop, app: str, tmp_path: Path
) -> None:
    fill(shop)
    ended = forked("work", "--drain", "--app", app, form, cwd=tmp_path)
    lines = (ended.out if form == "--json" else ended.err).splitlines()
    (summary,) = [one for one in map(json.loads, lines) if one["event"] == "fleet_summary"]
    assert {name: summary[name] for name in SUMMARY} == SUMMARY
    assert summary["seconds"] > 0
    assert summary["text"].endswith(WORDS)


def test_a_fleet_that_does_not_drain_has_no_such_summary(
    shop: Shop, app: str, tmp_path: Path
) -> None:
    shop.queue.send_many([1, 2])
    command = [*COMMAND, "work", "--app", app, "--max-messages", "2"]
    fleet = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment()
    )
    wait_for(lambda: shop.queue.info().counters.completed == 2, seconds=30)
    fleet.send_signal(signal.SIGTERM)
    _, said = fleet.communicate(timeout=scaled(60))
    assert "drained" not in said
    assert "2 handled, 0 failed, in " in said, "the worker's own line"


class Line:
    """A live line that remembers."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)

    def end(self) -> None:
        self.shown.append("")


def test_the_progress_has_the_numbers_done_and_left_the_rate_and_the_time_to_go(shop: Shop) -> None:
    shop.queue.send_many(range(1_200))
    counting = Counting(shop.store, ["orders"])
    progress = drain._Progress(counting, lambda *_, **__: None, None)
    began_at, _ = progress._looks[0]
    assert progress.words(counting.tally(), began_at) == "0 done, 1,200 left, 0.0/s"
    for _ in range(4):
        for delivery in shop.queue.receive(10):
            delivery.complete()
    assert progress.words(counting.tally(), began_at + 8) == (
        "40 done, 1,160 left, 5.0/s, 3 min to go"
    )
    shop.queue.send(1, delay=60)
    assert "1,161 left (1 delayed)" in progress.words(counting.tally(), began_at + 9)
    progress._done.close()


def test_failures_of_the_time_before_are_not_counted(shop: Shop) -> None:
    shop.bury()
    shop.complete()
    counting = Counting(shop.store, ["orders"])
    assert (counting.tally().done, counting.tally().failures) == (0, 0)
    shop.bury()
    shop.store.fail([(shop.store.receive("orders-dlq", 1).messages[0].receipt, failure())])
    tally = counting.tally()
    assert (tally.done, tally.failures, tally.left) == (1, 1, 0), "of its queues only"


def failure() -> Failure:
    return Failure(Reason.HANDLER_ERROR, "ValueError", "boom")


def run(shop: Shop, told: Told, line: Any, fleet: Any) -> int:
    def report(event: SupervisorEvent, **facts: Any) -> None:
        told.append((event, facts))

    return drain.run(fleet, shop.store, ["orders"], report, line)


def test_without_a_terminal_a_line_comes_from_time_to_time(
    shop: Shop, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINE_SECONDS", 0.01)
    shop.queue.send(1)

    def fleet() -> int:
        wait_for(lambda: len(told) > 1)
        return 7

    assert run(shop, told, None, fleet) == 7
    event, facts = told[0]
    assert (event.event, event.text, facts) == ("progress", "0 done, 1 left, 0.0/s", {})
    event, facts = told[-1]
    assert event.event == "fleet_summary"
    assert event.text.startswith("stopped in ")
    assert event.text.endswith(", 1 left")
    assert (facts["left"], facts["completed"]) == (1, 0)


def test_a_database_that_is_busy_ends_no_fleet(
    shop: Shop, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, looked, runs = Line(), threading.Event(), iter([0, 3])

    def busy(*_: object) -> None:
        looked.set()
        raise Busy("queue.db is busy. Nothing was stored; try again.")

    def fleet() -> int:
        monkeypatch.setattr(shop.store, "queue", busy)
        looked.clear()
        looked.wait(scaled(30))
        return next(runs)

    assert run(shop, told, line, fleet) == 0
    assert (told, line.shown[-1]) == ([], "")
    monkeypatch.setattr(shop.store, "mark_before", busy)
    assert run(shop, told, line, lambda: next(runs)) == 3, "the fleet runs once"


@pytest.fixture
def terminal(shop: Shop, app: str, tmp_path: Path) -> Iterator[Terminal]:
    shop.queue.send_many([*range(300), "slow"])
    (tmp_path / "wait").touch()
    terminal = Terminal([*COMMAND, "work", "--drain", "--app", app, "--threads", "2"], tmp_path)
    yield terminal
    terminal.close()


def test_on_a_terminal_the_progress_is_one_line_below_all_others(
    terminal: Terminal, tmp_path: Path
) -> None:
    wait_for(lambda: terminal.shows("300 done, 1 left"), seconds=60, what="the progress")
    *above, progress = terminal.screen()
    assert progress.startswith("300 done, 1 left, ")
    assert not [line for line in above if " left, " in line]
    assert sum("handling" in line for line in above) == 301
    (tmp_path / "wait").unlink()
    assert terminal.end() == 0
    *lines, empty = terminal.screen()
    assert empty == ""
    last = " ".join(line.strip() for line in lines[-2:])
    assert last.endswith("301 completed, 0 failed, 0 dead, 0 duplicates skipped")
    assert [line for line in lines if " left" in line or len(line) > 80] == []


def test_ctrl_c_on_a_terminal_takes_the_line_away(terminal: Terminal, tmp_path: Path) -> None:
    wait_for(lambda: terminal.shows("300 done, 1 left"), seconds=60, what="the progress")
    terminal.type("\x03")
    wait_for(lambda: terminal.shows("stopping: "), seconds=30, what="the stop")
    (tmp_path / "wait").unlink()
    assert terminal.end() == 0
    assert terminal.screen()[-1] == ""


@pytest.mark.parametrize("options", [["--log-level", "warning"], ["--log-format", "json"]])
def test_a_terminal_that_is_to_show_less_has_no_progress(
    options: list[str], shop: Shop, app: str, tmp_path: Path
) -> None:
    shop.queue.send_many([1, 2])
    terminal = Terminal([*COMMAND, "work", "--drain", "--app", app, *options], tmp_path)
    assert terminal.end() == 0
    assert "\x1b" not in terminal.read()
    terminal.close()
