"""Records of SQS events as messages, and messages as such records."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput, Reject
from durableq.model.message import Message, Receipt, State
from durableq.model.text import shown, visible

RECORDS: Final = "Records"
#: Attributes of SQS beside those of the sender.
GROUP: Final = "MessageGroupId"
DEDUPLICATION: Final = "MessageDeduplicationId"
SEQUENCE: Final = "SequenceNumber"
#: The value of `key=` that takes SQS's own id, which is the same at every delivery.
MESSAGE_ID: Final = "messageId"
#: The account in the ARN of a queue that is not in AWS: that of AWS's own examples.
ACCOUNT: Final = "123456789012"
_SOURCE: Final = "aws:sqs"


def records_of(event: Any) -> list[Mapping[str, Any]]:
    """Return the records of an event of SQS.

    Raises:
        InvalidInput: it is none, so the invocation fails and SQS delivers all of them again.
    """
    records = event.get(RECORDS) if isinstance(event, Mapping) else None
    if not isinstance(records, list):
        raise InvalidInput(
            f"The event is not of SQS: it is {shown(event)}, without a list of {RECORDS}. Map an "
            "SQS queue to this function."
        )
    for record in records:
        if not isinstance(record, Mapping) or record.get("eventSource") != _SOURCE:
            raise InvalidInput(
                f"A record of the event is not of SQS: {shown(record)}. Map an SQS queue to this "
                "function, and no other source."
            )
        for name in (MESSAGE_ID, "receiptHandle", "body"):
            if not isinstance(record.get(name), str):
                raise InvalidInput(f"A record of the event has no {name}: {shown(record)}.")
    return records


def is_ordered(record: Mapping[str, Any]) -> bool:
    """Return whether a record is from a FIFO queue.

    A message of a standard queue may have a group too, for fairness, which orders nothing.
    """
    arn = record.get("eventSourceARN")
    return SEQUENCE in _system(record) or (isinstance(arn, str) and arn.endswith(".fifo"))


def group_of(record: Mapping[str, Any]) -> str | None:
    """Return the group of a record; None for none."""
    return _system(record).get(GROUP)


def message_of(record: Mapping[str, Any], queue: str, key_from: str | None) -> Message:
    """Return a record as a message that was received.

    Args:
        record: of `records_of`.
        queue: the name of the queue whose handler gets it.
        key_from: `messageId`, or the name of the attribute with the idempotency key.

    Raises:
        InvalidInput: it has no such attribute, or a number cannot be read.
    """
    system, message_id = _system(record), record[MESSAGE_ID]
    sent_at_ms = _number(system, "SentTimestamp", 0)
    attributes = _attributes(record.get("messageAttributes") or {})
    return Message(
        id=message_id,
        queue=queue,
        body=_encoded(record["body"]),
        key=None if key_from is None else _key(record, key_from, attributes),
        attributes=json.dumps(attributes, ensure_ascii=False) if attributes else None,
        priority=0,
        state=State.IN_FLIGHT,
        receive_count=_number(system, "ApproximateReceiveCount", 1),
        recovery_count=0,
        sent_at_ms=sent_at_ms,
        enqueued_at_ms=sent_at_ms,
        delayed_until_ms=0,
        lease_left_ms=0,
        source_queue=None,
        receipt=Receipt(queue, message_id, record["receiptHandle"]),
        group=system.get(GROUP),
    )


def _system(record: Mapping[str, Any]) -> Mapping[str, str]:
    return record.get("attributes") or {}


def _number(system: Mapping[str, str], name: str, otherwise: int) -> int:
    try:
        return int(system.get(name, otherwise))
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} is not a number, but {shown(system[name])}.") from None


def _encoded(body: str) -> codec.Encoded:
    """Return a body as it is stored: JSON as it is, any other text as a string."""
    with suppress(InvalidBody):
        codec.decode(body)
        return body
    return codec.encode(body)


def _attributes(given: Mapping[str, Mapping[str, Any]]) -> dict[str, str | int | float]:
    """Return the sender's attributes; binary ones stay base64."""
    found: dict[str, str | int | float] = {}
    for name, value in given.items():
        kind = str(value.get("dataType", "String")).partition(".")[0]
        if kind == "Binary":
            found[name] = str(value.get("binaryValue", ""))
            continue
        text = str(value.get("stringValue", ""))
        found[name] = _numeric(name, text) if kind == "Number" else text
    return found


def _numeric(name: str, text: str) -> int | float:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise InvalidInput(f"The attribute {shown(name)} is not a number, but {shown(text)}.")


def _key(
    record: Mapping[str, Any], key_from: str, attributes: Mapping[str, str | int | float]
) -> str:
    if key_from == MESSAGE_ID:
        return str(record[MESSAGE_ID])
    found = attributes.get(key_from) or _system(record).get(key_from)
    if not found:
        raise InvalidInput(
            f"The message has no attribute {shown(key_from)}, which holds its key. Send it with "
            f"one, or use entry(..., key={MESSAGE_ID!r})."
        )
    return str(found)


# ---- the other way


def record_of(message: Message, receipt: Receipt, region: str, *, ordered: bool) -> dict[str, Any]:
    """Return a message as a record of an SQS event.

    Args:
        message: received; its body as JSON text, or bytes that are UTF-8.
        receipt: of this delivery.
        region: of AWS, for the name of the queue.
        ordered: whether the order of its group is kept, as in a FIFO queue.

    Raises:
        Reject: its body is bytes that are no text, which SQS does not carry.
    """
    body = _text(message)
    return {
        MESSAGE_ID: message.id,
        "receiptHandle": str(receipt),
        "body": body,
        "attributes": _system_attributes(message, ordered=ordered),
        "messageAttributes": {
            name: _typed(value)
            for name, value in codec.decode_attributes(message.attributes).items()
        },
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": _SOURCE,
        "eventSourceARN": f"arn:aws:sqs:{region}:{ACCOUNT}:{message.queue}",
        "awsRegion": region,
    }


def _text(message: Message) -> str:
    if isinstance(message.body, str):
        return message.body
    try:
        return message.body.decode()
    except UnicodeDecodeError:
        raise Reject(
            f"The body of message {visible(message.id)} is bytes that are not UTF-8, and a body "
            "of SQS is text. Send JSON, or base64."
        ) from None


def _system_attributes(message: Message, *, ordered: bool) -> dict[str, str]:
    is_first = message.receive_count <= 1
    first_ms = time.time_ns() // 1_000_000 if is_first else message.enqueued_at_ms
    found = {
        "ApproximateReceiveCount": str(message.receive_count),
        "SentTimestamp": str(message.sent_at_ms),
        "SenderId": "durableq",
        "ApproximateFirstReceiveTimestamp": str(first_ms),
    }
    if message.group is not None:
        found[GROUP] = message.group
    if message.key is not None:
        found[DEDUPLICATION] = message.key
    if ordered:
        found[SEQUENCE] = message.id.zfill(20)
    return found


def _typed(value: str | int | float) -> dict[str, Any]:
    """Return an attribute as SQS delivers it to Lambda."""
    return {
        "stringValue": value if isinstance(value, str) else json.dumps(value),
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "String" if isinstance(value, str) else "Number",
    }
