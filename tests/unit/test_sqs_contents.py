"""The parts of the SQS endpoint that need no store: digests, parameters, batches."""

from functools import partial
from typing import Any

import pytest

from durableq.serve.sqs import attributes, batches, contents, digests
from tests.sqs_context import refusal


# The digests that boto3's users know from AWS: moto has recorded the last three.
def test_digests_are_those_of_aws() -> None:
    label = {"DataType": "Number.java.lang.Long", "StringValue": "1493147359900"}
    identity = {"DataType": "String", "StringValue": "453ae55e-f03b-21a6-a4b1-70c2e2e8fe71"}
    mixed: dict[str, dict[str, Any]] = {
        "id": identity,
        "mybin": {"BinaryValue": b"kekchebukek", "DataType": "Binary"},
        "timestamp": {"StringValue": "1603134247654", "DataType": "Number.java.lang.Long"},
        "contentType": {"StringValue": "application/json", "DataType": "String"},
    }
    assert digests.of_body("derp") == "58fd9edd83341c29f1aebba81c31e257"
    assert digests.of_attributes({"timestamp": label}) == "2e2e4876d8e0bd6b8c2c8f556831c349"
    assert digests.of_attributes(mixed) == "049075255ebc53fb95f7f9f3cedf3c50"
    assert digests.of_attributes({}) is None


@pytest.mark.parametrize(
    "body", ["a\0b", "\x1f", "\ufffe", "\uffff", "\ud800", "tail\x0b"], ids=ascii
)
def test_a_body_of_other_characters_than_those_of_xml_is_refused(body: str) -> None:
    said = refusal(lambda: contents.body_of({"MessageBody": body}))
    assert said == (
        "InvalidMessageContents: Invalid characters found. Valid unicode characters are #x9 | #xA "
        "| #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )


@pytest.mark.parametrize("body", ["\t\n\r ", "\ud7ff\ue000\ufffd", "\U00010000\U0010ffff", "{}"])
def test_a_body_of_characters_of_xml_is_taken_as_it_is(body: str) -> None:
    assert contents.body_of({"MessageBody": body}) == body


@pytest.mark.parametrize("parameters", [{}, {"MessageBody": ""}, {"MessageBody": None}])
def test_a_message_has_a_body(parameters: dict[str, Any]) -> None:
    said = refusal(lambda: contents.body_of(parameters))
    assert said == "MissingParameter: The request must contain the parameter MessageBody."


def one_attribute(name: str, **value: Any) -> dict[str, Any]:
    """Return the parameters of a message with one attribute."""
    return {"MessageAttributes": {name: value}}


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("a" * 257, "x", "names must be shorter than 256 Bytes"),
        ("", "x", "names must be shorter than 256 Bytes"),
        ("a b", "x", "The message attribute name 'a b' is invalid"),
        ("AWS.x", "x", "beginning with 'AWS.' or 'Amazon.'"),
        ("amazon.x", "x", "beginning with 'AWS.' or 'Amazon.'"),
        (".x", "x", "cannot start or end with '.'"),
        ("x.", "x", "cannot start or end with '.'"),
        ("x..y", "x", "cannot start or end with '.'"),
        ("ErrorDetails", "", "'ErrorDetails' must contain a non-empty value of type 'String'."),
        ("x", "\0", "Invalid characters found."),
    ],
)
def test_a_bad_attribute_is_refused(name: str, value: str, part: str) -> None:
    parameters = one_attribute(name, DataType="String", StringValue=value)
    said = refusal(lambda: contents.attributes_of(parameters))
    assert said.startswith("InvalidParameterValue: ")
    assert part in said


@pytest.mark.parametrize("name", ["a" * 256, "Ünï_code-1.x", "aws", "amazonas.x"])
def test_the_name_of_an_attribute_may_have_umlauts(name: str) -> None:
    parameters = one_attribute(name, DataType="String", StringValue="x")
    assert contents.attributes_of(parameters) == parameters["MessageAttributes"]


@pytest.mark.parametrize("data_type", ["InvalidNumber", "string", "Stringy", "String.", ".x"])
def test_an_attribute_of_another_type_is_refused(data_type: str) -> None:
    parameters = one_attribute("x", DataType=data_type, StringValue="x")
    said = refusal(lambda: contents.attributes_of(parameters))
    assert "the set of supported type prefixes is Binary, Number, and String." in said


def test_a_number_is_a_number_and_binary_has_bytes() -> None:
    bad = one_attribute("n", DataType="Number.int", StringValue="12a")
    assert "Can't cast the value of message (user) attribute 'n' to a number." in refusal(
        lambda: contents.attributes_of(bad)
    )
    empty = one_attribute("b", DataType="Binary", StringValue="x")
    assert "'b' must contain a non-empty value of type 'Binary'." in refusal(
        lambda: contents.attributes_of(empty)
    )
    both = one_attribute("b", DataType="Binary.gif", BinaryValue=b"\0", StringValue="x")
    assert contents.attributes_of(both) == {"b": {"DataType": "Binary.gif", "BinaryValue": b"\0"}}


def test_a_message_has_ten_attributes_at_most() -> None:
    def many(number: int) -> dict[str, Any]:
        value = {"DataType": "String", "StringValue": "x"}
        return {"MessageAttributes": {f"a{position}": value for position in range(number)}}

    assert len(contents.attributes_of(many(10))) == 10
    said = refusal(lambda: contents.attributes_of(many(11)))
    assert said.endswith("Number of message attributes [11] exceeds the allowed maximum [10].")


def test_a_sender_has_one_system_attribute() -> None:
    def system(name: str, data_type: str = "String") -> dict[str, Any]:
        value = {"DataType": data_type, "StringValue": "1"}
        return {"MessageSystemAttributes": {name: value}}

    assert set(contents.system_attributes_of(system("AWSTraceHeader"))) == {"AWSTraceHeader"}
    assert "'SenderId' is invalid" in refusal(
        lambda: contents.system_attributes_of(system("SenderId"))
    )
    assert "of the type 'String'" in refusal(
        lambda: contents.system_attributes_of(system("AWSTraceHeader", "Number"))
    )


def test_the_size_of_a_message_counts_names_types_and_values() -> None:
    attribute = {"ä": {"DataType": "Binary", "BinaryValue": b"123"}}
    assert contents.size_of("ö", attribute) == 2 + 2 + 6 + 3
    contents.check_size(1024, 1024)
    assert refusal(lambda: contents.check_size(1025, 1024)) == (
        "InvalidParameterValue: One or more parameters are invalid. Reason: Message must be "
        "shorter than 1024 bytes."
    )


@pytest.mark.parametrize("value", ["", "a" * 129, "group 123", "ä"])
@pytest.mark.parametrize("name", ["MessageGroupId", "MessageDeduplicationId"])
def test_an_identifier_has_128_characters_without_spaces(name: str, value: str) -> None:
    assert refusal(lambda: contents.identifier({name: value}, name)) == (
        f"InvalidParameterValue: Value {value} for parameter {name} is invalid. Reason: {name} can "
        "only include alphanumeric and punctuation characters. 1 to 128 in length."
    )
    assert contents.identifier({name: "~!" * 64}, name) == "~!" * 64


def entries(*ids: str) -> dict[str, Any]:
    """Return the parameters of a batch."""
    return {"Entries": [{"Id": id_, "MessageBody": "x"} for id_ in ids]}


def test_a_batch_has_one_to_ten_entries_with_ids_of_their_own() -> None:
    def said(*ids: str) -> str:
        return refusal(lambda: batches.batch_of(entries(*ids), "XEntry"))

    prefix = "AWS.SimpleQueueService."
    assert said() == (
        f"{prefix}EmptyBatchRequest: There should be at least one XEntry in the request."
    )
    assert said(*map(str, range(20))) == (
        f"{prefix}TooManyEntriesInBatchRequest: Maximum number of entries per request are 10. You "
        "have sent 20."
    )
    assert said("1", "2", "2", "1") == f"{prefix}BatchEntryIdsNotDistinct: Id 2 repeated."
    for bad in ("", "a" * 81, ".!", "ä"):
        assert said(bad) == (
            f"{prefix}InvalidBatchEntryId: A batch entry id can only contain alphanumeric "
            "characters, hyphens and underscores. It can be at most 80 letters long."
        )
    assert len(batches.batch_of(entries("a" * 80, "-_Z9"), "XEntry")) == 2


def test_a_batch_is_one_mebibyte_at_most() -> None:
    half = "x" * (1 << 19)
    batches.check_batch_size([{"MessageBody": half}, {"MessageBody": half}])
    assert refusal(
        lambda: batches.check_batch_size([{"MessageBody": half}, {"MessageBody": half + "x"}])
    ) == (
        "AWS.SimpleQueueService.BatchRequestTooLong: Batch requests cannot be longer than 1048576 "
        "bytes. You have sent 1048577 bytes."
    )


@pytest.mark.parametrize(
    ("name", "value", "is_fifo", "said"),
    [
        ("FifoQueue", "true", False, "InvalidAttributeName: Unknown Attribute FifoQueue."),
        (
            "ContentBasedDeduplication",
            "true",
            False,
            "InvalidAttributeName: Unknown Attribute ContentBasedDeduplication.",
        ),
        (
            "DeduplicationScope",
            "queue",
            False,
            "InvalidAttributeName: You can specify the DeduplicationScope only when FifoQueue is "
            "set to true.",
        ),
        (
            "FifoThroughputLimit",
            "perQueue",
            False,
            "InvalidAttributeName: You can specify the FifoThroughputLimit only when FifoQueue is "
            "set to true.",
        ),
        (
            "FifoQueue",
            "false",
            True,
            "InvalidAttributeValue: Invalid value for the parameter FifoQueue. Reason: Modifying "
            "queue type is not supported.",
        ),
        ("QueueArn", "x", True, "InvalidAttributeName: Unknown Attribute QueueArn."),
        ("Nonsense", "x", True, "InvalidAttributeName: Unknown Attribute Nonsense."),
        (
            "DelaySeconds",
            "901",
            False,
            "InvalidAttributeValue: Invalid value for the parameter DelaySeconds.",
        ),
    ],
)
def test_an_attribute_that_a_queue_does_not_take_is_refused(
    name: str, value: str, is_fifo: bool, said: str
) -> None:
    assert refusal(lambda: attributes.checked({name: value}, is_fifo=is_fifo)) == said


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1024, 1 << 20),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
        ("VisibilityTimeout", 0, 43_200),
        ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
    ],
)
def test_an_attribute_has_the_bounds_of_aws(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert attributes.checked({name: str(value)}, is_fifo=False) == {name: str(value)}
    for bad in (str(least - 1), str(most + 1), "", "x", "1.0", "٣"):
        assert "Invalid value for the parameter" in refusal(
            partial(attributes.checked, {name: bad}, is_fifo=False)
        )


def test_a_limit_for_each_group_needs_deduplication_for_each_group() -> None:
    limit = {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "queue"}
    assert "DeduplicationScope is messageGroup" in refusal(lambda: attributes.check_together(limit))
    attributes.check_together(limit | {"DeduplicationScope": "messageGroup"})
