"""Errors that were recorded from AWS, each by the action that gives it: code, status, sentence."""

from typing import Any

import pytest

from durableq.serve.errors import ServiceError
from tests.serve.sqs_client import Sqs

LONG = "a" * 129
SCHEMA = "AWS.SimpleQueueService."
VALUE = "InvalidParameterValue"
NOT_BETWEEN = "Must be >= 0 and <= 20, if provided."
CHARACTERS = "can only include alphanumeric and punctuation characters. 1 to 128 in length."
NO_DEDUPLICATION = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
    "provided explicitly"
)
ENTRY_ID = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be "
    "at most 80 letters long."
)


def entry(**parameters: Any) -> dict[str, Any]:
    return {"Id": "1", "MessageBody": "x", **parameters}


def bad_identifier(name: str, value: str) -> str:
    return f"Value {value} for parameter {name} is invalid. Reason: {name} {CHARACTERS}"


#: Queue, action, parameters, code, sentence.
RECORDED: list[tuple[str, str, dict[str, Any], str, str]] = [
    (
        *("q", "SendMessageBatch", {"Entries": [entry(MessageBody="x" * 1048577)]}),
        f"{SCHEMA}BatchRequestTooLong",
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
    ),
    (
        *("q", "SendMessageBatch", {"Entries": [entry(Id="a b")]}),
        *(f"{SCHEMA}InvalidBatchEntryId", ENTRY_ID),
    ),
    (
        *("q", "SendMessageBatch", {"Entries": [entry(Id=str(n)) for n in range(20)]}),
        f"{SCHEMA}TooManyEntriesInBatchRequest",
        "Maximum number of entries per request are 10. You have sent 20.",
    ),
    (
        *("q", "ReceiveMessage", {"MaxNumberOfMessages": 11}, VALUE),
        "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, "
        "if provided.",
    ),
    (
        *("q", "ReceiveMessage", {"WaitTimeSeconds": 21}, VALUE),
        f"Value 21 for parameter WaitTimeSeconds is invalid. Reason: {NOT_BETWEEN}",
    ),
    (
        *("q", "ReceiveMessage", {"WaitTimeSeconds": -1}, VALUE),
        f"Value -1 for parameter WaitTimeSeconds is invalid. Reason: {NOT_BETWEEN}",
    ),
    (
        *("q", "SendMessage", {"MessageBody": "x" * 1048577}, VALUE),
        "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
    ),
    (
        *("q", "SendMessage", {"MessageBody": ""}, "MissingParameter"),
        "The request must contain the parameter MessageBody.",
    ),
    (
        *("q", "SendMessage"),
        {
            "MessageBody": "x",
            "MessageAttributes": {"ErrorDetails": {"DataType": "String", "StringValue": ""}},
        },
        VALUE,
        "Message (user) attribute 'ErrorDetails' must contain a non-empty value of type 'String'.",
    ),
    *(
        (
            *(queue, "SendMessage"),
            {"MessageBody": "x", "MessageGroupId": "a", name: value},
            *(VALUE, bad_identifier(name, value)),
        )
        for queue, name in (("q", "MessageGroupId"), ("f.fifo", "MessageDeduplicationId"))
        for value in ("", LONG, "group 123")
    ),
    (
        *("f.fifo", "SendMessage"),
        {
            "MessageBody": "x",
            "MessageGroupId": "a",
            "MessageDeduplicationId": "b",
            "DelaySeconds": 2,
        },
        VALUE,
        "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that "
        "is not valid for this queue type.",
    ),
    (
        *("f.fifo", "SendMessage", {"MessageBody": "x"}, "MissingParameter"),
        "The request must contain the parameter MessageGroupId.",
    ),
    (
        *("f.fifo", "SendMessageBatch", {"Entries": [entry(MessageGroupId="a")]}),
        *(VALUE, NO_DEDUPLICATION),
    ),
    (
        *("f.fifo", "SendMessageBatch", {"Entries": [entry(MessageDeduplicationId="a")]}),
        *(VALUE, "The request must contain the parameter MessageGroupId."),
    ),
    (
        *("f.fifo", "SetQueueAttributes", {"Attributes": {"FifoQueue": "false"}}),
        "InvalidAttributeValue",
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
    ),
    (
        *("q", "SetQueueAttributes", {"Attributes": {"FifoQueue": "true"}}),
        *("InvalidAttributeName", "Unknown Attribute FifoQueue."),
    ),
    *(
        ("", "CreateQueue", {"QueueName": "new", "Attributes": {name: value}}, *said)
        for name, value, said in (
            (
                *("ContentBasedDeduplication", "false"),
                ("InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication."),
            ),
            (
                *("DeduplicationScope", "queue"),
                (
                    "InvalidAttributeName",
                    "You can specify the DeduplicationScope only when FifoQueue is set to true.",
                ),
            ),
            (
                *("FifoThroughputLimit", "perQueue"),
                (
                    "InvalidAttributeName",
                    "You can specify the FifoThroughputLimit only when FifoQueue is set to true.",
                ),
            ),
        )
    ),
    ("", "CreateQueue", {"QueueName": ""}, VALUE, "Queue name cannot be empty"),
    *(
        (
            "",
            action,
            {},
            VALUE,
            "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
        )
        for action in ("CreateQueue", "GetQueueUrl")
    ),
    (
        *("", "CreateQueue", {"QueueName": "q", "Attributes": {"DelaySeconds": "1"}}),
        "QueueAlreadyExists",
        "A queue already exists with the same name and a different value for attribute "
        "DelaySeconds",
    ),
    (
        *("q", "RemovePermission", {"Label": "crossaccountpermission2"}, VALUE),
        "Value crossaccountpermission2 for parameter Label is invalid. Reason: can't find label.",
    ),
    (
        *("", "CancelMessageMoveTask", {"TaskHandle": "x"}, VALUE),
        "Value for parameter TaskHandle is invalid.",
    ),
    (
        *("q", "DeleteMessage", {"ReceiptHandle": "garbage"}, "ReceiptHandleIsInvalid"),
        'The input receipt handle "garbage" is not a valid receipt handle.',
    ),
]


@pytest.mark.parametrize(
    ("queue", "action", "parameters", "code", "sentence"),
    [pytest.param(*each, id=f"{number}-{each[1]}") for number, each in enumerate(RECORDED)],
)
def test_an_error_is_that_of_aws(
    sqs: Sqs, queue: str, action: str, parameters: dict[str, Any], code: str, sentence: str
) -> None:
    sqs.queue()
    sqs.queue("f.fifo")
    url = f"http://localhost:4566/000000000000/{queue}" if queue else None
    with pytest.raises(ServiceError) as raised:
        sqs(action, url, **parameters)
    kind = raised.value.kind
    assert (kind.code, kind.status, raised.value.message) == (code, 400, sentence)


def test_a_queue_that_does_not_exist_has_a_sentence_for_each_protocol(sqs: Sqs) -> None:
    with pytest.raises(ServiceError) as raised:
        sqs("GetQueueUrl", QueueName="nowhere")
    assert raised.value.kind.code == f"{SCHEMA}NonExistentQueue"
    assert raised.value.message == "The specified queue does not exist."
    assert raised.value.query_message == (
        "The specified queue does not exist for this wsdl version."
    )
