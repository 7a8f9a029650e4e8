"""The smoke tests' endpoint, waits for facts, and names of queues.

Runs in the environment of the foreign programs, without this tree's packages.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any, Final

import boto3

ENDPOINT: Final = os.environ["FOREIGN_ENDPOINT"]
ACCOUNT: Final = "000000000000"
#: The 23 actions of SQS.
ACTIONS: Final = frozenset(
    [
        "AddPermission",
        "CancelMessageMoveTask",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "CreateQueue",
        "DeleteMessage",
        "DeleteMessageBatch",
        "DeleteQueue",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "RemovePermission",
        "SendMessage",
        "SendMessageBatch",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ]
)
#: Variables of a program that is to use the endpoint.
ENVIRONMENT: Final = {
    "AWS_ENDPOINT_URL_SQS": ENDPOINT,
    "AWS_ENDPOINT_URL_DYNAMODB": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "payments",
}
_NUMBERS = itertools.count(1)


def new_name(of: str) -> str:
    """Return a queue's name that no other test uses."""
    return f"{of}-{os.getpid()}-{next(_NUMBERS)}"


def client(service: str = "sqs") -> Any:
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def wait_for(fact: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Return `fact()` as soon as it is true; fail at the deadline."""
    end = time.monotonic() + seconds
    while not (seen := fact()):
        assert time.monotonic() < end, f"Last seen: {seen!r}"
        time.sleep(0.05)
    return seen
