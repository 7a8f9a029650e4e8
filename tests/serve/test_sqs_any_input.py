"""Any parameters of the shape of JSON get an answer or an error of SQS, and never another error."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.serve.context import Context
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import OPERATIONS
from tests.serve.sqs_client import Sqs, client_of

URL = "http://localhost:4566/000000000000/"
#: Members of all actions, and those of entries and attributes.
NAMES = (
    *("QueueUrl", "QueueName", "QueueNamePrefix", "QueueOwnerAWSAccountId", "Attributes", "tags"),
    *("Tags", "TagKeys", "Label", "AWSAccountIds", "Actions", "AttributeNames", "MaxResults"),
    *("NextToken", "MessageBody", "MessageAttributes", "MessageSystemAttributes", "DelaySeconds"),
    *("MessageGroupId", "MessageDeduplicationId", "Entries", "ReceiptHandle", "VisibilityTimeout"),
    *("MaxNumberOfMessages", "MessageAttributeNames", "MessageSystemAttributeNames", "SourceArn"),
    *("ReceiveRequestAttemptId", "DestinationArn", "MaxNumberOfMessagesPerSecond", "TaskHandle"),
    *("Id", "DataType", "StringValue", "BinaryValue", "AWSTraceHeader", "VisibilityTimeout"),
    *("RedrivePolicy", "RedriveAllowPolicy", "Policy", "FifoQueue", "All"),
)
TEXTS = st.sampled_from(
    (
        *(f"{URL}q", f"{URL}q.fifo", "q", "q.fifo", "arn:aws:sqs:us-east-1:000000000000:q"),
        *("true", "String", "Number", "Binary", "1", "0", "All", ".*", "{}", '{"a":', "\0", ""),
        '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:q","maxReceiveCount":1}',
        '{"redrivePermission":"denyAll"}',
    )
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 30) | st.integers() | st.floats(allow_nan=False)
    | TEXTS | st.text(max_size=20) | st.binary(max_size=5)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
#: A wait is not part of what is tested.
WAIT = {"WaitTimeSeconds": 0}


@pytest.fixture(scope="module")
def client() -> Iterator[Sqs]:
    """Return a client of the engine in memory, which is quick."""
    with client_of("memory://") as sqs:
        yield sqs


@pytest.mark.parametrize("action", sorted(OPERATIONS))
@given(parameters=PARAMETERS, queue=st.sampled_from(["q", "q.fifo", None]))
def test_any_parameters_get_an_answer_or_an_error_of_sqs(
    client: Sqs, action: str, parameters: dict[str, Any], queue: str | None
) -> None:
    client.context = Context(client.app)
    for name in ("q", "q.fifo"):
        client.queue(name)
    named = {} if queue is None else {"QueueUrl": f"{URL}{queue}"}
    try:
        answered = client(action, **(parameters | named | WAIT))
    except ServiceError as error:
        answered = {"message": error.message, "code": error.kind.code}
        assert all(answered.values())
    assert isinstance(answered, dict)
