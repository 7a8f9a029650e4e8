"""ReceiveMessage: leases, long polling, and messages as a client gets them.

The messages of a request whose client is gone are given back, uncounted; but not those of a receive
with an attempt id, which its client repeats.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, Final

from durableq.client.coroutines import commit
from durableq.model.limits import FOREVER_MS
from durableq.model.message import Message, Received, Served
from durableq.model.wire_message import (
    DEDUPLICATION_ID,
    GROUP_ID,
    TypedAttribute,
    attributes_of,
    body_of,
    system_attributes_of,
)
from durableq.serve.context import Context
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import digests
from durableq.serve.sqs.attributes import ATTRIBUTES, NO_LEASE_MS, READ_ONLY, unknown
from durableq.serve.sqs.catalog import ServedQueue, find, named
from durableq.serve.sqs.clock import now_ms
from durableq.serve.sqs.contents import identifier
from durableq.serve.sqs.handles import Handle
from durableq.serve.sqs.ids import message_id, sequence_number
from durableq.serve.sqs.in_flight import in_flight, wait_for_room
from durableq.serve.sqs.names import from_key
from durableq.serve.sqs.polling import polls_of, receive
from durableq.serve.sqs.reading import Parameters, bounded, texts
from durableq.store.core import Receive, Release

MAX_MESSAGES: Final = 10
MAX_WAIT_SECONDS: Final = 20
MAX_VISIBILITY_SECONDS: Final = 43_200
#: Seconds after which the shortest lease has ended: a message received with a visibility timeout
#: of 0 is ready when its client gets it.
_AFTER_NO_LEASE: Final = 0.002
_ALL: Final = "All"
#: System attributes of a received message.
SYSTEM_ATTRIBUTES: Final = (
    *("SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"),
    *("SequenceNumber", DEDUPLICATION_ID, GROUP_ID, "AWSTraceHeader", "DeadLetterQueueSourceArn"),
)


async def receive_message(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Receive up to ten messages: ReceiveMessage."""
    queue = await named(context, parameters)
    limit = _whole(parameters, "MaxNumberOfMessages", 1, MAX_MESSAGES) or 1
    seconds = _wait_seconds(queue, parameters)
    shown = _Shown(parameters)
    call = Receive(
        queue.key,
        limit,
        _visibility_ms(queue, parameters),
        served=Served(fill_groups=queue.is_fifo, attempt_id=_attempt_of(queue, parameters)),
    )
    messages = await _received(context, queue, call, seconds)
    if not messages:
        return {}
    if call.served is None or call.served.attempt_id is None:
        receipts = [message.receipt for message in messages if message.receipt]
        context.undo.append(partial(commit, context.store, Release(receipts)))
    before = await _received_before(context, messages)
    return {
        "Messages": [
            shown.message(context, queue, message, before.get(message.source_queue, 0))
            for message in messages
        ]
    }


async def _received_before(context: Context, messages: list[Message]) -> dict[str | None, int]:
    """Return the receives after which messages have died, by the queue in which they did.

    The receives of a message count from 0 in a dead-letter queue of the store; on AWS they go on.
    """
    found: dict[str | None, int] = {}
    for source in {message.source_queue for message in messages} - {None}:
        with suppress(ServiceError):  # the queue was deleted
            name = from_key(str(source))
            found[source] = (await find(context, name)).settings.max_receives
    return found


async def _received(
    context: Context, queue: ServedQueue, call: Receive, seconds: float
) -> list[Message]:
    """Lease messages, and wait for the first if there is none.

    Raises:
        ServiceError: too many messages of a standard queue are in flight.
    """
    if not queue.is_fifo:
        seconds = await wait_for_room(context, queue.key, seconds)
        if seconds < 0:
            return []
    received: Received | None = await receive(context.store, call)
    if received is not None and not received.messages and seconds:
        waiting = polls_of(context.store).receive(call, seconds)
        received = await context.stopping.unless_set(waiting)
    messages = [] if received is None else received.messages
    in_flight(context.store).note(queue.key, len(messages))
    if messages and _lease_ms(queue, call) <= NO_LEASE_MS:
        await asyncio.sleep(_AFTER_NO_LEASE)
    return messages


def _lease_ms(queue: ServedQueue, call: Receive) -> int:
    given = call.visibility_ms
    return queue.settings.visibility_timeout_ms if given is None else given


def _whole(parameters: Parameters, name: str, least: int, most: int) -> int | None:
    reason = f"Must be between {least} and {most}, if provided."
    return bounded(parameters, name, least, most, reason)


def _attempt_of(queue: ServedQueue, parameters: Parameters) -> str | None:
    """Return the id by which a receive of a FIFO queue is repeated; None: it has none.

    It means nothing for a standard queue, to which Spring Cloud AWS sends one all the same.

    Raises:
        ServiceError: it is not valid.
    """
    given = identifier(parameters, "ReceiveRequestAttemptId")
    return given if queue.is_fifo else None


def _wait_seconds(queue: ServedQueue, parameters: Parameters) -> int:
    reason = f"Must be >= 0 and <= {MAX_WAIT_SECONDS}, if provided."
    given = bounded(parameters, "WaitTimeSeconds", 0, MAX_WAIT_SECONDS, reason)
    return int(queue.attribute("ReceiveMessageWaitTimeSeconds")) if given is None else given


def _visibility_ms(queue: ServedQueue, parameters: Parameters) -> int | None:
    """Return the length of the leases; None: that of the queue."""
    reason = f"Must be between 0 and {MAX_VISIBILITY_SECONDS}, if provided."
    seconds = bounded(parameters, "VisibilityTimeout", 0, MAX_VISIBILITY_SECONDS, reason)
    return None if seconds is None else seconds * 1000 or NO_LEASE_MS


class _Shown:
    """The parts of a message that a client asks for.

    Args:
        parameters: of the request.

    Raises:
        ServiceError: there is no such part.
    """

    def __init__(self, parameters: Parameters) -> None:
        asked = [
            *texts(parameters, "AttributeNames"),
            *texts(parameters, "MessageSystemAttributeNames"),
        ]
        for name in asked:
            if name not in (_ALL, *SYSTEM_ATTRIBUTES, *ATTRIBUTES, *READ_ONLY):
                raise unknown(name)
        is_asked = SYSTEM_ATTRIBUTES if _ALL in asked else asked
        self._system = [name for name in SYSTEM_ATTRIBUTES if name in is_asked]
        self._names = texts(parameters, "MessageAttributeNames")

    def message(
        self, context: Context, queue: ServedQueue, message: Message, before: int
    ) -> dict[str, Any]:
        """Return a received message.

        Args:
            context: of the request.
            queue: the queue that it was received from.
            message: the message.
            before: its receives before it died; 0 if it is no dead letter.
        """
        body = body_of(message)
        assert message.receipt is not None  # noqa: S101 - it was received
        counts = message.receive_count, message.recovery_count
        answered: dict[str, Any] = {
            "MessageId": message_id(context.store, message.id, message.recovery_count),
            "ReceiptHandle": str(Handle(message.receipt, now_ms(context), *counts)),
            "MD5OfBody": digests.of_body(body),
            "Body": body,
        }
        if self._system:
            found = _system_attributes(queue, message, before)
            if queue.is_fifo and message.source_queue is not None:
                found[DEDUPLICATION_ID] = answered["MessageId"]
            if system := {name: found[name] for name in self._system if name in found}:
                answered["Attributes"] = system
        if self._names and (attributes := self._attributes(message)):
            answered["MessageAttributes"] = attributes
            answered["MD5OfMessageAttributes"] = digests.of_attributes(attributes)
        return answered

    def _attributes(self, message: Message) -> dict[str, dict[str, Any]]:
        return {
            name: _written(value)
            for name, value in attributes_of(message).items()
            if any(_is_asked(name, asked) for asked in self._names)
        }


def _is_asked(name: str, asked: str) -> bool:
    """Return whether a name is one that was asked for: All, *, .*, the name, or a prefix and .*"""
    if asked in {_ALL, "*", ".*"}:
        return True
    return name.startswith(asked.removesuffix(".*")) if asked.endswith(".*") else name == asked


def _written(value: TypedAttribute) -> dict[str, Any]:
    member = "BinaryValue" if isinstance(value.value, bytes) else "StringValue"
    return {member: value.value, "DataType": value.type}


def _system_attributes(queue: ServedQueue, message: Message, before: int) -> dict[str, str]:
    assert message.envelope is not None  # noqa: S101 - the receive was for the endpoint
    first_ms = message.envelope.first_received_at_ms
    found = {
        "SentTimestamp": str(_sent_at_ms(queue, message)),
        "ApproximateReceiveCount": str(before + message.receive_count),
        **system_attributes_of(message),
    }
    found.setdefault("SenderId", queue.name.account)
    if first_ms != FOREVER_MS:
        found["ApproximateFirstReceiveTimestamp"] = str(first_ms)
    if queue.is_fifo:
        found["SequenceNumber"] = sequence_number(message.envelope.sequence)
    if message.source_queue is not None:
        found["DeadLetterQueueSourceArn"] = from_key(message.source_queue).arn
    return found


def _sent_at_ms(queue: ServedQueue, message: Message) -> int:
    """Return when a message was sent; a burial in a FIFO queue, and a redrive, send it anew."""
    is_anew = message.recovery_count or (queue.is_fifo and message.source_queue is not None)
    return message.enqueued_at_ms if is_anew else message.sent_at_ms
