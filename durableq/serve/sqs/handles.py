"""Receipt handles and task handles: opaque to a client, and read here again."""

from __future__ import annotations

import base64
import json
import re
from typing import Final, NamedTuple

from durableq.model.errors import InvalidInput
from durableq.model.message import Receipt
from durableq.serve.errors import RECEIPT_HANDLE_IS_INVALID, ServiceError
from durableq.serve.sqs.reading import invalid

_MAX_CHARS: Final = 2048
#: The time of the receive, the counts of receives and of recoveries, and the receipt: queue, id of
#: the row, token.
_CONTENT: Final = re.compile(
    r"([0-9]{1,19}) ([0-9]{1,10}) ([0-9]{1,10}) ([^: ]+:[0-9]{1,19}:[0-9a-f]{32})", re.ASCII
)


class Handle(NamedTuple):
    """The receipt of a delivery, and the state of its message then.

    Args:
        receipt: of the delivery.
        received_at_ms: the time of the receive, as ms of the wall clock.
        receive_count: the receives of the message, with this one.
        recovery_count: how often it has come back from a dead-letter queue.
    """

    receipt: Receipt
    received_at_ms: int
    receive_count: int
    recovery_count: int

    def __str__(self) -> str:
        _, *counts = self
        content = " ".join(map(str, (*counts, self.receipt)))
        return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def parse(text: str, queue: str) -> Handle:
    """Read a receipt handle.

    Args:
        text: the handle.
        queue: the name in the store of the queue that it must be of.

    Raises:
        ServiceError: it is none, or that of another queue.
    """
    try:
        handle = _parsed(text)
    except (ValueError, InvalidInput):
        handle = None
    if handle is None or handle.receipt.queue != queue:
        raise ServiceError(
            RECEIPT_HANDLE_IS_INVALID,
            f'The input receipt handle "{text}" is not a valid receipt handle.',
        )
    return handle


def _parsed(text: str) -> Handle | None:
    if len(text) > _MAX_CHARS or not text.isascii():
        return None
    padded = text + "=" * (-len(text) % 4)
    content = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    found = _CONTENT.fullmatch(content)
    if found is None:
        return None
    *counts, receipt = found.groups()
    handle = Handle(Receipt.parse(receipt), *map(int, counts))
    return handle if str(handle) == text.rstrip("=") else None


def move_handle(task_id: str, source_arn: str) -> str:
    """Return the handle of a move task."""
    content = json.dumps({"taskId": task_id, "sourceArn": source_arn}, separators=(",", ":"))
    return base64.b64encode(content.encode()).decode()


def parse_move(text: str) -> tuple[str, str]:
    """Return the id of a move task, and the ARN of its source.

    Raises:
        ServiceError: it is no handle of a task.
    """
    try:
        content = json.loads(base64.b64decode(text, validate=True))
        task_id, source_arn = content["taskId"], content["sourceArn"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise invalid("Value for parameter TaskHandle is invalid.") from None
    if not (isinstance(task_id, str) and isinstance(source_arn, str)):
        raise invalid("Value for parameter TaskHandle is invalid.")
    return task_id, source_arn
