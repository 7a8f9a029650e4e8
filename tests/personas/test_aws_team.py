"""An AWS team's Lambda: functions in a folder of their own, inside Lambda and fed from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.console import Result, forked
from tests.contrib.lambdas import event, record
from tests.support import scaled

FUNCTIONS = {
    "orders/__init__.py": "",
    # Registered handlers, which the team also runs by `durableq work`.
    "orders/app.py": """\
from durableq import Batch, Delivery, DurableQ, Reject
from durableq.contrib.awslambda import entry

dq = DurableQ()


@dq.handler("orders")
def charge(message: Delivery) -> None:
    message.progress(0.5)
    if message.body["total"] < 0:
        raise Reject("a negative total")
    print("charged", message.body["id"])


lambda_handler = entry(dq, "orders")
""",
    # A function that the team runs in AWS today; durableq is not imported.
    "orders/existing.py": """\
import os

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor, EventType, process_partial_response,
)

processor = BatchProcessor(event_type=EventType.SQS)


def handle(record):
    if record.json_body["total"] < 0:
        raise ValueError("a negative total")
    print(os.environ["AWS_LAMBDA_FUNCTION_NAME"], "charged", record.json_body["id"])


def lambda_handler(event, context):
    assert context.get_remaining_time_in_millis() > 0
    return process_partial_response(
        event=event, record_handler=handle, processor=processor, context=context
    )
""",
}
#: Calls a function as the runtime does: one import, one event for each line.
RUNTIME = """\
import importlib, json, sys
module, name = sys.argv[1].rsplit(".", 1)
function = getattr(importlib.import_module(module), name)
for line in sys.stdin:
    print(json.dumps(function(json.loads(line), None)))
"""
ORDERS = '{"id": 1, "total": 5}\n{"id": 2, "total": -5}\n{"id": 3, "total": 7}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FUNCTIONS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Callable[..., Result]:
    """The command, in the folder of the functions."""

    def run(*words: str, stdin: str = "") -> Result:
        return forked(*words, cwd=folder, stdin=stdin.encode())

    return run


def test_registered_handlers_answer_sqs_inside_lambda(folder: Path) -> None:
    bodies = ORDERS.splitlines()
    given = event(*(record(str(number), body) for number, body in enumerate(bodies)))
    ran = subprocess.run(
        [sys.executable, "-c", RUNTIME, "orders.app.lambda_handler"],
        cwd=folder,
        input=json.dumps(given) + "\n",
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    charged_1, charged_3, answer = ran.stdout.splitlines()
    assert (charged_1, charged_3) == ("charged 1", "charged 3")
    assert json.loads(answer) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert [path.name for path in folder.iterdir()] == ["orders"]  # no file is made in Lambda


def test_the_same_handlers_run_from_a_file(shell: Callable[..., Result]) -> None:
    assert shell("queue", "create", "orders").code == 0
    assert shell("produce", "-", "--queue", "orders", stdin=ORDERS).code == 0
    worked = shell("work", "--drain", "--app", "orders.app:dq")
    assert worked.code == 0, worked.err
    assert "charged 1" in worked.out + worked.err
    letter = json.loads(shell("dlq", "list", "--json").out)
    assert letter["body"]["id"] == 2


def test_a_function_of_aws_is_fed_from_a_file_unchanged(shell: Callable[..., Result]) -> None:
    create = ("queue", "create", "orders", "--max-receives", "2", "--backoff-base", "0")
    assert shell(*create).code == 0
    assert shell("produce", "-", "--queue", "orders", stdin=ORDERS).code == 0
    worked = shell(
        *("work", "--drain", "--queue", "orders", "--report-batch-item-failures"),
        *("--lambda", "orders.existing:lambda_handler"),
    )
    assert worked.code == 0, worked.err
    assert "existing charged 3" in worked.out + worked.err
    counters = json.loads(shell("status", "--json").out)["queues"][0]["counters"]
    assert (counters["completed"], counters["moved_out"]) == (2, 1)
    letter = json.loads(shell("dlq", "list", "--json").out)
    assert letter["body"]["id"] == 2
