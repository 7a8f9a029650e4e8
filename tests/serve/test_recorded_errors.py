"""Errors have the types, codes and statuses that AWS has answered with, in both protocols."""

import json

import pytest

from durableq.serve import errors
from durableq.serve.errors import Kind, ServiceError
from durableq.serve.wire import answers
from durableq.serve.wire.requests import Protocol, Service

_OWN = "AWS.SimpleQueueService."
#: As AWS has answered: the type in JSON, its namespace, the code of the Query protocol, the status.
RECORDED = [
    (
        errors.BATCH_REQUEST_TOO_LONG,
        "BatchRequestTooLong",
        "sqs",
        _OWN + "BatchRequestTooLong",
        400,
    ),
    (errors.INVALID_ATTRIBUTE_NAME, "InvalidAttributeName", "sqs", "InvalidAttributeName", 400),
    (errors.INVALID_ATTRIBUTE_VALUE, "InvalidAttributeValue", "sqs", "InvalidAttributeValue", 400),
    (
        errors.INVALID_BATCH_ENTRY_ID,
        "InvalidBatchEntryId",
        "sqs",
        _OWN + "InvalidBatchEntryId",
        400,
    ),
    (
        errors.INVALID_PARAMETER_VALUE,
        "InvalidParameterValueException",
        "coral",
        "InvalidParameterValue",
        400,
    ),
    (
        errors.MISSING_PARAMETER,
        "MissingRequiredParameterException",
        "coral",
        "MissingParameter",
        400,
    ),
    (
        errors.PURGE_QUEUE_IN_PROGRESS,
        "PurgeQueueInProgress",
        "sqs",
        f"{_OWN}PurgeQueueInProgress",
        403,
    ),
    (errors.QUEUE_DOES_NOT_EXIST, "QueueDoesNotExist", "sqs", f"{_OWN}NonExistentQueue", 400),
    (errors.QUEUE_NAME_EXISTS, "QueueNameExists", "sqs", "QueueAlreadyExists", 400),
    (
        errors.RESOURCE_NOT_FOUND,
        "ResourceNotFoundException",
        "sqs",
        "ResourceNotFoundException",
        404,
    ),
    (
        errors.TOO_MANY_ENTRIES_IN_BATCH_REQUEST,
        "TooManyEntriesInBatchRequest",
        "sqs",
        f"{_OWN}TooManyEntriesInBatchRequest",
        400,
    ),
]
NAMESPACES = {"sqs": "com.amazonaws.sqs", "coral": "com.amazon.coral.service"}


@pytest.mark.parametrize(("kind", "name", "namespace", "code", "status"), RECORDED)
def test_an_error_is_written_as_it_was_recorded(
    kind: Kind, name: str, namespace: str, code: str, status: int
) -> None:
    raised = ServiceError(kind, "A sentence.")
    found = answers.error(Protocol.JSON, Service.SQS, raised, "id")
    assert found.status == status
    assert json.loads(found.body) == {
        "__type": f"{NAMESPACES[namespace]}#{name}",
        "message": "A sentence.",
    }
    assert (b"x-amzn-query-error", f"{code};Sender".encode()) in found.headers
    found = answers.error(Protocol.QUERY, Service.SQS, raised, "id")
    assert found.status == status
    written = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>A sentence.</Message>"
    assert written.encode() in found.body
