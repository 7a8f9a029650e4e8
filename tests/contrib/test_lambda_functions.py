"""`work --lambda`: plain Lambda functions, fed from a queue as AWS's event source mapping does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from durableq import DurableQ
from durableq.contrib.awslambda.context import set_environment
from durableq.contrib.awslambda.mapping import Invocations, reported
from durableq.model.errors import InvalidResult
from durableq.model.message import Reason
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.cli.console import Result, Run, forked
from tests.support import new_file

RECORDING = """
import json, os

def handler(event, context):
    for one in event["Records"]:
        if one["body"] == '"raise"':
            raise ValueError("no such customer")
    with open("events.jsonl", "a") as out:
        left = context.get_remaining_time_in_millis()
        known = {name: getattr(context, name) for name in (
            "function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb",
            "aws_request_id", "log_group_name")}
        environment = {name: os.environ.get(name) for name in (
            "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION", "_HANDLER", "LAMBDA_TASK_ROOT")}
        print(json.dumps([event, left, known, environment]), file=out)
    bad = [one["messageId"] for one in event["Records"] if one["body"] == '"bad"']
    return {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}
"""


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    with (
        patch.dict(os.environ),  # a test may set those of a function
        DurableQ(new_file(tmp_path / "durableq.db")) as dq,
    ):
        for name in [name for name in os.environ if name.startswith("AWS_") or name == "_HANDLER"]:
            del os.environ[name]
        dq.queue("orders", max_receives=1, backoff_base=0)
        dq.init()
        yield dq


def work(tmp_path: Path, module: str, *more: str, **env: Any) -> Result:
    (tmp_path / "shop.py").write_text(module)
    return forked("work", "--drain", "--lambda", "shop:handler", *more, cwd=tmp_path, **env)


def invocations(tmp_path: Path) -> list[list[Any]]:
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def dead(dq: DurableQ) -> list[str]:
    found = dq.store.require(Capability.INSPECT).peek("orders-dlq", 1000)
    return [message.id for message in found]


def typed(value: str, kind: str) -> dict[str, Any]:
    return {
        "stringValue": value,
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": kind,
    }


def test_an_event_has_the_shape_of_sqs(dq: DurableQ, tmp_path: Path) -> None:
    attributes: dict[str, str | int | float] = {"type": "order", "version": 2, "ratio": 0.5}
    message_id = dq.queue("orders").send(
        {"total": 12, "name": "é"}, key="k-7", group="customer-7", attributes=attributes
    )
    assert work(tmp_path, RECORDING, AWS_REGION="eu-west-1").code == 0
    [[event, *_]] = invocations(tmp_path)
    [record] = event.pop("Records")
    assert event == {}
    body = '{"total":12,"name":"é"}'
    system = record.pop("attributes")
    assert record.pop("receiptHandle").startswith(f"orders:{message_id}:")
    assert record == {
        "messageId": message_id,
        "body": body,
        "messageAttributes": {
            "type": typed("order", "String"),
            "version": typed("2", "Number"),
            "ratio": typed("0.5", "Number"),
        },
        "md5OfBody": hashlib.md5(body.encode()).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "awsRegion": "eu-west-1",
    }
    sent, first = (int(system.pop(f"{name}Timestamp")) for name in SENT_AND_RECEIVED)
    assert sent <= first < sent + 600_000
    assert system == {
        "ApproximateReceiveCount": "1",
        "SenderId": "durableq",
        "MessageGroupId": "customer-7",
        "MessageDeduplicationId": "k-7",
    }


def test_the_context_and_the_environment_are_those_of_lambda(dq: DurableQ, tmp_path: Path) -> None:
    dq.queue("orders").send(1)
    assert work(tmp_path, RECORDING, AWS_REGION="eu-west-1").code == 0
    [[_, left_ms, context, environment]] = invocations(tmp_path)
    assert 0 < left_ms <= 3000
    assert environment == {
        "AWS_LAMBDA_FUNCTION_NAME": "shop",
        "AWS_REGION": "eu-west-1",
        "_HANDLER": "shop.handler",
        "LAMBDA_TASK_ROOT": None,
    }
    assert len(context.pop("aws_request_id")) == 36
    assert context == {
        "function_name": "shop",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:eu-west-1:123456789012:function:shop",
        "memory_limit_in_mb": "128",
        "log_group_name": "/aws/lambda/shop",
    }


SENT_AND_RECEIVED = ("Sent", "ApproximateFirstReceive")


def test_without_reports_an_answer_is_not_read_and_an_exception_fails_the_batch(
    dq: DurableQ, tmp_path: Path
) -> None:
    ids = dq.queue("orders").send_many(["bad", "good"])
    assert work(tmp_path, RECORDING).code == 0
    assert dead(dq) == []
    ids = dq.queue("orders").send_many(["raise", "good"])
    assert work(tmp_path, RECORDING).code == 0
    assert dead(dq) == ids


def test_with_reports_only_the_named_messages_fail(dq: DurableQ, tmp_path: Path) -> None:
    ids = dq.queue("orders").send_many(["good", "bad", "good"])
    worked = work(tmp_path, RECORDING, "--report-batch-item-failures", "--batch-size", "2")
    assert worked.code == 0
    assert dead(dq) == ids[1:2]
    assert [len(event["Records"]) for event, *_ in invocations(tmp_path)] == [2, 1]


def test_a_window_gathers_a_batch(dq: DurableQ, tmp_path: Path) -> None:
    dq.queue("orders").send_many(list(range(25)))
    options = ("--batch-size", "20", "--batch-window", "1")
    assert work(tmp_path, RECORDING, *options).code == 0
    sizes = [len(event["Records"]) for event, *_ in invocations(tmp_path)]
    assert sizes == [20, 5]


def test_an_event_has_up_to_ten_thousand_messages(dq: DurableQ, tmp_path: Path) -> None:
    dq.queue("orders").send_many(list(range(2_500)))
    assert work(tmp_path, RECORDING, "--batch-size", "10000", "--batch-window", "1").code == 0
    assert [len(event["Records"]) for event, *_ in invocations(tmp_path)] == [2_500]


def test_a_function_over_its_time_is_stopped_and_its_batch_fails(
    dq: DurableQ, tmp_path: Path
) -> None:
    ids = dq.queue("orders").send_many([1, 2])
    hanging = "from threading import Event\n\ndef handler(event, context):\n    Event().wait()\n"
    worked = work(tmp_path, hanging, "--timeout", "0.4", "--report-batch-item-failures")
    assert worked.code == 0
    assert sorted(dead(dq)) == ids
    letters = map(dq.store.require(Capability.DEAD_LETTERS).dead_letter, ids)
    assert [letter and letter.reason for letter in letters] == [Reason.TIMEOUT] * 2


def test_bytes_that_are_no_text_fail_alone(dq: DurableQ, tmp_path: Path) -> None:
    bad, _, _ = dq.queue("orders").send_many([b"\xff\x00", b"text", 1])
    assert work(tmp_path, RECORDING).code == 0
    assert dead(dq) == [bad]
    [[event, *_]] = invocations(tmp_path)
    assert [one["body"] for one in event["Records"]] == ["text", "1"]


def test_a_queue_in_order_is_fed_group_by_group_and_stops_at_a_failure(
    dq: DurableQ, tmp_path: Path
) -> None:
    orders = dq.queue("orders", group_concurrency=1, max_receives=2)
    for body in ("one", "bad", "three"):
        orders.send(body, group="a")
    orders.send("four", group="b")
    assert work(tmp_path, RECORDING, "--report-batch-item-failures").code == 0
    events = [event["Records"] for event, *_ in invocations(tmp_path)]
    told = [[json.loads(one["body"]) for one in records] for records in events]
    assert sorted(told[:2]) == [["four"], ["one", "bad", "three"]]
    assert told[2:] == [["bad"], ["three"]]
    assert {len(one["attributes"]["SequenceNumber"]) for one in events[0]} == {20}


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}, {"statusCode": 200}],
)
def test_an_answer_that_names_no_message_is_a_success(answer: Any) -> None:
    assert reported(answer, ["1", "2"]) == []


@pytest.mark.parametrize(
    "answer",
    [
        "ok",
        ["1"],
        {"batchItemFailures": {"itemIdentifier": "1"}},
        {"batchItemFailures": ["1"]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "9"}]},
        {"batchItemFailures": [{"ItemIdentifier": "1"}]},
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(answer: Any) -> None:
    with pytest.raises(InvalidResult):
        reported(answer, ["1", "2"])


def test_an_unknown_id_fails_the_whole_batch_at_the_queue(dq: DurableQ) -> None:
    def function(event: Any, context: Any) -> Any:
        return {"batchItemFailures": [{"itemIdentifier": "9"}]}

    options = WorkerOptions(
        "", dq.url, "w", drain=True, batch_size=10, timeout_ms=3000, report_failures=True
    )
    set_environment("shop:handler")
    app = DurableQ(dq.url)
    app.handler("orders", batch=10)(Invocations(function, options, ordered=False))
    ids = dq.queue("orders").send_many([1, 2])
    with app:
        Worker(app, options).run()
    assert sorted(dead(dq)) == ids


def test_named_messages_fail() -> None:
    answer = {"batchItemFailures": [{"itemIdentifier": "2"}], "more": 1}
    assert reported(answer, ["1", "2"]) == ["2"]


def test_an_answer_that_is_no_json_fails_the_batch_also_without_reports(
    dq: DurableQ, tmp_path: Path
) -> None:
    ids = dq.queue("orders").send_many([1, 2])
    assert work(tmp_path, "def handler(event, context):\n    return {1, 2}\n").code == 0
    assert sorted(dead(dq)) == ids


def test_a_function_is_fed_from_postgresql(postgres_url: str, tmp_path: Path) -> None:
    with DurableQ(postgres_url) as dq:
        good, bad = dq.queue("orders", max_receives=1).send_many(["good", "bad"])
        worked = work(tmp_path, RECORDING, "--report-batch-item-failures", "--db", postgres_url)
        assert worked.code == 0, worked.err
        assert dead(dq) == [bad]
        [[event, *_]] = invocations(tmp_path)
        assert [one["messageId"] for one in event["Records"]] == [good, bad]


POWERTOOLS = """
import json
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor, EventType, SqsFifoPartialProcessor, process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

processor = {processor}

def record_handler(record: SQSRecord):
    with open("seen", "a") as out:
        print(record.json_body, record.attributes.approximate_receive_count,
              record.queue_url.rpartition("/")[2], file=out)
    if record.json_body == "bad":
        raise ValueError("bad")

def handler(event, context):
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context)
"""


def test_the_batch_processor_of_powertools_runs_unchanged(dq: DurableQ, tmp_path: Path) -> None:
    ids = dq.queue("orders").send_many(["good", "bad", "good"])
    module = POWERTOOLS.format(processor="BatchProcessor(event_type=EventType.SQS)")
    worked = work(tmp_path, module, "--report-batch-item-failures")
    assert worked.code == 0, worked.err
    assert dead(dq) == [ids[1]]
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == ["good 1 orders", "bad 1 orders", "good 1 orders"]


def test_the_fifo_processor_of_powertools_stops_at_the_first_failure(
    dq: DurableQ, tmp_path: Path
) -> None:
    orders = dq.queue("orders", group_concurrency=1, max_receives=2)
    for body in ("one", "bad", "three"):
        orders.send(body, group="a")
    module = POWERTOOLS.format(processor="SqsFifoPartialProcessor()")
    worked = work(tmp_path, module, "--report-batch-item-failures")
    assert worked.code == 0, worked.err
    seen = [line.split()[:2] for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen == [["one", "1"], ["bad", "1"], ["bad", "2"], ["three", "1"]]


def test_an_entry_is_such_a_function(dq: DurableQ, tmp_path: Path) -> None:
    module = """
from durableq import DurableQ
from durableq.contrib.awslambda import entry

dq = DurableQ("elsewhere.db")

@dq.handler("orders", batch=10)
def handle(batch):
    bad = [message.id for message in batch if message.body == "bad"]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}

handler = entry(dq, "orders")
"""
    ids = dq.queue("orders").send_many(["good", "bad"])
    assert work(tmp_path, module, "--report-batch-item-failures").code == 0
    assert dead(dq) == [ids[1]]


NOTHING = "def handler(event, context):\n    pass\n\nasync def later(event, context):\n    pass\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (
            "--queue orders --batch-size 11",
            2,
            "needs a window of at least one second: --batch-window 1",
        ),
        ("--batch-size 10001 --batch-window 1", 2, "less than or equal to 10000"),
        ("--batch-size 0", 2, "greater than or equal to 1"),
        ("--batch-window 301", 2, "less than or equal to 300"),
        ("--timeout 31", 2, "AWS refuses this. Allow six times as long"),
        ("--timeout 901", 2, "at most 900 s"),
        ("--timeout 0", 2, "above 0"),
        ("--threads 2", 2, "use --procs"),
        ("--app shop:dq", 2, "choose one"),
        ("--exec true", 2, "choose one"),
        ("--queue none", 3, "There is no queue 'none'"),
        (
            "--queue fifo --batch-size 11 --batch-window 1",
            2,
            "batches of at most 10, and no window",
        ),
        ("--queue fifo --batch-window 1", 2, "and no window"),
        ("--lambda shop", 1, "Write module:handler"),
        ("--lambda shop:nothing", 1, "nothing"),
        ("--lambda shop:later", 1, "which AWS Lambda does not await"),
        ("--lambda shop.py:handler", 1, "Name its module"),
    ],
)
def test_a_mapping_that_aws_would_refuse_is_refused_before_any_message(
    run: Run, dq: DurableQ, tmp_path: Path, words: str, code: int, why: str
) -> None:
    (tmp_path / "shop.py").write_text(NOTHING)
    dq.queue("fifo", group_concurrency=1)
    dq.queue("orders").send(1)
    refused = run("work", "--drain", "--lambda", "shop:handler", *words.split())
    assert (refused.code, refused.out) == (code, ""), refused.err
    assert why in refused.err
    assert dq.queue("orders").info().counts.ready == 1


def test_a_short_visibility_timeout_is_advised_against(dq: DurableQ, tmp_path: Path) -> None:
    worked = work(tmp_path, NOTHING, "--timeout", "10")
    assert worked.code == 0
    assert "AWS advises six times the function's timeout and the window: 60 s" in worked.err


def test_an_option_of_a_function_alone_is_refused(run: Run) -> None:
    refused = run("work", "--batch-size", "5")
    assert (refused.code, refused.out) == (2, "")
    assert "--batch-size is for a Lambda function: give --lambda too" in refused.err
