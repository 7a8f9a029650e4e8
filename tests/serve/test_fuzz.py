"""Any bytes end in an answer of the form of AWS, never a 500, and never a wait without an end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durableq import DurableQ
from durableq.serve.sqs import OPERATIONS
from tests.serve.actions import Recorder
from tests.serve.endpoint import Answered, Endpoint, endpoint
from tests.serve.models import ACTIONS, JSON, values
from tests.support import new_file, scaled

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_ENTRY = "SendMessageBatchRequestEntry"
NAMES = st.sampled_from(
    [
        *("QueueUrl", "MessageBody", "Entries", "MessageAttributes", "Attributes", "QueueName"),
        *("AttributeName.1", "Attribute.1.Name", "Attribute.1.Value", "AttributeName.x"),
        *("Attribute.", "Attribute.1", "Attribute", "." * 20, "Tag.1.Key", "Tag.1.Value"),
        *(f"{_ENTRY}.1.Id", f"{_ENTRY}.999999999.Id", f"{_ENTRY}.1.MessageBody"),
        *(f"{_ENTRY}.1.MessageAttribute.1.Value.BinaryValue", "MessageAttribute.1.Name"),
        *("MessageAttribute.1.Value.DataType", "MaxNumberOfMessages", "MaxResults", "NextToken"),
        *("ReceiptHandle", "VisibilityTimeout", "TaskHandle", "SourceArn", "Label", "TagKey.1"),
    ]
)
# With empty parts.
ODD_NAMES = st.tuples(NAMES, st.sampled_from(["", ".", "..", "..x"])).map("".join)
URLS = st.sampled_from(["/000000000000/orders", "http://x/000000000000/orders", "//", "é"])
SERVICES = ["AmazonSQS", "DynamoDB_20120810", "AWSSecurityTokenServiceV20110615", ""]
PATHS = ["/", "/000000000000/orders", "/queue/x/000000000000/orders", "/%ff", "/a/b"]
LINES = [b"GET / HTTP/1.1", b"POST /0/q HTTP/1.1", b"PUT * HTTP/1.0", b"HEAD / HTTP/1.1"]
HEADERS = [
    *(b"host: x", b"content-length: 2", b"content-length: 3", b"transfer-encoding: chunked"),
    *(b"connection: close", b"connection: upgrade", b"upgrade: h2c", b"expect: 100-continue"),
    *(b"x-amz-target: AmazonSQS.ListQueues", b"x-amz-target: \xff", b"a", b": b", b"c:\0"),
    *(b"content-type: application/json", b"authorization: AWS4-HMAC-SHA256 x"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint with the actions of SQS, and stand-ins for those that are not there."""
    with DurableQ(new_file(tmp_path / "q.db")) as dq:
        dq.queue("orders")
        operations = Recorder().operations | dict(OPERATIONS)
        with endpoint(dq, operations, dynamodb=operations) as made:
            yield made


def judge(answered: Answered) -> None:
    """Check that an answer is one of AWS, and no failure of the server."""
    assert answered.status < 500, answered
    assert answered.headers["x-amzn-requestid"], answered
    if answered.status == 200:
        return
    if answered.headers["content-type"] == "text/xml":
        assert any(each in answered.text for each in ("<UnknownOperationException/>", "<Code>"))
    else:
        assert {"__type", "message"} <= {*json.loads(answered.body)}, answered


@SETTINGS
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes(server: Endpoint, content: bytes) -> None:
    judge_raw(server, content)


@SETTINGS
@given(
    line=st.sampled_from(LINES),
    headers=st.lists(st.sampled_from(HEADERS), max_size=6),
    body=st.sampled_from([b"", b"{}", b"{}{}", b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nx"]),
    times=st.integers(1, 3),
)
def test_any_heads(
    server: Endpoint, line: bytes, headers: list[bytes], body: bytes, times: int
) -> None:
    judge_raw(server, (b"\r\n".join([line, *headers, b"", b""]) + body) * times)


def judge_raw(server: Endpoint, content: bytes) -> None:
    """Send bytes and the end of the stream; the server must answer, or close, and go on."""
    with server.connect() as connection:
        connection.settimeout(scaled(60))
        received = b""
        try:
            connection.sendall(content)
            connection.shutdown(1)
            while part := connection.recv(65_536):
                received += part
        except ConnectionError:
            pass
    for line in received.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 "):
            assert int(line.split()[1]) < 500, received


@SETTINGS
@given(
    name=st.sampled_from(ACTIONS) | st.text(max_size=12),
    service=st.sampled_from(SERVICES),
    body=JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
    more=st.dictionaries(NAMES, JSON_VALUES, max_size=4),
    url=st.none() | URLS,
)
def test_any_documents(
    server: Endpoint, name: str, service: str, body: bytes, more: dict[str, Any], url: str | None
) -> None:
    named = "".join(one for one in f"{service}.{name}" if one.isascii() and one.isprintable())
    target = {"X-Amz-Target": named}
    judge(server.ask("/", body, target))
    given = more | ({} if url is None else {"QueueUrl": url}) | {"WaitTimeSeconds": None}
    judge(server.ask("/", json.dumps(given).encode(), target))


@SETTINGS
@given(name=st.sampled_from(ACTIONS), data=st.data(), url=URLS)
def test_any_parameters_of_the_right_types(
    server: Endpoint, name: str, data: st.DataObject, url: str
) -> None:
    shape = JSON.operation_model(name).input_shape
    found = data.draw(values(shape, st.text(max_size=12)))
    given = {name: one for name, one in found.items() if name != "WaitTimeSeconds"}
    if "QueueUrl" in given:
        given["QueueUrl"] = url
    body = json.dumps(given, default=lambda content: content.hex()).encode()
    judge(server.ask("/", body, {"X-Amz-Target": f"AmazonSQS.{name}"}))


@SETTINGS
@given(
    name=st.sampled_from(ACTIONS) | st.text(max_size=12),
    fields=st.lists(
        st.tuples(NAMES | ODD_NAMES | st.text(max_size=8), st.text(max_size=8)), max_size=6
    ),
    path=st.sampled_from(PATHS),
    rest=st.binary(max_size=20),
)
def test_any_forms(
    server: Endpoint, name: str, fields: list[tuple[str, str]], path: str, rest: bytes
) -> None:
    kept = [pair for pair in fields if pair[0] != "WaitTimeSeconds"]
    form = urlencode([("Action", name), *kept], errors="surrogatepass")
    judge(server.ask(f"{path}?{form}"))
    header = {"Content-Type": "application/x-www-form-urlencoded"}
    judge(server.ask(path, form.encode() + b"&" + rest, header))
