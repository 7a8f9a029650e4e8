"""Events of SQS for Lambda functions, as AWS documents them."""

from __future__ import annotations

from typing import Any

ARN = "arn:aws:sqs:us-east-2:123456789012:orders"


def record(message_id: str, body: str, group: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a record of a standard queue, or of a FIFO queue if a group is given."""
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    }
    if group is not None:
        attributes |= {
            "SequenceNumber": "18849496460467696128",
            "MessageGroupId": group,
            "MessageDeduplicationId": f"dedup-{message_id}",
        }
    return {
        "messageId": message_id,
        "receiptHandle": f"handle-{message_id}",
        "body": body,
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN if group is None else f"{ARN}.fifo",
        "awsRegion": "us-east-2",
    } | more


def event(*records: dict[str, Any]) -> dict[str, Any]:
    """Return an event with these records."""
    return {"Records": list(records)}


def failed(answer: Any) -> list[str]:
    """Return the ids in a partial batch response."""
    assert list(answer) == ["batchItemFailures"]
    assert all(list(one) == ["itemIdentifier"] for one in answer["batchItemFailures"])
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


class Context:
    """A Lambda context with some time left."""

    def __init__(self, left_ms: int = 30_000) -> None:
        self.left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until the function is stopped."""
        return self.left_ms
