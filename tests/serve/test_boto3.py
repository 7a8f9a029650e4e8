"""boto3 against a running server: each action, in the JSON protocol."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from durableq import DurableQ
from tests.serve.endpoint import serving
from tests.support import new_file


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return a new database."""
    return new_file(tmp_path / "queue.db")


@pytest.fixture
def client(db: Path) -> Iterator[Any]:
    """Return a client of a server in a process of its own."""
    with serving(db) as (port, _):
        client = client_at(port)
        yield client
        client.close()


def client_at(port: int) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}),
    )


def test_a_message_is_sent_received_and_deleted(client: Any, db: Path) -> None:
    url = client.create_queue(QueueName="q")["QueueUrl"]
    attributes = {
        "n": {"DataType": "Number.int", "StringValue": "7"},
        "b": {"DataType": "Binary", "BinaryValue": b"\0\xff"},
    }
    sent = client.send_message(QueueUrl=url, MessageBody="hellö", MessageAttributes=attributes)
    (message,) = client.receive_message(
        QueueUrl=url, MessageAttributeNames=["All"], AttributeNames=["All"]
    )["Messages"]
    assert message["Body"] == "hellö"
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["MessageAttributes"] == attributes
    client.change_message_visibility(
        QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60
    )
    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert "Messages" not in client.receive_message(QueueUrl=url)
    with DurableQ(db) as dq:
        assert dq.queue("q").info().counters.completed == 1


def test_a_fifo_queue_keeps_its_order(client: Any) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = client.create_queue(QueueName="q.fifo", Attributes=attributes)["QueueUrl"]
    entries = [
        {"Id": str(number), "MessageBody": str(number), "MessageGroupId": "a"}
        for number in range(10)
    ]
    sent = client.send_message_batch(QueueUrl=url, Entries=entries)
    assert len(sent["Successful"]) == 10
    received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in received] == [str(number) for number in range(10)]
    handles = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(received)
    ]
    assert len(client.delete_message_batch(QueueUrl=url, Entries=handles)["Successful"]) == 10


def test_an_error_has_its_class_and_its_code(client: Any) -> None:
    with pytest.raises(client.exceptions.QueueDoesNotExist) as raised:
        client.get_queue_url(QueueName="nowhere")
    assert raised.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    url = client.create_queue(QueueName="q")["QueueUrl"]
    with pytest.raises(ClientError, match="Must be between 1 and 10, if provided"):
        client.receive_message(QueueUrl=url, MaxNumberOfMessages=11)


def test_queues_have_attributes_and_tags(client: Any) -> None:
    url = client.create_queue(QueueName="q", tags={"a": "b"})["QueueUrl"]
    client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "9"})
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["VisibilityTimeout"] == "9"
    assert client.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    assert client.list_queues()["QueueUrls"] == [url]
    client.purge_queue(QueueUrl=url)
    client.delete_queue(QueueUrl=url)
    assert "QueueUrls" not in client.list_queues()


def test_an_answered_send_is_there_after_a_kill(db: Path) -> None:
    with serving(db) as (port, server):
        client = client_at(port)
        url = client.create_queue(QueueName="q")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody="kept")
        server.kill()
        server.wait()
        client.close()
    with DurableQ(db) as dq:
        assert [message.body for message in dq.queue("q").receive(10)] == ["kept"]
