"""The blocks of docs/SQS.md and docs/DYNAMODB.md for programs of others run as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.foreign.smoke import ENDPOINT, ENVIRONMENT, client, wait_for

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAMS = Path(sys.executable).parent


def block(name: str, language: str = "python", page: str = "SQS.md") -> str:
    """Return a block of a page, for this endpoint."""
    text = (DOCS / page).read_text()
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None, name
    host = ENDPOINT.removeprefix("http://")
    return re.sub(r"(localhost|127\.0\.0\.1):4566", host, found[1])


def environment(folder: Path) -> dict[str, str]:
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(folder), "PATH": path}


def works(folder: Path, *command: str, sends: str) -> None:
    """Run a worker, send it order 7, and wait for the line that ships it."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=folder,
            env=environment(folder) | {"PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        send = [sys.executable, "-c", f"from shop import ship; {sends}"]
        subprocess.run(send, cwd=folder, env=environment(folder), check=True, timeout=60)
        wait_for(lambda: "ship order 7" in log.read_text())
    finally:
        worker.terminate()
        worker.wait(60)


def test_the_aws_cli_sends(tmp_path: Path) -> None:
    subprocess.run(
        ["sh", "-ec", block("cli", "sh")], env=environment(tmp_path), check=True, timeout=60
    )
    url = client().get_queue_url(QueueName="orders")["QueueUrl"]
    [message] = client().receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == '{"order": 1}'


def test_celery_ships(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("celery"))
    works(tmp_path, "celery", "-A", "shop", "worker", "-c", "1", sends="ship.delay(7)")


def test_dramatiq_ships(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("dramatiq"))
    works(tmp_path, "dramatiq", "shop", "-p", "1", "-t", "1", sends="ship.send(7)")


def test_the_commands_of_dynamodb_make_the_table_of_powertools(tmp_path: Path) -> None:
    typed = block("commands", "console", "DYNAMODB.md")
    commands = re.sub(r"^\$ ", "", typed, flags=re.MULTILINE)
    assert commands.count("\n") < typed.count("$ ") + 4  # all but continued lines are commands
    env = {**os.environ, "PATH": environment(tmp_path)["PATH"]}
    subprocess.run(["sh", "-ec", commands], env=env, check=True, timeout=60)
    dynamodb = client("dynamodb")
    assert dynamodb.describe_table(TableName="idempotency")["Table"]["TableStatus"] == "ACTIVE"
    described = dynamodb.describe_time_to_live(TableName="idempotency")
    assert described["TimeToLiveDescription"]["AttributeName"] == "expiration"
