"""DeleteMessage and ChangeMessageVisibility, and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from durableq.client.coroutines import commit, read, write
from durableq.model.errors import Conflict
from durableq.model.message import Completion, Message, Outcome, Receipt
from durableq.model.states import State
from durableq.serve.context import Context
from durableq.serve.errors import MESSAGE_NOT_IN_FLIGHT, ServiceError
from durableq.serve.sqs.batches import answer, batch_of, failed
from durableq.serve.sqs.catalog import ServedQueue, named
from durableq.serve.sqs.clock import now_ms
from durableq.serve.sqs.handles import Handle, parse
from durableq.serve.sqs.in_flight import in_flight
from durableq.serve.sqs.reading import (
    Parameters,
    bounded,
    invalid_value,
    missing,
    required_text,
)
from durableq.serve.sqs.receiving import MAX_VISIBILITY_SECONDS
from durableq.store.core import Capability, Extend, Settle, Store

#: A lease that is taken up again to be ended or changed at once.
_LEASE_AGAIN_MS: Final = 5_000
_EXPIRED = "The receipt handle has expired."
_GONE = "Message does not exist or is not available for visibility timeout change."


async def delete_message(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a received message: DeleteMessage. Deleting it again is no error."""
    queue = await named(context, parameters)
    handle = _handle(queue, parameters)
    (error,) = await _delete(context, queue, [handle])
    if error is not None:
        raise error
    return {}


async def delete_message_batch(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete up to ten received messages: DeleteMessageBatch."""
    queue = await named(context, parameters)
    entries = batch_of(parameters, "DeleteMessageBatchRequestEntry")
    handles, refused = _handles(queue, entries)
    errors = await _delete(context, queue, [handle for _, handle in handles])
    return _answer([entry for entry, _ in handles], errors, refused)


async def _delete(
    context: Context, queue: ServedQueue, handles: Sequence[Handle]
) -> list[ServiceError | None]:
    """End messages in success, in one commit; return an error for each, or None.

    On a standard queue a handle is valid until the next receive of its message; that of an older
    receive deletes nothing, and is no error, as on AWS. On a FIFO queue a handle ends with its
    lease.
    """
    if not handles:
        return []
    expired = await _expired(context.store, handles) if queue.is_fifo else set()
    living = [handle for handle in handles if handle not in expired]
    outcomes = await _settle(context, queue, living)
    stale = [handle for handle, outcome in outcomes.items() if outcome is Outcome.STALE]
    if not queue.is_fifo:
        outcomes |= await _settle_again(context, queue, stale)
    return [
        invalid_value(handle, "ReceiptHandle", _EXPIRED)
        if outcomes.get(handle, Outcome.STALE) is Outcome.STALE
        else None
        for handle in handles
    ]


async def _settle(
    context: Context, queue: ServedQueue, handles: Sequence[Handle]
) -> dict[Handle, Outcome]:
    if not handles:
        return {}
    completions = [Completion(handle.receipt) for handle in handles]
    settled: list[Outcome] = await commit(context.store, Settle(completions))
    in_flight(context.store).note(queue.key, -settled.count(Outcome.DONE))
    return dict(zip(handles, settled, strict=True))


async def _settle_again(
    context: Context, queue: ServedQueue, handles: Sequence[Handle]
) -> dict[Handle, Outcome]:
    """End messages whose leases have ended; DONE too for those that were received since."""
    outcomes, leased = {}, []
    for handle in handles:
        try:
            is_leased = await _lease_again(context, handle) == handle.receipt
        except Conflict:
            outcomes[handle] = Outcome.STALE
        else:
            outcomes[handle] = Outcome.DONE
            leased += [handle] if is_leased else []
    return outcomes | await _settle(context, queue, leased)


async def _lease_again(context: Context, handle: Handle) -> Receipt | None:
    """Lease the message of a standard queue whose lease has ended, if it is there.

    Returns:
        The receipt under which it is in flight now: that of the handle, or of a later receive.
        None: it is not in flight.

    Raises:
        Conflict: it was given back, and only a receive can lease it.
    """
    endpoint = context.store.require(Capability.ENDPOINT)
    counts = handle.receive_count, handle.recovery_count
    receipt: Receipt | None = await write(
        context.store, endpoint.lease_again, handle.receipt, *counts, _LEASE_AGAIN_MS
    )
    return receipt


async def _expired(store: Store, handles: Sequence[Handle]) -> set[Handle]:
    """Return the handles of messages that are there, and whose leases have ended."""
    messages = await read(store, _messages, store, handles)
    return {
        handle
        for handle in handles
        if (one := messages[handle]) is not None and not _is_leased(one)
    }


def _messages(store: Store, handles: Sequence[Handle]) -> dict[Handle, Message | None]:
    inspect = store.require(Capability.INSPECT)
    return {handle: inspect.message(handle.receipt.message_id) for handle in handles}


def _is_leased(message: Message) -> bool:
    return message.state is State.IN_FLIGHT and message.lease_left_ms > 0


async def change_message_visibility(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Change the end of a lease: ChangeMessageVisibility. With 0, the message is ready at once."""
    queue = await named(context, parameters)
    handle, seconds = _handle(queue, parameters), _seconds(context, queue, parameters)
    (error,) = await _change(context, queue, [(seconds, handle)])
    if error is not None:
        raise error
    return {}


async def change_message_visibility_batch(
    context: Context, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Change the ends of up to ten leases: ChangeMessageVisibilityBatch."""
    queue = await named(context, parameters)
    entries = batch_of(parameters, "ChangeMessageVisibilityBatchRequestEntry")
    found, refused = _handles(queue, entries)
    changes: list[tuple[int, Handle]] = []
    changed = []
    for entry, handle in found:
        try:
            changes.append((_seconds(context, queue, entry), handle))
            changed.append(entry)
        except ServiceError as error:
            refused.append(failed(entry, error))
    return _answer(changed, await _change(context, queue, changes), refused)


async def _change(
    context: Context, queue: ServedQueue, changes: Sequence[tuple[int, Handle]]
) -> list[ServiceError | None]:
    """Let leases end so many seconds from now, in order; return an error for each, or None.

    A handle may come twice: the later change meets what the earlier one has left.
    """
    errors: list[ServiceError | None] = []
    for seconds, alike in groupby(changes, itemgetter(0)):
        handles = [handle for _, handle in alike]
        outcomes = await _extend(context, queue, handles, seconds * 1000)
        errors += map(_not_changed, handles, outcomes)
    return errors


async def _extend(
    context: Context, queue: ServedQueue, handles: Sequence[Handle], visibility_ms: int
) -> list[Outcome]:
    """Change leases.

    On a standard queue any handle of a message does, as on AWS: also after the lease, and that of
    an older receive.
    """
    expired = await _expired(context.store, handles) if queue.is_fifo else set()
    receipts = [handle.receipt for handle in handles if handle not in expired]
    extended = await commit(context.store, Extend(receipts, visibility_ms)) if receipts else []
    found = iter(extended)
    outcomes = [Outcome.STALE if one in expired else next(found) for one in handles]
    for place, handle in enumerate(handles):
        if outcomes[place] is Outcome.STALE and not queue.is_fifo:
            outcomes[place] = await _extend_again(context, handle, visibility_ms)
    return outcomes


async def _extend_again(context: Context, handle: Handle, visibility_ms: int) -> Outcome:
    """Change the lease that a message has, under whatever receipt, or give it one."""
    try:
        receipt = await _lease_again(context, handle)
    except Conflict:
        return Outcome.STALE
    if receipt is not None:
        await commit(context.store, Extend([receipt], visibility_ms))
    return Outcome.DONE


def _not_changed(handle: Handle, outcome: Outcome) -> ServiceError | None:
    if outcome is Outcome.GONE:
        return invalid_value(handle, "ReceiptHandle", _GONE)
    if outcome is Outcome.STALE:
        return ServiceError(MESSAGE_NOT_IN_FLIGHT, "The specified message isn't in flight.")
    return None


def _handle(queue: ServedQueue, parameters: Parameters) -> Handle:
    return parse(required_text(parameters, "ReceiptHandle"), queue.key)


def _handles(
    queue: ServedQueue, entries: list[dict[str, Any]]
) -> tuple[list[tuple[dict[str, Any], Handle]], list[dict[str, Any]]]:
    """Return the entries whose handles are valid, with them, and the answers of the others."""
    found, refused = [], []
    for entry in entries:
        try:
            found.append((entry, _handle(queue, entry)))
        except ServiceError as error:
            refused.append(failed(entry, error))
    return found, refused


def _seconds(context: Context, queue: ServedQueue, parameters: Parameters) -> int:
    """Return the seconds from now to the end of a lease.

    Raises:
        ServiceError: out of bounds, or the lease would be longer than 12 hours in all.
    """
    most = MAX_VISIBILITY_SECONDS
    reason = f"VisibilityTimeout must be an integer between 0 and {most}."
    seconds = bounded(parameters, "VisibilityTimeout", 0, most, reason)
    if seconds is None:
        raise missing("VisibilityTimeout")
    received_at_ms = _handle(queue, parameters).received_at_ms
    held = max(0, now_ms(context) - received_at_ms) // 1000
    if seconds and held + seconds > most:
        raise invalid_value(
            seconds,
            "VisibilityTimeout",
            f"Total VisibilityTimeout for the message is beyond the limit [{most} seconds]",
        )
    return seconds


def _answer(
    entries: Sequence[dict[str, Any]],
    errors: Sequence[ServiceError | None],
    refused: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the answer of a batch."""
    successful = []
    for entry, error in zip(entries, errors, strict=True):
        if error is None:
            successful.append({"Id": entry["Id"]})
        else:
            refused.append(failed(entry, error))
    return answer(successful, refused)
