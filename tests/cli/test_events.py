"""`events`: the history of all messages, and what is added to it."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from durableq import Busy
from durableq.cli import events
from durableq.cli.output import BROKEN_PIPE, INTERRUPTED
from durableq.cli.rendering import event_document
from durableq.cli.screen import RED
from durableq.model.info import ALL_EVENTS
from durableq.model.message import Event
from durableq.store.core import Capability
from tests.cli.console import COMMAND, Run, Shop, environment
from tests.cli.terminals import on_terminal
from tests.support import scaled


def kinds(lines: list[str]) -> list[tuple[str, str]]:
    """The kind and the message of lines of text."""
    return [(line.split()[1], line.split()[2]) for line in lines]


@pytest.fixture
def bury(shop: Shop) -> tuple[str, str]:
    """Two messages that died."""
    return shop.bury(1, ValueError("no such order")), shop.bury(2, "boom")


def test_events_of_all_messages_are_lines_newest_last(
    run: Run, shop: Shop, bury: tuple[str, str]
) -> None:
    first, second = bury
    shop.queue.cancel(shop.queue.send(3), note="a test")
    shown = run("events")
    assert (shown.code, shown.said) == (0, "")
    assert kinds(shown.lines) == [
        *(("failed", first), ("buried", first), ("failed", second), ("buried", second)),
        ("cancelled", str(int(second) + 1)),
    ]
    failed, *_, cancelled = shown.lines
    assert datetime.fromisoformat(failed.split()[0]).utcoffset() is not None
    words = f"failed        {first} of orders: ValueError: no such order ["
    assert failed.split(" ", 1)[1].startswith(words)
    assert ": a test [" in cancelled


def test_only_some_events_are_shown(run: Run, shop: Shop, bury: tuple[str, str]) -> None:
    first, second = bury
    assert run("dlq", "redrive", first).code == 0
    assert kinds(run("events", "--kind", "buried").lines) == [("buried", first), ("buried", second)]
    assert kinds(run("events", "--queue", "orders-dlq").lines) == [("requeued", first)]
    newest = [("buried", second), ("requeued", first)]
    assert kinds(run("events", "--limit", 2).lines) == newest
    both = ["--kind", "buried", "--kind", "requeued", "--limit", 2]
    assert kinds(run("events", *both).lines) == newest


@pytest.mark.parametrize("text", ["1h", "time", "local time"])
def test_events_since_a_time(text: str, run: Run, shop: Shop, bury: tuple[str, str]) -> None:
    ago = datetime.now(UTC) - timedelta(minutes=5)
    local = ago.astimezone().replace(tzinfo=None)
    given = {"time": ago.isoformat(), "local time": local.isoformat()}.get(text, text)
    assert len(run("events", "--since", given).lines) == 4
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert run("events", "--since", soon.isoformat()).lines == []


def test_events_are_lines_of_json(run: Run, shop: Shop, bury: tuple[str, str]) -> None:
    rows = run("events", "--json").rows
    expected = [event_document(event) for event in shop.store.events().events]
    assert rows == [{"schema": 1, **document} for document in expected]


def test_an_event_of_a_queue_names_no_message(run: Run, shop: Shop) -> None:
    assert run("queue", "set", "orders", "--breaker", "on").code == 0
    assert run("breaker", "open", "orders").code == 0
    (line,) = run("events").lines
    assert "breaker       queue orders: open: opened by" in line


def test_the_default_is_a_bounded_number(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LAST", 3)
    monkeypatch.setattr(events, "PAGE", 2)
    ids = shop.queue.send_many(range(5))
    for message_id in ids:
        shop.queue.cancel(message_id)
    assert [message for _, message in kinds(run("events").lines)] == ids[-3:]
    assert [message for _, message in kinds(run("events", "--since", "1d").lines)] == ids


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kind", "boredom"], "--kind is one of failed, unavailable, "),
        (["--since", "soon"], "--since takes a duration such as 10m, or a time such as "),
        (["--since", "1h", "--limit", "5"], "--limit counts back from the newest event, --since "),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], why: str, run: Run, shop: Shop) -> None:
    refused = run("events", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert why in refused.err


def test_an_unknown_queue_is_named(run: Run, shop: Shop) -> None:
    refused = run("events", "--queue", "nowhere")
    assert refused.code == 3
    assert "'nowhere'" in refused.err
    assert "There are: orders, orders-dlq." in refused.err


class Following:
    """`durableq events --follow` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "events", "--follow", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def next(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> int:
        try:
            return self.process.wait(scaled(30))
        finally:
            self.process.kill()
            self.process.communicate()


def test_following_shows_events_as_they_are_written(shop: Shop, tmp_path: Path) -> None:
    first = shop.bury("old")
    following = Following(tmp_path, "--json", "--kind", "buried")
    assert following.next()["message_id"] == first
    for number in range(3):
        message_id = shop.bury(number)
        told = following.next()
        assert (told["message_id"], told["event"]) == (message_id, "buried")
    following.process.send_signal(signal.SIGINT)
    assert following.end() == INTERRUPTED


def test_following_ends_with_the_reader_of_its_output(shop: Shop, tmp_path: Path) -> None:
    shop.bury("old")
    following = Following(tmp_path, "--json", "--limit", "1")
    following.next()
    assert following.process.stdout is not None
    following.process.stdout.close()
    assert following.process.wait(scaled(30)) == BROKEN_PIPE
    assert following.process.stderr is not None
    following.process.stderr.close()


def test_following_waits_for_writes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is followed by a pause, and by a wait that a write ends."""
    steps: list[object] = []

    class Watch:
        def wait(self, seconds: float, *_: object) -> bool:
            steps.append(seconds)
            if steps.count(seconds) == 3:
                raise KeyboardInterrupt
            return True

        def close(self) -> None:
            steps.append("closed")

    monkeypatch.setattr(events, "time", SimpleNamespace(sleep=steps.append))
    monkeypatch.setattr(shop.store, "watch", Watch)
    printer = events._Printer(shop.store, ALL_EVENTS, "", as_json=False)
    monkeypatch.setattr(printer, "print_all", lambda: steps.append("look"))
    with pytest.raises(KeyboardInterrupt):
        events._follow(shop.store, printer)
    once = ["look", events.PAUSE_SECONDS, events.LOOK_SECONDS]
    assert steps == [*once * 3, "closed"]


def test_following_goes_on_after_an_outage(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Exception | None] = [Busy("The database is busy; try again."), None]
    inspect = shop.store.require(Capability.INSPECT)
    read = inspect.events

    def answer(*arguments: object) -> Any:
        problem = answers.pop(0) if answers else None
        if problem is not None:
            raise problem
        return read(*arguments)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    message_id = shop.bury()
    monkeypatch.setattr(inspect, "events", answer)
    monkeypatch.setattr("durableq.runtime.outage.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(events, "time", SimpleNamespace(sleep=stop))
    printer = events._Printer(shop.store, ALL_EVENTS, "", as_json=True)
    with pytest.raises(KeyboardInterrupt):
        events._follow(shop.store, printer)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["message_id"], one["event"]) for one in shown] == [
        (message_id, Event.FAILED.value),
        (message_id, Event.BURIED.value),
    ]


def test_on_a_terminal_lines_fit_and_deaths_have_a_colour(shop: Shop, tmp_path: Path) -> None:
    shop.bury(1, ValueError("no such order: " + "a long reason " * 5))
    shown = on_terminal("events", cwd=tmp_path)
    assert max(map(len, shown.lines)) <= 80
    assert f"\x1b[{RED}mburied\x1b[0m" in shown.text
    hang = " " * 26
    assert [line for line in shown.lines if line.startswith(hang)]
    plain = on_terminal("events", cwd=tmp_path, env={"NO_COLOR": "1"})
    assert plain.lines == shown.lines
    assert "\x1b" not in plain.text
