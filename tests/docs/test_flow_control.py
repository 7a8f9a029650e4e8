"""The page about flow control works as written: its code runs, and each limit does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.model.settings import LIMIT_SETTINGS
from tests.cli.console import environment

Run = Callable[[str], dict[str, Any]]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "FLOW_CONTROL.md").read_text()
BEGINNING, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
REFERENCE = {"How the limits work together", "Settings"}
BY_TITLE = {section.partition("\n")[0]: section for section in SECTIONS}


def code_of(section: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the code of a section after the beginning of the page; return its names."""
    monkeypatch.chdir(tmp_path)
    opened: list[DurableQ] = []

    def run_section(title: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(code_of(BEGINNING), names)
        opened.append(names["dq"])
        names["orders"] = names["dq"].queue("orders")
        exec(code_of(BY_TITLE[title]), names)
        return names

    yield run_section
    for dq in opened:
        dq.close()


def test_the_table_names_each_section() -> None:
    linked = re.findall(r"^\| \[(.*?)\]\(#(.*?)\) \|", BEGINNING, re.MULTILINE)
    titles = [title for title, _ in linked]
    assert titles == [title for title in BY_TITLE if title not in REFERENCE]
    for title, anchor in linked:
        assert anchor == re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-")


def test_each_limit_is_on_the_page() -> None:
    named = set(re.findall(r"`(\w+)`", BY_TITLE["Settings"]))
    assert {name.removesuffix("_ms") for name in LIMIT_SETTINGS} <= named


@pytest.mark.parametrize("title", [title for title, text in BY_TITLE.items() if code_of(text)])
def test_the_code_of_a_section_has_few_lines_and_runs(title: str, run: Run) -> None:
    lines = [line for line in code_of(BY_TITLE[title]).splitlines() if line.strip()]
    assert len(lines) <= 9, title
    run(title)


def test_a_rate_and_its_burst_are_kept(run: Run) -> None:
    orders = run("My downstream allows N calls a second")["orders"]
    orders.send_many([{"amount": number} for number in range(50)])
    assert len(orders.receive(50)) == 20


def test_only_four_are_in_flight(run: Run) -> None:
    reports = run("Only M at a time")["reports"]
    reports.send_many(range(9))
    assert len(reports.receive(9)) == 4
    assert not reports.receive(9)


def test_a_customer_has_one_at_a_time(run: Run) -> None:
    payments = run("One at a time per customer, in order")["payments"]
    amounts = []
    while received := payments.receive(10):
        (message,) = received
        amounts.append(message.body["amount"])
        message.complete()
    assert amounts == [10, 20, 30]


def test_the_breaker_opens(run: Run) -> None:
    names = run("The service is down")
    names["shipping"].send({})
    (message,) = names["shipping"].receive(1)
    with pytest.raises(names["Unavailable"]) as raised:
        names["ship"](message)
    message.fail(raised.value)
    assert names["shipping"].breaker().phase == "open"


def test_a_full_queue_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("Producers are faster than workers")
    assert "imports" in capsys.readouterr().out
    assert names["imports"].info().counts.present == 3


def test_only_the_newest_refresh_waits(run: Run) -> None:
    refreshes = run("A thousand identical refreshes")["refreshes"]
    assert [message.body for message in refreshes.receive(10)] == [{"version": 999}]


def test_a_value_is_computed_once(run: Run) -> None:
    names = run("The cache expired, and every process computes")
    assert names["value"] == {"apple": 3}
    assert names["dq"].once("prices", lambda: 1 / 0, ttl=60) == {"apple": 3}


def test_a_cancelled_message_is_gone(run: Run) -> None:
    names = run("One message must not run, or now")
    assert names["orders"].info().counters.cancelled == 1


def test_the_commands_of_the_page_are_known(tmp_path: Path) -> None:
    shown = re.findall(r"`(durableq [a-z]+(?: [a-z]+)?[^`]*)`", PAGE)
    shown += re.findall(r"^\$ (durableq .*)$", PAGE, re.MULTILINE)
    assert len(shown) > 5
    for command in shown:
        words = [word for word in command.split()[1:] if not re.search("[A-Z]", word)]
        path = [word for word in words if word.isalpha() and word not in {"orders"}]
        ran = subprocess.run(
            [sys.executable, "-m", "durableq", *path, "--help"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=False,
        )
        assert ran.returncode == 0, (command, ran.stderr)
        for option in (word for word in words if word.startswith("--")):
            assert f"{option} " in ran.stdout, command
