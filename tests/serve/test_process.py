"""A server in a process of its own, with the actions of SQS, as clients over raw HTTP see it."""

import json
import re
import signal
import socket
import threading
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.serve.endpoint import Answered, ask, serving
from tests.support import scaled, wait_for


def call(port: int, action: str, path: str = "/", **parameters: Any) -> Answered:
    """Call an action in the JSON protocol."""
    return ask(port, path, json.dumps(parameters).encode(), {"X-Amz-Target": f"AmazonSQS.{action}"})


def made(port: int, name: str = "q") -> str:
    """Create a queue and return its URL."""
    return str(json.loads(call(port, "CreateQueue", QueueName=name).body)["QueueUrl"])


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "q.db")
    return str(request.getfixturevalue("postgres_tables_url"))


def test_both_protocols_have_the_same_queues(url: str) -> None:
    with serving(url) as (port, _):
        queue = made(port)
        assert queue == f"http://127.0.0.1:{port}/000000000000/q"
        found = ask(port, "/000000000000/q?Action=SendMessage&MessageBody=a%26b%0D%3C")
        digest = re.search("<MD5OfMessageBody>(.*?)<", found.text)
        assert digest is not None
        (message,) = json.loads(call(port, "ReceiveMessage", QueueUrl=queue).body)["Messages"]
        assert (message["Body"], message["MD5OfBody"]) == ("a&b\r<", digest[1])
        body = f"Action=DeleteMessage&ReceiptHandle={message['ReceiptHandle']}".encode()
        deleted = ask(port, "/000000000000/q", body)
        assert (deleted.status, "<DeleteMessageResponse" in deleted.text) == (200, True)
        found = ask(port, "/000000000000/q?Action=ReceiveMessage")
        assert "<ReceiveMessageResult/>" in found.text


def test_a_client_that_hangs_up_takes_no_message(url: str) -> None:
    with serving(url) as (port, _):
        queue = made(port)
        body = json.dumps({"QueueUrl": queue, "WaitTimeSeconds": 20}).encode()
        head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\n"
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), timeout=scaled(30)) as gone:
                gone.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        call(port, "SendMessage", QueueUrl=queue, MessageBody="hi")
        found = call(
            port,
            "ReceiveMessage",
            QueueUrl=queue,
            WaitTimeSeconds=20,
            AttributeNames=["ApproximateReceiveCount"],
        )
        (message,) = json.loads(found.body)["Messages"]
        assert message["Attributes"] == {"ApproximateReceiveCount": "1"}


def test_a_stop_under_load_loses_no_answered_send(url: str) -> None:
    answered: list[Answered] = []
    polled: list[Answered] = []
    with serving(url) as (port, run):
        queue, empty = made(port), made(port, "empty")

        def send() -> None:
            with suppress(OSError, HTTPException):
                while True:
                    answered.append(call(port, "SendMessage", QueueUrl=queue, MessageBody="hi"))

        def poll() -> None:
            polled.append(call(port, "ReceiveMessage", QueueUrl=empty, WaitTimeSeconds=20))

        threads = [threading.Thread(target=each) for each in [send] * 4 + [poll] * 2]
        for each in threads:
            each.start()
        wait_for(lambda: len(answered) >= 50)
        run.send_signal(signal.SIGTERM)
        _, says = run.communicate(timeout=scaled(60))
        for each in threads:
            each.join(scaled(60))
        assert run.returncode == 0, says
    assert "Traceback" not in says
    assert [(each.status, each.body) for each in polled] == [(200, b"{}")] * 2
    assert {each.status for each in answered} <= {200, 503}
    with DurableQ(url) as dq:
        stored = dq.store.require(Capability.INSPECT).queue("q").counts.ready
    assert stored >= sum(each.status == 200 for each in answered)


def test_a_queue_is_of_its_account_and_region(url: str) -> None:
    scope = "Credential=123456789012/20260101/eu-west-3/sqs/aws4_request"
    signed = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
    target = {"X-Amz-Target": "AmazonSQS.CreateQueue", **signed}
    with serving(url) as (port, _):
        created = json.loads(ask(port, "/", b'{"QueueName": "q"}', target).body)
        assert created["QueueUrl"].endswith(f":{port}/123456789012/q")
        assert call(port, "GetQueueUrl", QueueName="q").status == 400
        named = ask(port, "/queue/eu-west-3/123456789012/q?Action=SendMessage&MessageBody=hi")
        assert named.status == 200
        shown = ask(port, "/_durableq/peek?queue=q@123456789012.eu-west-3")
        assert len(json.loads(shown.body)["messages"]) == 1


def test_the_rules_of_60_seconds_are_those_of_strict_and_outlive_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "q.db"
    with serving(file) as (port, run):
        queue = made(port)
        for _ in range(2):
            assert call(port, "PurgeQueue", QueueUrl=queue).status == 200
            assert call(port, "DeleteQueue", QueueUrl=made(port, "gone")).status == 200
        run.kill()
    with serving(file, "--strict") as (port, _):
        queue = made(port)
        assert call(port, "PurgeQueue", QueueUrl=queue).status == 403
        refused = call(port, "CreateQueue", QueueName="gone")
        assert (refused.status, "QueueDeletedRecently" in refused.text) == (400, True)
