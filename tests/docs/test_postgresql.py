"""The page about PostgreSQL and its compose file work as written, on a server of the tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.console import environment
from tests.support import scaled

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "POSTGRESQL.md").read_text()
FOLDER = DOCS / "postgresql"
COMPOSE = (FOLDER / "compose.yaml").read_text()


@pytest.fixture
def environ(postgres_url: str) -> dict[str, str]:
    return environment() | {"DURABLEQ_DB": postgres_url}


def durableq(environ: dict[str, str], *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "durableq", *arguments],
        cwd=FOLDER,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_application_of_the_compose_file_charges_orders(environ: dict[str, str]) -> None:
    orders = [{"order": number, "amount": 10 * number} for number in range(4)]
    lines = "".join(f"{json.dumps(order)}\n" for order in orders)
    durableq(environ, "produce", "-", stdin=lines)
    durableq(environ, "work", "--app", "app:dq", "--drain")
    status = json.loads(durableq(environ, "status", "--json"))
    queues = {queue["name"]: queue["counts"] for queue in status["queues"]}
    assert queues["receipts"]["ready"] == 3
    assert queues["orders-dlq"]["ready"] == 1


def test_the_commands_of_the_compose_file_are_commands(environ: dict[str, str]) -> None:
    commands = [json.loads(found) for found in re.findall(r"command: (\[.*\])", COMPOSE)]
    assert [command[0] for command in commands] == ["work", "work", "recover"]
    for command in commands:
        assert "--app" in durableq(environ, command[0], "--help")
        assert command[-2:] == ["--app", "app:dq"]


def test_each_linked_file_is_there() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert linked
    for name in linked:
        assert (DOCS / name).exists(), name
