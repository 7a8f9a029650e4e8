"""Requests over HTTP: routing, identities, bounds and the stop."""

import http.client
import json
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from durableq import DurableQ
from durableq.model.errors import Busy, DatabaseUnusable, QueueFull
from durableq.serve.access import Access
from durableq.serve.context import Context
from durableq.serve.limits import Limits
from durableq.store.core import Capability
from tests.serve.actions import STORING, Poll, Recorder
from tests.serve.endpoint import Answered, Endpoint, endpoint
from tests.support import scaled, wait_for

TARGET = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}
RECEIVE = {"X-Amz-Target": "AmazonSQS.ReceiveMessage"}
BODY = b'{"QueueUrl": "http://x/000000000000/q", "MessageBody": "hi"}'
POLL = b'{"QueueUrl": "http://x/000000000000/q", "WaitTimeSeconds": 20}'


def scope_of(key: str, region: str) -> dict[str, str]:
    """Return the header of a signature."""
    credential = f"Credential={key}/20260101/{region}/sqs/aws4_request"
    signed = "SignedHeaders=host;x-amz-date, Signature=00"
    return {"Authorization": f"AWS4-HMAC-SHA256 {credential}, {signed}"}


@pytest.mark.parametrize(
    ("path", "headers", "body", "url"),
    [
        ("/", TARGET, BODY, "http://x/000000000000/q"),
        ("/anything", TARGET, BODY, "http://x/000000000000/q"),
        ("/123456789012/other", TARGET, BODY, "http://x/000000000000/q"),
        ("/123456789012/q.fifo", TARGET, b'{"MessageBody": "hi"}', "/123456789012/q.fifo"),
        ("/123456789012/q", {}, b"Action=SendMessage&MessageBody=hi", "/123456789012/q"),
        ("/123456789012/q?Action=SendMessage&MessageBody=hi", {}, None, "/123456789012/q"),
        ("/", {}, b"Action=SendMessage&MessageBody=hi&QueueUrl=/0/r", "/0/r"),
        ("/0/x?Action=SendMessage", {}, b"MessageBody=hi&QueueUrl=/0/r", "/0/r"),
        (
            "/queue/eu-west-3/123456789012/q",
            TARGET,
            b'{"MessageBody": "hi"}',
            "/queue/eu-west-3/123456789012/q",
        ),
    ],
)
def test_headers_and_body_name_the_action_and_the_queue(
    dq: DurableQ, path: str, headers: dict[str, str], body: bytes | None, url: str
) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations) as server:
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        answered = server.ask(path, body, headers or (form if body else {}))
    assert answered.status == 200, answered
    assert recorder.last[0] == "SendMessage"
    assert recorder.last[2] == {"QueueUrl": url, "MessageBody": "hi"}


@pytest.mark.parametrize(
    ("path", "headers", "account", "region"),
    [
        ("/", {}, "000000000000", "us-east-1"),
        ("/", scope_of("AKIDEXAMPLE", "eu-north-1"), "000000000000", "eu-north-1"),
        ("/", scope_of("123456789012", "elasticmq"), "123456789012", "elasticmq"),
        ("/", scope_of("123456789012", "no/region"), "123456789012", "no"),
        ("/", scope_of("1234567890123", "%00"), "000000000000", "us-east-1"),
        ("/queue/eu-west-3/123456789012/q", {}, "000000000000", "eu-west-3"),
        ("/", {"Host": "sqs.ap-south-1.localhost:4566"}, "000000000000", "ap-south-1"),
    ],
)
def test_the_account_is_of_the_key_and_the_region_of_the_scope(
    dq: DurableQ, path: str, headers: dict[str, str], account: str, region: str
) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations) as server:
        assert server.ask(path, BODY, TARGET | headers).status == 200
        _, context, _ = recorder.last
        assert (context.account, context.region) == (account, region)
        found = server.ask("/", b"Action=GetCallerIdentity&Version=2011-06-15", headers)
        assert f"<Account>{account}</Account>" in found.text
        sts = {"X-Amz-Target": "AWSSecurityTokenServiceV20110615.GetCallerIdentity"}
        found = server.ask("/", b"{}", sts | headers)
        assert json.loads(found.body)["Arn"] == f"arn:aws:iam::{account}:root"


@pytest.mark.parametrize("header", [None, "X-User"])
def test_queue_urls_begin_as_the_client_calls_the_server(dq: DurableQ, header: str | None) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations, access=Access(header=header)) as server:
        said = {"X-Forwarded-Proto": "https", "X-User": "ada"}
        server.ask("/", BODY, {**TARGET, **said, "Host": "sqs.local:99"})
        scheme = "http" if header is None else "https"
        assert recorder.last[1].base_url == f"{scheme}://sqs.local:99"
        server.ask("/", BODY, {**TARGET, **said, "Host": "a b<c>"})
        assert recorder.last[1].base_url == f"{scheme}://127.0.0.1:{server.port}"


def test_a_header_names_the_trace_of_a_request(dq: DurableQ) -> None:
    recorder = Recorder()
    with endpoint(dq, recorder.operations) as server:
        for given, kept in (("Root=1-2", "Root=1-2"), ("R\xe9", ""), ("x" * 501, "")):
            server.ask("/", BODY, {**TARGET, "X-Amzn-Trace-Id": given})
            assert recorder.last[1].trace_header == kept


def is_of_aws(answered: Answered) -> bool:
    """Return whether an error has the form of one of AWS."""
    if answered.headers["content-type"] == "text/xml":
        return "<UnknownOperationException/>" in answered.text or (
            "<ErrorResponse " in answered.text and "<RequestId>" in answered.text
        )
    return {"__type", "message"} <= {*json.loads(answered.body)}


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code"),
    [
        ("/000000000000/q", {}, None, 404, "UnknownOperationException"),
        ("/", {}, b"", 400, "MissingAction"),
        ("/?Action=FooBar", {}, None, 400, "The action FooBar is not valid for this endpoint."),
        ("/000000000000/q?Action=ListQueues", {}, None, 400, "InvalidAction"),
        ("/?Action=SendMessage", {}, None, 400, "the parameter QueueUrl."),
        ("/0/q?Action=ReceiveMessage&MaxNumberOfMessages=x", {}, None, 400, "MalformedInput"),
        ("/?Action=%ff", {}, None, 400, "MalformedInput"),
        ("/?" + "a=&" * 10_001, {}, None, 400, "MalformedInput"),
        ("/", {"X-Amz-Target": "AmazonSQS.FooBar"}, b"{}", 400, "UnknownOperationException"),
        ("/", {"X-Amz-Target": "Kinesis_20131202.Get"}, b"{}", 400, "UnknownOperationException"),
        ("/", {"X-Amz-Target": "DynamoDB_20120810.Scan"}, b"{}", 400, "UnknownOperation"),
        ("/", TARGET, b"{", 400, "SerializationException"),
        ("/", TARGET, b"[]", 400, "SerializationException"),
        ("/", TARGET, b"\xff", 400, "SerializationException"),
        ("/", TARGET, b"[" * 100_000, 400, "SerializationException"),
        ("/", TARGET, b'{"DelaySeconds": NaN}', 400, "SerializationException"),
        ("/", TARGET, b'{"DelaySeconds": ' + b"9" * 5000 + b"}", 400, "SerializationException"),
        ("/", TARGET, b'{"DelaySeconds": 1e99}', 400, "can not be converted to an Integer"),
        ("/", TARGET, b'{"DelaySeconds": true}', 400, "TRUE_VALUE can not be converted"),
        ("/", TARGET, b'{"QueueUrl": 7}', 400, "NUMBER_VALUE can not be converted to a String"),
        ("/", TARGET, b'{"QueueUrl": []}', 400, "Start of list found where not expected."),
        ("/", TARGET, b'{"MessageAttributes": []}', 400, "Start of list found"),
        ("/", TARGET, b"{}", 400, "The request must contain the parameter QueueUrl."),
        ("/", TARGET, b'{"QueueUrl": "q"}', 400, "must contain the parameter MessageBody."),
        (
            "/",
            TARGET,
            b'{"QueueUrl": "q", "MessageBody": ""}',
            400,
            "must contain the parameter MessageBody.",
        ),
        (
            "/",
            {"X-Amz-Target": "AmazonSQS.DeleteMessageBatch"},
            b'{"QueueUrl": "q", "Entries": [{"Id": "a", "ReceiptHandle": "h"}, {"Id": "b"}]}',
            400,
            "the parameter DeleteMessageBatchRequestEntry.2.ReceiptHandle.",
        ),
    ],
)
def test_a_bad_request_is_refused_as_aws_does(
    dq: DurableQ, path: str, headers: dict[str, str], body: bytes | None, status: int, code: str
) -> None:
    with endpoint(dq, Recorder().operations) as server:
        answered = server.ask(path, body, headers)
    assert answered.status == status
    assert is_of_aws(answered)
    assert code in answered.text
    assert answered.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (Busy("The file is busy."), 503, "ServiceUnavailable"),
        (QueueFull("q", "it has no room"), 403, "RequestThrottled"),
        (DatabaseUnusable("It is gone."), 500, "InternalFailure"),
        (ZeroDivisionError("a defect"), 500, "InternalFailure"),
    ],
)
def test_errors_inside_are_those_that_clients_know(
    dq: DurableQ,
    raised: Exception,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        raise raised

    monkeypatch.setattr("durableq.serve.http.log.propagate", True)
    with endpoint(dq, {"SendMessage": fails}) as server:
        answered = server.ask("/", BODY, TARGET)
    assert (answered.status, is_of_aws(answered)) == (status, True)
    assert answered.headers["x-amzn-query-error"].startswith(f"{code};")
    is_defect = code == "InternalFailure"
    assert any(record.exc_info for record in caplog.records) is is_defect
    assert "It is gone" not in answered.text  # nor any other word of a defect
    assert "a defect" not in answered.text


def raw(server: Endpoint, content: bytes) -> bytes:
    """Send bytes, and return the answer up to the end of the connection."""
    received = b""
    with server.connect() as connection, suppress(ConnectionError):  # bytes that nobody reads
        connection.sendall(content)
        while part := connection.recv(65_536):
            received += part
    return received


def test_headers_have_a_limit(dq: DurableQ) -> None:
    limits = Limits(header_bytes=2_000, head_seconds=600, body_seconds=600)
    post = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    endless = b"a" * 1_000_000
    with endpoint(dq, Recorder().operations, limits=limits) as server:
        for whole in (
            b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 700,
            b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 700 + b"\r\n",
            post + b"0\r\n" + b"x: y\r\n" * 700 + b"\r\n",
        ):
            assert raw(server, whole).startswith(b"HTTP/1.1 431 "), whole[:40]
        for head in (b"GET /", b"GET / HTTP/1.1\r\nx: ", post + b"1;", post + b"0\r\nx: "):
            refused = raw(server, head + endless)
            assert not refused or refused.startswith(b"HTTP/1.1 431 "), head
        assert server.ask("/health").status == 200


def test_a_body_has_a_limit_also_in_chunks(dq: DurableQ) -> None:
    limits = Limits(body_bytes=10_000)
    recorder = Recorder()
    with endpoint(dq, recorder.operations, limits=limits) as server:
        for body in (b" " * 10_001, b" " * 1_000_000):
            answered = server.ask("/", body, TARGET)
            assert (answered.status, is_of_aws(answered)) == (413, True)
        chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
        head = b"POST / HTTP/1.1\r\nx-amz-target: AmazonSQS.SendMessage\r\nhost: x\r\n"
        chunked = head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 11 + b"0\r\n\r\n"
        assert raw(server, chunked).startswith(b"HTTP/1.1 413 ")
        assert not recorder.calls
        assert server.ask("/", BODY, TARGET).status == 200


def test_the_bodies_of_open_requests_have_a_limit_together(dq: DurableQ) -> None:
    limits = Limits(body_bytes=10_000, all_bodies_bytes=15_000)
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.SendMessage\r\n"
    body = BODY + b" " * (8_000 - len(BODY))
    with endpoint(dq, Recorder().operations, limits=limits) as server:
        with server.connect() as unfinished:
            unfinished.sendall(head + b"content-length: 9000\r\n\r\n" + body)
            wait_for(lambda: server.ask("/", body, TARGET).status == 503, what="the refusal")
            refused = server.ask("/", body, TARGET)
            assert is_of_aws(refused)
            assert "too large together" in refused.text
        wait_for(lambda: server.ask("/", body, TARGET).status == 200, what="room")


def test_a_length_that_lies_is_refused_in_time(dq: DurableQ) -> None:
    limits = Limits(body_seconds=0.2)
    with endpoint(dq, Recorder().operations, limits=limits) as server:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.SendMessage\r\n"
        longer = raw(server, head + b"content-length: 1000\r\n\r\n" + BODY)
        assert longer.startswith(b"HTTP/1.1 408 ")
        assert b"RequestTimeout" in longer
        shorter = raw(server, head + b"content-length: 1\r\n\r\n" + BODY)
        assert shorter.count(b"HTTP/1.1 400 ") == 1
        assert b"SerializationException" in shorter
        for bad in (b"-1", b"x", b"1\r\ncontent-length: 2", b"1\r\ntransfer-encoding: chunked"):
            answered = raw(server, head + b"content-length: " + bad + b"\r\n\r\n{}")
            assert answered.startswith(b"HTTP/1.1 400 "), bad


def test_a_slow_client_is_sent_away_and_holds_no_other(dq: DurableQ) -> None:
    limits = Limits(head_seconds=0.3, idle_seconds=1)
    with endpoint(dq, Recorder().operations, limits=limits) as server:
        with server.connect() as silent, server.connect() as slow:
            slow.sendall(b"POST / HTTP/1.1\r\nhost")
            assert server.ask("/", BODY, TARGET).status == 200
            assert (silent.recv(1), slow.recv(1)) == (b"", b"")
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=scaled(30))
        kept.request("GET", "/health")
        assert kept.getresponse().read() == b'{"status": "ok"}'
        assert isinstance(kept.sock, socket.socket)
        assert kept.sock.recv(1) == b""  # after the idle time
        kept.close()


@pytest.mark.parametrize("times", [1, 5])
def test_a_client_that_does_not_read_its_answers_is_sent_away(dq: DurableQ, times: int) -> None:
    async def much(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrls": ["x" * 20_000_000]}

    limits = Limits(write_seconds=0.3)
    with endpoint(dq, {"ListQueues": much}, limits=limits) as server:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ListQueues\r\n"
        with server.connect() as connection:
            connection.sendall((head + b"content-length: 2\r\n\r\n{}") * times)
            state = server.server.server_state
            wait_for(lambda: state.total_requests, what="the answer")
            wait_for(lambda: not state.connections, what="the end of the connection")
            wait_for(lambda: not state.tasks, what="the end of its requests")


def test_connections_and_receives_have_limits(dq: DurableQ) -> None:
    poll = Poll()
    limits = Limits(connections=3, polls=1)
    with endpoint(dq, {"ReceiveMessage": poll}, limits=limits) as server:
        waiting = threading.Thread(target=server.ask, args=("/", POLL, RECEIVE))
        waiting.start()
        wait_for(lambda: poll.started)
        refused = server.ask("/", POLL, RECEIVE)
        assert (refused.status, is_of_aws(refused)) == (503, True)
        with server.connect(), server.connect():
            wait_for(lambda: len(server.server.server_state.connections) == 3)
            assert raw(server, b"").startswith(b"HTTP/1.1 503 ")
    waiting.join(scaled(30))


def test_a_stop_commits_and_answers_the_open_requests(dq: DurableQ) -> None:
    dq.queue("orders")
    answered: list[Answered] = []
    asked = threading.Semaphore(0)

    def send_until_the_end(server: Endpoint) -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                one = server.ask("/", BODY, TARGET)
                answered.append(one)
                asked.release()

    with endpoint(dq, STORING) as server:
        threads = [
            threading.Thread(target=send_until_the_end, args=[server], daemon=True)
            for _ in range(8)
        ]
        for each in threads:
            each.start()
        for _ in range(100):
            assert asked.acquire(timeout=scaled(30))
    for each in threads:
        each.join(scaled(30))
    ids = [json.loads(one.body)["MessageId"] for one in answered if one.status == 200]
    assert len(ids) >= 100
    assert {one.status for one in answered} <= {200, 503}
    stored = dq.store.require(Capability.INSPECT).peek("orders", 100_000)
    assert {*ids} <= {message.id for message in stored}


def test_a_stop_answers_receives_and_takes_no_new_requests(dq: DurableQ) -> None:
    poll, answers = Poll(), []
    with endpoint(dq, {"ReceiveMessage": poll}) as server:

        def wait() -> None:
            answers.append(server.ask("/", POLL, RECEIVE))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for each in threads:
            each.start()
        wait_for(lambda: poll.started == 3)
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=scaled(30))
        idle.request("GET", "/health")
        idle.getresponse().read()
    for each in threads:
        each.join(scaled(30))
    assert [(each.status, each.body) for each in answers] == [(200, b"{}")] * 3
    assert poll.ended == 3
    assert isinstance(idle.sock, socket.socket)
    assert idle.sock.recv(1) == b""
    idle.close()


def test_an_offer_of_another_protocol_is_answered_in_this_one(dq: DurableQ) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.SendMessage\r\n"
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    with endpoint(dq, Recorder().operations) as server:
        content = head + offer + b"content-length: %d\r\n\r\n" % len(BODY)
        assert raw(server, content + BODY).startswith(b"HTTP/1.1 200 ")
        large = BODY.replace(b"hi", b"x" * 1_000_000)
        content = head + offer + b"content-length: %d\r\n\r\n" % len(large)
        assert raw(server, content + large).startswith(b"HTTP/1.1 200 ")
        assert raw(server, content[:-2] + b"transfer-encoding: chunked\r\n\r\n").startswith(
            b"HTTP/1.1 400 "
        )
