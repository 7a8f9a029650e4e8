"""Requests that botocore writes are read as they were meant, and it reads our answers."""

from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st

from durableq.serve import errors
from durableq.serve.errors import Kind, ServiceError
from durableq.serve.wire import answers
from durableq.serve.wire.answers import Answer
from durableq.serve.wire.requests import Call, Protocol, Request, Service, decode
from tests.serve.models import ACTIONS, JSON, QUERY, dense, values

ID = "b6633655-283d-45b4-aee4-4e84e0ae6afa"
EXAMPLES = settings(max_examples=settings().max_examples // 4, deadline=None)
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, Kind) and kind is not errors.NOT_FOUND
}


def request_of(protocol: str, model: Any, parameters: dict[str, Any]) -> Request:
    """Return the request that botocore makes."""
    made = create_serializer(protocol, include_validation=False).serialize_to_request(
        parameters, model
    )
    headers = {name.lower(): value for name, value in made["headers"].items()}
    body = made["body"]
    content = body if isinstance(body, bytes) else urlencode(body).encode()
    return Request(made["method"], made["url_path"], b"", headers, content)


def read_back(protocol: str, answer: Answer, shape: Any) -> dict[str, Any]:
    """Return an answer as botocore reads it."""
    document = {
        "status_code": answer.status,
        "headers": {name.decode(): value.decode() for name, value in answer.headers},
        "body": answer.body,
    }
    found: dict[str, Any] = create_parser(protocol).parse(document, shape)
    return found


@pytest.mark.parametrize("name", ACTIONS)
@EXAMPLES
@given(data=st.data())
def test_parameters_in_json(name: str, data: st.DataObject) -> None:
    model = JSON.operation_model(name)
    given = data.draw(values(model.input_shape, st.text(max_size=12)))
    assert decode(request_of("json", model, given)) == Call(Service.SQS, name, given)


@pytest.mark.parametrize("name", ACTIONS)
@EXAMPLES
@given(data=st.data())
def test_parameters_in_a_form_and_in_a_query_string(name: str, data: st.DataObject) -> None:
    model = QUERY.operation_model(name)
    given = dense(data.draw(values(model.input_shape)))
    missing = {one for one in model.input_shape.required_members if one not in given}
    request = request_of("query", model, given)
    linked = Request("GET", "/", request.body, {}, b"")
    for each in (request, linked):
        if missing - {"Entries"}:
            with pytest.raises(ServiceError, match="must contain the parameter"):
                decode(each)
        else:
            expected = given | ({"Entries": []} if missing else {})
            assert decode(each) == Call(Service.SQS, name, expected)


@pytest.mark.parametrize(
    "fields",
    [
        "QueueNamePrefix=a&QueueNamePrefix..x=b",
        "QueueNamePrefix=a&QueueNamePrefix.=b",
        "QueueNamePrefix..x=b&QueueNamePrefix=a",
        "QueueNamePrefix=a&=b&.=c&..=d",
    ],
)
def test_a_field_with_an_empty_part_is_not_of_any_member(fields: str) -> None:
    form = f"Action=ListQueues&{fields}".encode()
    call = decode(Request("POST", "/", b"", {}, form))
    assert call == Call(Service.SQS, "ListQueues", {"QueueNamePrefix": "a"})


@pytest.mark.parametrize("text", ["1_0", " 1", "1 ", "", "1e1", "0x1", "\u0661", "1" * 20, "+-1"])
def test_a_number_has_digits_only(text: str) -> None:
    form = urlencode({"Action": "ListQueues", "MaxResults": text}).encode()
    with pytest.raises(ServiceError, match="can not be converted to an Integer"):
        decode(Request("POST", "/", b"", {}, form))


@pytest.mark.parametrize("name", ACTIONS)
@EXAMPLES
@given(data=st.data())
def test_answers_in_both_protocols(name: str, data: st.DataObject) -> None:
    model = JSON.operation_model(name)
    given = {} if model.output_shape is None else data.draw(values(model.output_shape))
    for protocol, service_model in ((Protocol.JSON, JSON), (Protocol.QUERY, QUERY)):
        made = answers.answer(protocol, Service.SQS, name, given, ID)
        shape = service_model.operation_model(name).output_shape
        found = read_back(protocol.value, made, shape)
        told = found.pop("ResponseMetadata")
        assert told["RequestId"] == ID
        assert dense(found) == dense(given)


@pytest.mark.parametrize("name", sorted(KINDS))
@given(message=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_errors_in_both_protocols(name: str, message: str) -> None:
    kind = KINDS[name]
    raised = ServiceError(kind, message)
    model = JSON.operation_model("SendMessage")
    for protocol in (Protocol.JSON, Protocol.QUERY):
        made = answers.error(protocol, Service.SQS, raised, ID)
        assert made.status == kind.status
        found = read_back(protocol.value, made, model.output_shape)
        assert found["ResponseMetadata"]["RequestId"] == ID
        assert found["Error"]["Code"] == kind.code
        assert found["Error"].get("Type") == kind.fault
        xml = message.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
        assert found["Error"]["Message"] == (xml if protocol is Protocol.QUERY else message)
    json = read_back("json", answers.error(Protocol.JSON, Service.SQS, raised, ID), None)
    assert json["Error"]["QueryErrorCode"] == kind.json_type.rpartition("#")[2]


def test_a_queue_that_is_not_there_has_a_sentence_for_each_protocol() -> None:
    raised = ServiceError(errors.QUEUE_DOES_NOT_EXIST)
    json = answers.error(Protocol.JSON, Service.SQS, raised, ID)
    assert json.body == (
        b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist",'
        b'"message":"The specified queue does not exist."}'
    )
    code = b"AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert (b"x-amzn-query-error", code) in json.headers
    xml = answers.error(Protocol.QUERY, Service.SQS, raised, ID)
    assert b"The specified queue does not exist for this wsdl version.</Message>" in xml.body


def test_answers_of_dynamodb_have_a_checksum() -> None:
    made = answers.answer(Protocol.JSON, Service.DYNAMODB, "GetItem", {"Item": {}}, ID)
    assert made.body == b'{"Item":{}}'
    assert dict(made.headers)[b"x-amz-crc32"] == b"49613676"
