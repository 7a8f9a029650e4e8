"""The actions of SQS, with the members of their parameters and answers: one table.

A test compares it with the service's model, so that a new member or action is noticed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from durableq.serve.wire.shapes import List, Map, Member, Scalar, Shape, Structure

#: The value of a map in the Query protocol.
VALUE: Final = "Value"

_STRINGS: Final = List(Scalar.STRING)
_ATTRIBUTES: Final = Map(Scalar.STRING)
_TAGS: Final = Map(Scalar.STRING, key="Key")


class Action(NamedTuple):
    """The parameters and the answer of an action."""

    input: Structure
    output: Structure


def _member(name: str, shape: Shape = Scalar.STRING, query_name: str = "") -> Member:
    return Member(name, shape, query_name or name)


def _required(name: str, shape: Shape = Scalar.STRING, query_name: str = "") -> Member:
    return Member(name, shape, query_name or name, is_required=True)


_QUEUE: Final = _required("QueueUrl")
_NOTHING: Final = Structure()

_VALUE: Final = Structure(
    _member("StringValue"),
    _member("BinaryValue", Scalar.BLOB),
    _member("StringListValues", _STRINGS, "StringListValue"),
    _member("BinaryListValues", List(Scalar.BLOB), "BinaryListValue"),
    _required("DataType"),
)
_VALUES: Final = Map(_VALUE)

_SENT: Final = (
    _required("MessageBody"),
    _member("DelaySeconds", Scalar.INTEGER),
    _member("MessageAttributes", _VALUES, "MessageAttribute"),
    _member("MessageSystemAttributes", _VALUES, "MessageSystemAttribute"),
    _member("MessageDeduplicationId"),
    _member("MessageGroupId"),
)
_FAILED: Final = Structure(
    _required("Id"),
    _required("SenderFault", Scalar.BOOLEAN),
    _required("Code"),
    _member("Message"),
)
_MESSAGE: Final = Structure(
    _member("MessageId"),
    _member("ReceiptHandle"),
    _member("MD5OfBody"),
    _member("Body"),
    _member("Attributes", _ATTRIBUTES, "Attribute"),
    _member("MD5OfMessageAttributes"),
    _member("MessageAttributes", _VALUES, "MessageAttribute"),
)
_MOVE_TASK: Final = Structure(
    _member("TaskHandle"),
    _member("Status"),
    _member("SourceArn"),
    _member("DestinationArn"),
    _member("MaxNumberOfMessagesPerSecond", Scalar.INTEGER),
    _member("ApproximateNumberOfMessagesMoved", Scalar.LONG),
    _member("ApproximateNumberOfMessagesToMove", Scalar.LONG),
    _member("FailureReason"),
    _member("StartedTimestamp", Scalar.LONG),
)


def _batch(action: str, entry: Structure, done: Structure) -> Action:
    """Return a batch action: entries with ids, and an answer for each."""
    return Action(
        Structure(_QUEUE, _required("Entries", List(entry), f"{action}RequestEntry")),
        Structure(
            _required("Successful", List(done), f"{action}ResultEntry"),
            _required("Failed", List(_FAILED), "BatchResultErrorEntry"),
        ),
    )


def _page(name: str, query_name: str, *, is_required: bool = False) -> Structure:
    """Return the answer of a list of queues, in pages."""
    made = _required if is_required else _member
    return Structure(made(name, _STRINGS, query_name), _member("NextToken"))


_QUEUES: Final = {
    "CreateQueue": Action(
        Structure(
            _required("QueueName"),
            _member("Attributes", _ATTRIBUTES, "Attribute"),
            _member("tags", _TAGS, "Tag"),
        ),
        Structure(_member("QueueUrl")),
    ),
    "DeleteQueue": Action(Structure(_QUEUE), _NOTHING),
    "GetQueueAttributes": Action(
        Structure(_QUEUE, _member("AttributeNames", _STRINGS, "AttributeName")),
        Structure(_member("Attributes", _ATTRIBUTES, "Attribute")),
    ),
    "GetQueueUrl": Action(
        Structure(_required("QueueName"), _member("QueueOwnerAWSAccountId")),
        Structure(_member("QueueUrl")),
    ),
    "ListDeadLetterSourceQueues": Action(
        Structure(_QUEUE, _member("NextToken"), _member("MaxResults", Scalar.INTEGER)),
        _page("queueUrls", "QueueUrl", is_required=True),
    ),
    "ListQueues": Action(
        Structure(
            _member("QueueNamePrefix"),
            _member("NextToken"),
            _member("MaxResults", Scalar.INTEGER),
        ),
        _page("QueueUrls", "QueueUrl"),
    ),
    "PurgeQueue": Action(Structure(_QUEUE), _NOTHING),
    "SetQueueAttributes": Action(
        Structure(_QUEUE, _required("Attributes", _ATTRIBUTES, "Attribute")), _NOTHING
    ),
}

_MESSAGES: Final = {
    "ChangeMessageVisibility": Action(
        Structure(
            _QUEUE, _required("ReceiptHandle"), _required("VisibilityTimeout", Scalar.INTEGER)
        ),
        _NOTHING,
    ),
    "ChangeMessageVisibilityBatch": _batch(
        "ChangeMessageVisibilityBatch",
        Structure(
            _required("Id"),
            _required("ReceiptHandle"),
            _member("VisibilityTimeout", Scalar.INTEGER),
        ),
        Structure(_required("Id")),
    ),
    "DeleteMessage": Action(Structure(_QUEUE, _required("ReceiptHandle")), _NOTHING),
    "DeleteMessageBatch": _batch(
        "DeleteMessageBatch",
        Structure(_required("Id"), _required("ReceiptHandle")),
        Structure(_required("Id")),
    ),
    "ReceiveMessage": Action(
        Structure(
            _QUEUE,
            _member("AttributeNames", _STRINGS, "AttributeName"),
            _member("MessageSystemAttributeNames", _STRINGS, "MessageSystemAttributeName"),
            _member("MessageAttributeNames", _STRINGS, "MessageAttributeName"),
            _member("MaxNumberOfMessages", Scalar.INTEGER),
            _member("VisibilityTimeout", Scalar.INTEGER),
            _member("WaitTimeSeconds", Scalar.INTEGER),
            _member("ReceiveRequestAttemptId"),
        ),
        Structure(_member("Messages", List(_MESSAGE), "Message")),
    ),
    "SendMessage": Action(
        Structure(_QUEUE, *_SENT),
        Structure(
            _member("MD5OfMessageBody"),
            _member("MD5OfMessageAttributes"),
            _member("MD5OfMessageSystemAttributes"),
            _member("MessageId"),
            _member("SequenceNumber"),
        ),
    ),
    "SendMessageBatch": _batch(
        "SendMessageBatch",
        Structure(_required("Id"), *_SENT),
        Structure(
            _required("Id"),
            _required("MessageId"),
            _required("MD5OfMessageBody"),
            _member("MD5OfMessageAttributes"),
            _member("MD5OfMessageSystemAttributes"),
            _member("SequenceNumber"),
        ),
    ),
}

_MOVE_TASKS: Final = {
    "CancelMessageMoveTask": Action(
        Structure(_required("TaskHandle")),
        Structure(_member("ApproximateNumberOfMessagesMoved", Scalar.LONG)),
    ),
    "ListMessageMoveTasks": Action(
        Structure(_required("SourceArn"), _member("MaxResults", Scalar.INTEGER)),
        Structure(_member("Results", List(_MOVE_TASK), "ListMessageMoveTasksResultEntry")),
    ),
    "StartMessageMoveTask": Action(
        Structure(
            _required("SourceArn"),
            _member("DestinationArn"),
            _member("MaxNumberOfMessagesPerSecond", Scalar.INTEGER),
        ),
        Structure(_member("TaskHandle")),
    ),
}

_TAGS_AND_PERMISSIONS: Final = {
    "AddPermission": Action(
        Structure(
            _QUEUE,
            _required("Label"),
            _required("AWSAccountIds", _STRINGS, "AWSAccountId"),
            _required("Actions", _STRINGS, "ActionName"),
        ),
        _NOTHING,
    ),
    "ListQueueTags": Action(Structure(_QUEUE), Structure(_member("Tags", _TAGS, "Tag"))),
    "RemovePermission": Action(Structure(_QUEUE, _required("Label")), _NOTHING),
    "TagQueue": Action(Structure(_QUEUE, _required("Tags", _TAGS, "Tag")), _NOTHING),
    "UntagQueue": Action(Structure(_QUEUE, _required("TagKeys", _STRINGS, "TagKey")), _NOTHING),
}

#: All actions of SQS, by name.
ACTIONS: Final[dict[str, Action]] = {
    **_QUEUES,
    **_MESSAGES,
    **_MOVE_TASKS,
    **_TAGS_AND_PERMISSIONS,
}
#: Actions that a queue's own address does not take.
NOT_OF_A_QUEUE: Final = frozenset({"CreateQueue", "ListQueues"})
