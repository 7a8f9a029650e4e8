"""`work --drain`: its progress and its summary."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import Busy
from durableq.cli import drain, live_line, work
from durableq.cli.drain import Counting
from durableq.cli.live_line import LiveLine
from durableq.model.message import Failure, Reason
from durableq.runtime.logs import LogFormat, LogLevel
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
        self.renew: Callable[[], None] = lambda: None

    def show(self, text: str) -> None:
        self.shown.append(text)

    def end(self) -> None:
        self.shown.append("")


@pytest.fixture
def progress(shop: Shop) -> Iterator[drain._Progress]:
    progress = drain._Progress(Counting(shop.store, ["orders"]), lambda *_, **__: None, None)
    yield progress
    progress.close()


def words(progress: drain._Progress, now: float) -> str:
    return progress.words(progress._counting.tally(), now)


def complete(shop: Shop, number: int) -> None:
    for _ in range(number // 10):
        for delivery in shop.queue.receive(10):
            delivery.complete()


def test_the_progress_has_the_numbers_done_and_left_the_rate_and_the_time_to_go(
    shop: Shop, progress: drain._Progress
) -> None:
    shop.queue.send_many(range(1_200))
    assert words(progress, 100) == "0 done, 1,200 left"
    complete(shop, 10)
    assert words(progress, 160) == "10 done, 1,190 left", "the start is no part of the rate"
    complete(shop, 20)
    assert words(progress, 160.2) == "30 done, 1,170 left"
    assert words(progress, 164) == "30 done, 1,170 left, 5.0/s, 3 min to go"
    shop.queue.send(1, delay=60)
    assert words(progress, 164) == "30 done, 1,171 left (1 delayed), 5.0/s, 3 min to go"
    assert words(progress, 169.5) == "30 done, 1,171 left (1 delayed), 0.0/s", "of 5 seconds"


def test_the_progress_says_when_the_first_delayed_message_is_due(
    shop: Shop, progress: drain._Progress
) -> None:
    shop.queue.send_many(range(10))
    complete(shop, 10)
    words(progress, 100)
    shop.queue.send(1, delay=3599)
    shop.queue.send(2, delay=7000)
    assert words(progress, 101) == "10 done, 2 left (2 delayed), 0.0/s, next due in 59 min"
    shop.queue.send_many(range(10))
    complete(shop, 10)
    shop.queue.send(3)
    assert words(progress, 102) == "20 done, 3 left (2 delayed), 5.0/s, 1 s to go"


def test_the_progress_names_paused_queues(shop: Shop, progress: drain._Progress) -> None:
    shop.queue.send_many(range(30))
    complete(shop, 10)
    words(progress, 100)
    complete(shop, 10)
    shop.store.declare_queue("orders", {"paused": 1})
    shop.queue.send(1, delay=60)
    assert words(progress, 101) == "20 done, 11 left (1 delayed), 10/s, paused: orders"
    shop.store.declare_queue("orders", {"paused": 0})
    assert "paused" not in words(progress, 102)


def test_the_line_ends_with_the_last_message(shop: Shop, told: Told) -> None:
    shop.queue.send(1)
    line = Line()

    def fleet() -> int:
        wait_for(lambda: line.shown == ["0 done, 1 left"], what="the progress")
        shop.queue.receive()[0].complete()
        wait_for(lambda: line.shown[-1] == "", what="the end of the line")
        return 0

    assert run(shop, told, line, fleet) == 0
    assert line.shown[1:] == ["" for _ in line.shown[1:]]


def test_a_log_line_above_renews_the_numbers(
    shop: Shop, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LOOK_SECONDS", 600.0)
    shop.queue.send_many([1, 2])
    line = Line()

    def fleet() -> int:
        wait_for(lambda: line.shown == ["0 done, 2 left"], what="the progress")
        shop.queue.receive()[0].complete()
        line.renew()
        wait_for(lambda: line.shown[1:] == ["1 done, 1 left"], what="new numbers")
        return 0

    assert run(shop, told, line, fleet) == 0


def test_a_line_with_old_numbers_is_not_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, renewals = io.StringIO(), [0]
    monkeypatch.setattr(sys, "stderr", screen)
    line = LiveLine()
    line.renew = lambda: renewals.append(1)
    monkeypatch.setattr(live_line, "FRESH_SECONDS", 600.0)
    line.show("1 left")
    line.write("one\n")
    assert screen.getvalue().endswith("one\n1 left")
    monkeypatch.setattr(live_line, "FRESH_SECONDS", 0.0)
    line.write("two\n")
    line.write("three\n")
    assert screen.getvalue().endswith("1 left\r\x1b[2Ktwo\nthree\n")
    assert sum(renewals) == 2


def test_the_end_of_a_worker_takes_the_line_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    monkeypatch.setattr(live_line, "FRESH_SECONDS", 600.0)
    line = LiveLine()
    report = work._reporter(LogFormat.TEXT, LogLevel.INFO, line, as_json=False)
    line.show("1 left")
    report(SupervisorEvent("receives", "worker-1 receives"))
    assert screen.getvalue().endswith("worker-1 receives\n1 left")
    report(SupervisorEvent("ended", "worker-1 ended: drained"))
    assert screen.getvalue().endswith("worker-1 ended: drained\n")


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
    assert (event.event, event.text, facts) == ("progress", "0 done, 1 left", {})
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
    def is_shown() -> bool:
        *above, progress = terminal.screen()
        handled = sum("handling" in line for line in above)
        return handled == 301 and progress.startswith("300 done, 1 left")

    wait_for(is_shown, seconds=60, what="the progress below all output")
    assert not [line for line in terminal.screen()[:-1] if " left" in line]
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
