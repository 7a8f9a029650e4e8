"""SendMessage and SendMessageBatch.

A message is answered when the transaction that stores it has committed. Sends of different requests
share commits (`durableq.client.coroutines`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Final, NamedTuple

from durableq.client import coroutines
from durableq.model.errors import Conflict, InvalidInput
from durableq.model.flow.sending import SHED
from durableq.model.message import Draft
from durableq.model.wire_message import TypedAttribute, to_draft
from durableq.serve.context import Context
from durableq.serve.errors import INVALID_PARAMETER_VALUE, REQUEST_THROTTLED, ServiceError
from durableq.serve.sqs import digests
from durableq.serve.sqs.batches import answer, batch_of, check_batch_size, failed
from durableq.serve.sqs.catalog import ServedQueue, named
from durableq.serve.sqs.contents import (
    TRACE_HEADER,
    Attributes,
    attributes_of,
    body_of,
    check_size,
    delay_of,
    identifier,
    size_of,
    system_attributes_of,
)
from durableq.serve.sqs.ids import message_id, sequence_number
from durableq.serve.sqs.reading import Parameters, invalid, invalid_value, missing
from durableq.serve.sqs.refusals import translated

#: Kept with a message if it is not the account of the queue.
SENDER_ID: Final = "SenderId"
_NO_DEDUPLICATION: Final = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
    "provided explicitly"
)
_NOT_FOR_TYPE: Final = "The request include parameter that is not valid for this queue type."


class _Outgoing(NamedTuple):
    """A checked message, and its digests."""

    draft: Draft
    digests: dict[str, str]


async def send_message(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a message: SendMessage."""
    queue = await named(context, parameters)
    outgoing = _outgoing(context, queue, parameters)
    (id_,) = await _send(context, queue, [outgoing.draft])
    if isinstance(id_, ServiceError):
        raise id_
    return _answer(context, queue, outgoing, id_)


async def send_message_batch(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send up to ten messages, those that are valid: SendMessageBatch."""
    queue = await named(context, parameters)
    entries = batch_of(parameters, "SendMessageBatchRequestEntry")
    check_batch_size(entries)
    if queue.is_fifo:
        for entry in entries:
            _check_fifo_entry(queue, entry)
    outgoing, refused = [], []
    for entry in entries:
        try:
            outgoing.append((entry, _outgoing(context, queue, entry)))
        except ServiceError as error:
            refused.append(failed(entry, error))
    sent = await _send_all(context, queue, [one.draft for _, one in outgoing])
    successful = []
    for (entry, one), id_ in zip(outgoing, sent, strict=True):
        if isinstance(id_, ServiceError):
            refused.append(failed(entry, id_))
        else:
            successful.append({"Id": entry["Id"]} | _answer(context, queue, one, id_))
    return answer(successful, refused)


async def _send(
    context: Context, queue: ServedQueue, drafts: list[Draft]
) -> list[str | ServiceError]:
    """Store messages, all or none, and return their ids in the store.

    A queue that is full may drop messages, which are errors then: they are not stored.

    Raises:
        DurableQError: none was stored.
    """
    ids = await coroutines.send(context.store, queue.key, lambda: drafts)
    dropped = f"Queue {queue.name.name} is full: it dropped the message."
    return [ServiceError(REQUEST_THROTTLED, dropped) if id_ == SHED else id_ for id_ in ids]


async def _send_all(
    context: Context, queue: ServedQueue, drafts: list[Draft]
) -> list[str | ServiceError]:
    """Store messages in one commit; if they are refused as one, each by itself."""
    if len(drafts) > 1:
        with suppress(Conflict, InvalidInput):
            return await _send(context, queue, drafts)
    answers: list[str | ServiceError] = []
    for one in drafts:
        try:
            answers += await _send(context, queue, [one])
        except (Conflict, InvalidInput) as error:
            answers.append(translated(error))
    return answers


def _check_fifo_entry(queue: ServedQueue, entry: Parameters) -> None:
    """Check what AWS checks of all entries of a batch, whose error is that of the batch.

    Raises:
        ServiceError: an entry has no group, or nothing to find duplicates by.
    """
    if entry.get("MessageDeduplicationId") is None and not queue.is_content_based:
        raise invalid(_NO_DEDUPLICATION)
    if entry.get("MessageGroupId") is None:
        raise ServiceError(
            INVALID_PARAMETER_VALUE, "The request must contain the parameter MessageGroupId."
        )


def _outgoing(context: Context, queue: ServedQueue, parameters: Parameters) -> _Outgoing:
    """Check a message, and encode it.

    Raises:
        ServiceError: it is not valid.
    """
    body = body_of(parameters)
    size = size_of(body, parameters.get("MessageAttributes"))
    check_size(size, queue.settings.max_body_bytes)
    attributes = attributes_of(parameters)
    system = system_attributes_of(parameters)
    deduplication_id = identifier(parameters, "MessageDeduplicationId")
    group = identifier(parameters, "MessageGroupId")
    delay = delay_of(parameters)
    if queue.is_fifo:
        deduplication_id = _check_fifo(queue, body, group, deduplication_id, delay)
        delay = None
    elif deduplication_id is not None:
        reason = "The request includes a parameter that is not valid for this queue type."
        raise invalid_value(deduplication_id, "MessageDeduplicationId", reason)
    kept = {name: str(value["StringValue"]) for name, value in system.items()}
    if context.trace_header:
        kept.setdefault(TRACE_HEADER, context.trace_header)
    if context.account != queue.name.account:
        kept[SENDER_ID] = context.account
    draft = to_draft(
        body,
        {name: _typed(value) for name, value in attributes.items()},
        kept,
        deduplicates_in_group=queue.deduplicates_in_group,
        group=group,
        deduplication_id=deduplication_id,
        delay=delay,
    )
    return _Outgoing(draft, _digests(body, attributes, system))


def _check_fifo(
    queue: ServedQueue, body: str, group: str | None, given: str | None, delay: int | None
) -> str:
    """Check the rules of a FIFO queue, and return the deduplication id.

    Raises:
        ServiceError: one is not kept.
    """
    if delay:
        raise invalid_value(delay, "DelaySeconds", _NOT_FOR_TYPE)
    if group is None:
        raise missing("MessageGroupId")
    if given is not None:
        return given
    if not queue.is_content_based:
        raise invalid(_NO_DEDUPLICATION)
    return hashlib.sha256(body.encode()).hexdigest()


def _typed(value: dict[str, Any]) -> TypedAttribute:
    content = value["BinaryValue"] if "BinaryValue" in value else value["StringValue"]
    return TypedAttribute(value["DataType"], content)


def _digests(body: str, attributes: Attributes, system: Attributes) -> dict[str, str]:
    found = {
        "MD5OfMessageBody": digests.of_body(body),
        "MD5OfMessageAttributes": digests.of_attributes(attributes),
        "MD5OfMessageSystemAttributes": digests.of_attributes(system),
    }
    return {name: digest for name, digest in found.items() if digest is not None}


def _answer(context: Context, queue: ServedQueue, outgoing: _Outgoing, id_: str) -> dict[str, Any]:
    answered = {"MessageId": message_id(context.store, id_), **outgoing.digests}
    if queue.is_fifo:
        answered["SequenceNumber"] = sequence_number(int(id_))
    return answered
