"""Messages over SQS: bodies, attributes, digests, and what a receive shows of them."""

import hashlib
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.model.wire_message import row_of_uuid
from durableq.serve.context import Context
from durableq.store.core import Capability
from tests.serve.sqs_client import ON_BOTH, Sqs, client_of
from tests.support import new_file


def string(value: str, data_type: str = "String") -> dict[str, Any]:
    return {"DataType": data_type, "StringValue": value}


def binary(value: bytes, data_type: str = "Binary") -> dict[str, Any]:
    return {"DataType": data_type, "BinaryValue": value}


BODIES = ["hello", '"hello"', '{"b": 1 , "a":2}', "1e2", "NaN", " 1", "ü\t\r\n\U0001f600", "{", "0"]


@ON_BOTH
@pytest.mark.parametrize("body", BODIES, ids=ascii)
def test_a_body_comes_back_as_it_was_sent(sqs: Sqs, body: str) -> None:
    url = sqs.queue()
    digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    assert sqs.send(url, body)["MD5OfMessageBody"] == digest
    (message,) = sqs.receive(url)
    assert (message["Body"], message["MD5OfBody"]) == (body, digest)


@pytest.mark.parametrize(
    ("body", "decoded"), [("hello", "hello"), ('"hello"', "hello"), ('{"a": [1]}', {"a": [1]})]
)
def test_a_python_handler_gets_the_body_decoded(sqs: Sqs, body: str, decoded: object) -> None:
    sqs.send(sqs.queue("orders"), body)
    (message,) = sqs.app.queue("orders").receive(1)
    assert message.body == decoded


def test_a_python_handler_gets_plain_attributes(sqs: Sqs) -> None:
    attributes = {"a": string("x"), "n": string("1.5", "Number"), "b": binary(b"\0")}
    sqs.send(sqs.queue("orders"), MessageAttributes=attributes)
    (message,) = sqs.app.queue("orders").receive(1)
    assert message.attributes == {"a": "x", "n": 1.5}


def test_a_message_of_python_is_received_over_sqs(sqs: Sqs) -> None:
    orders = sqs.app.queue("orders")
    orders.send({"id": 7}, attributes={"kind": "new", "n": 3})
    orders.send(b"\0\xff")
    url = sqs("GetQueueUrl", QueueName="orders")["QueueUrl"]
    first, second = sqs.receive(url, 10, MessageAttributeNames=["All"])
    assert json.loads(first["Body"]) == {"id": 7}
    assert first["MessageAttributes"] == {"kind": string("new"), "n": string("3", "Number")}
    assert second["Body"] == "AP8="
    assert second["MessageAttributes"] == {"durableq.encoding": string("base64")}


@ON_BOTH
def test_the_digest_of_attributes_is_of_those_that_are_returned(sqs: Sqs) -> None:
    url = sqs.queue()
    attributes = {
        "foo": string("1", "Number.int"),
        "foo.bar": binary(b"\0\1", "Binary.x"),
        "other": string("x"),
    }
    sent = sqs.send(url, MessageAttributes=attributes)

    def received(*names: str) -> dict[str, Any]:
        (message,) = sqs.receive(url, VisibilityTimeout=0, MessageAttributeNames=list(names))
        return message

    for every in (["All"], ["*"], [".*"], ["fo.*", "other"]):
        message = received(*every)
        assert message["MessageAttributes"] == attributes
        assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    one = received("foo")
    assert one["MessageAttributes"] == {"foo": attributes["foo"]}
    alone = sqs.send(sqs.queue("alone"), MessageAttributes={"foo": attributes["foo"]})
    assert one["MD5OfMessageAttributes"] == alone["MD5OfMessageAttributes"]
    assert set(received("foo.*")["MessageAttributes"]) == {"foo", "foo.bar"}
    assert set(received("foo.b.*")["MessageAttributes"]) == {"foo.bar"}
    for none in (received(), received("nothing"), received("fo")):
        assert not {"MessageAttributes", "MD5OfMessageAttributes"} & set(none)


def test_the_trace_of_a_request_is_that_of_its_messages(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.context = Context(sqs.app, trace_header="Root=1")
    sent = sqs.send(url, "a")
    assert "MD5OfMessageSystemAttributes" not in sent
    sqs.send(url, "b", MessageSystemAttributes={"AWSTraceHeader": string("Root=2")})
    sqs("SendMessageBatch", url, Entries=[{"Id": "c", "MessageBody": "c"}])
    found = sqs.receive(url, 10, AttributeNames=["AWSTraceHeader"])
    traces = [one["Attributes"]["AWSTraceHeader"] for one in found]
    assert traces == ["Root=1", "Root=2", "Root=1"]


@ON_BOTH
def test_system_attributes_are_those_that_are_asked_for(sqs: Sqs) -> None:
    url = sqs.queue()
    trace = {"AWSTraceHeader": string("Root=1")}
    sent = sqs.send(url, MessageSystemAttributes=trace, MessageGroupId="a")
    assert sent["MD5OfMessageSystemAttributes"]
    (message,) = sqs.receive(url, VisibilityTimeout=0, MessageSystemAttributeNames=["All"])
    found = message["Attributes"]
    assert found["AWSTraceHeader"] == "Root=1"
    assert found["MessageGroupId"] == "a"
    assert found["SenderId"] == "000000000000"
    assert found["ApproximateReceiveCount"] == "1"
    assert int(found["SentTimestamp"]) <= int(found["ApproximateFirstReceiveTimestamp"])
    (again,) = sqs.receive(url, VisibilityTimeout=0, AttributeNames=["All"])
    first = "ApproximateFirstReceiveTimestamp"
    assert again["Attributes"] == found | {"ApproximateReceiveCount": "2"}
    assert again["Attributes"][first] == found[first]
    (few,) = sqs.receive(url, VisibilityTimeout=0, AttributeNames=["SenderId", "SequenceNumber"])
    assert few["Attributes"] == {"SenderId": "000000000000"}
    assert "Attributes" not in sqs.receive(url)[0]
    said = sqs.refusal("ReceiveMessage", url, AttributeNames=["Nonsense"])
    assert said == "InvalidAttributeName: Unknown Attribute Nonsense."


def test_a_message_keeps_only_a_sender_of_another_account(sqs: Sqs) -> None:
    url, of_python = sqs.queue(), '{"a": 1}'
    sqs.send(url, of_python, MessageAttributes={"kind": string("new")})
    sqs.context = replace(sqs.context, account="111111111111")
    sqs.send(url, of_python)
    own, foreign = sqs.receive(url, 2, AttributeNames=["SenderId"])
    assert own["Attributes"] == {"SenderId": "000000000000"}
    assert foreign["Attributes"] == {"SenderId": "111111111111"}
    rows = [str(row_of_uuid(one["MessageId"])[1]) for one in (own, foreign)]  # type: ignore[index]
    stored = sqs.app.store.require(Capability.ENDPOINT).envelopes(rows)
    kept = [stored[row].system_attributes for row in rows]
    assert kept == [None, '{"system":{"SenderId":"111111111111"}}']


def test_an_id_is_a_uuid_of_the_database_and_of_the_message(sqs: Sqs) -> None:
    url = sqs.queue()
    ids = [sqs.send(url)["MessageId"] for _ in range(2)]
    assert [uuid.UUID(one).version for one in ids] == [8, 8]
    assert ids[0] != ids[1]
    assert [message["MessageId"] for message in sqs.receive(url, 10)] == ids


def test_messages_of_two_databases_have_other_ids(sqs: Sqs, tmp_path: Path) -> None:
    first = sqs.send(sqs.queue())["MessageId"]
    with client_of(str(new_file(tmp_path / "other.db"))) as other:
        second = other.send(other.queue())["MessageId"]
    assert first != second
    assert row_of_uuid(first)[1:] == row_of_uuid(second)[1:]  # type: ignore[index]
    with client_of(sqs.app.url) as again:
        (message,) = again.receive("http://localhost:4566/000000000000/q")
    assert message["MessageId"] == first


def test_a_message_is_one_mebibyte_with_its_attributes_at_most(sqs: Sqs) -> None:
    url = sqs.queue()
    attribute = {"a": string("x")}
    room = (1 << 20) - len("aStringx")
    sqs.send(url, "x" * room, MessageAttributes=attribute)
    said = sqs.refusal(
        "SendMessage", url, MessageBody="x" * (room + 1), MessageAttributes=attribute
    )
    assert said.endswith("Message must be shorter than 1048576 bytes.")
    small = sqs.queue("small", MaximumMessageSize="1024")
    sqs.send(small, "ü" * 512)
    said = sqs.refusal("SendMessage", small, MessageBody="ü" * 512 + "x")
    assert said == (
        "InvalidParameterValue: One or more parameters are invalid. Reason: Message must be "
        "shorter than 1024 bytes."
    )


@ON_BOTH
def test_a_bad_entry_of_a_batch_does_not_stop_the_others(sqs: Sqs) -> None:
    url = sqs.queue()
    good = {"Id": "good", "MessageBody": "x", "MessageAttributes": {"a": string("x")}}
    bad = {"Id": "bad", "MessageBody": "\x07"}
    late = {"Id": "late", "MessageBody": "x", "DelaySeconds": 901}
    answered = sqs("SendMessageBatch", url, Entries=[bad, good, late])
    assert [one["Id"] for one in answered["Successful"]] == ["good"]
    assert set(answered["Successful"][0]) == {
        *("Id", "MessageId", "MD5OfMessageBody", "MD5OfMessageAttributes")
    }
    failed = {one["Id"]: (one["Code"], one["SenderFault"]) for one in answered["Failed"]}
    assert failed == {
        "bad": ("InvalidMessageContents", True),
        "late": ("InvalidParameterValue", True),
    }
    assert sqs.bodies(url) == ["x"]
    assert "Successful" not in sqs("SendMessageBatch", url, Entries=[bad])
    assert "Failed" not in sqs("SendMessageBatch", url, Entries=[good])


def test_a_queue_with_a_backlog_limit_of_python_refuses(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.app.queue("q", max_backlog=2)
    entries = [{"Id": str(number), "MessageBody": "x"} for number in range(3)]
    answered = sqs("SendMessageBatch", url, Entries=entries)
    assert [one["Id"] for one in answered["Successful"]] == ["0", "1"]
    assert answered["Failed"][0]["Code"] == "RequestThrottled"
    assert sqs.refusal("SendMessage", url, MessageBody="x").startswith("RequestThrottled: ")


def test_a_queue_that_drops_messages_says_so(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.app.queue("q", max_backlog=1, on_full="shed")
    sqs.send(url)
    assert sqs.refusal("SendMessage", url, MessageBody="x").startswith("RequestThrottled: ")


def test_a_message_of_a_group_of_a_standard_queue_waits_for_no_other(sqs: Sqs) -> None:
    url = sqs.queue()
    for body in "abc":
        sqs.send(url, body, MessageGroupId="tenant")
    first = sqs.receive(url, AttributeNames=["MessageGroupId"])
    assert first[0]["Attributes"] == {"MessageGroupId": "tenant"}
    assert sqs.bodies(url) == ["b", "c"]


def test_messages_are_received_from_one_to_ten(sqs: Sqs) -> None:
    url = sqs.queue()
    for number in range(12):
        sqs.send(url, str(number))
    assert sqs.bodies(url, 1) == ["0"]
    assert len(sqs.bodies(url, 10)) == 10
    assert sqs("ReceiveMessage", url)["Messages"][0]["Body"] == "11"
    assert sqs("ReceiveMessage", url) == {}


def test_another_application_sees_the_messages(sqs: Sqs) -> None:
    url = sqs.queue("orders")
    sqs.send(url, '{"a": 1}')
    with DurableQ(sqs.app.url) as other:
        assert [message.body for message in other.queue("orders").receive(10)] == [{"a": 1}]
