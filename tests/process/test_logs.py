"""Logs: one line per event, as text or JSON, without the payloads of messages."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from tests.process.child import ROOT
from tests.support import scaled

SECRET = "a card number"
APP = f"""
from durableq import DurableQ

dq = DurableQ()
dq.queue("orders", max_receives=1)


@dq.handler("orders")
def charge(message):
    print("one\\x1b[31m")
    print("two", end="")
    print(" and three")
    if message.body["card"] == {SECRET!r}:
        raise ValueError("refused\\x1b[0m")
"""


#: It sets up logging of its own.
QUIET = """
import logging
from durableq import DurableQ

logging.basicConfig(format="of the shop: %(message)s", level=logging.INFO)
dq = DurableQ()


@dq.handler("orders")
def charge(message):
    logging.getLogger("shop").info("charged")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    with DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send({"card": SECRET}, key="order-7")
    return tmp_path


def work(folder: Path, form: str, level: str = "info") -> list[str]:
    command = [sys.executable, "-m", "durableq", "work", "--app", "shop:dq", "--drain"]
    ended = subprocess.run(
        [*command, "--log-format", form, "--log-level", level],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    return ended.stderr.splitlines()


def events(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in work(folder, "json"):
        document = json.loads(line)
        assert {"at", "level", "process", "event", "text"} <= set(document)
        found.setdefault(document["event"], []).append(document)
    return found


def test_every_line_is_json_and_a_failure_is_named_without_its_payload(folder: Path) -> None:
    told = events(folder)
    (failed,) = told["failed"]
    assert failed == failed | {
        "level": "warning",
        "process": "worker-1",
        "message_id": "1",
        "queue": "orders",
        "key": "order-7",
        "receive_count": 1,
        "reason": "handler_error",
        "outcome": "buried",
    }
    assert [line["text"] for line in told["printed"]] == ["one\x1b[31m", "two and three"]
    assert told["started"][0]["process"] == "supervisor"
    assert told["ended"][0]["worker"] == "worker-1"
    assert SECRET not in json.dumps(told)


def test_as_text_control_characters_are_shown(folder: Path) -> None:
    lines = work(folder, "text")
    assert "one\\e[31m" in lines
    assert "two and three" in lines
    (failed,) = [line for line in lines if "failed at receive 1" in line]
    at, level, rest = failed.split(" ", 2)
    assert datetime.fromisoformat(at).tzinfo is not None
    assert level == "WARNING"
    assert rest.startswith("worker-1: message 1 of orders failed at receive 1: ValueError: ")
    assert not any("\x1b" in line for line in lines)
    assert SECRET not in "".join(lines)


def test_the_level_chooses_lines_and_the_loggers_of_the_application_stay(folder: Path) -> None:
    (folder / "shop.py").write_text(QUIET)
    lines = work(folder, "json", "debug")
    told = [json.loads(line) for line in lines]
    (handled,) = [line for line in told if line["event"] == "handled"]
    assert (handled["level"], handled["message_id"], handled["queue"]) == ("debug", "1", "orders")
    assert handled["seconds"] > 0
    (summary,) = [line for line in told if line["event"] == "summary"]
    assert (summary["level"], summary["handled"], summary["failed"]) == ("info", 1, 0)
    assert [line["text"] for line in told if line["event"] == "printed"] == ["of the shop: charged"]


def test_at_level_error_a_run_says_nothing(folder: Path) -> None:
    (folder / "shop.py").write_text(QUIET)
    assert work(folder, "text", "error") == ["of the shop: charged"]
