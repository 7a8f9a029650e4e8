"""Queues: created, found, listed, purged and deleted."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from durableq.client.coroutines import read, write
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.queues import check_queue_name
from durableq.serve.context import Context
from durableq.serve.errors import (
    PURGE_QUEUE_IN_PROGRESS,
    QUEUE_DELETED_RECENTLY,
    QUEUE_DOES_NOT_EXIST,
    QUEUE_NAME_EXISTS,
    ServiceError,
)
from durableq.serve.sqs import catalog, documents
from durableq.serve.sqs.attributes import REDRIVE_POLICY, checked, defaults
from durableq.serve.sqs.catalog import ServedQueue
from durableq.serve.sqs.changing import create, redrive_of, same_policy
from durableq.serve.sqs.names import QueueName, from_key, new_name, of_url, place
from durableq.serve.sqs.reading import (
    Parameters,
    bounded,
    invalid,
    text,
    texts_by_name,
)
from durableq.serve.sqs.tags import check_tags
from durableq.store.core import Capability, Store

#: The most queues of a page.
MAX_RESULTS: Final = 1000
#: How long a strict server refuses to purge a queue again, and the name of a deleted one.
RECENT_MS: Final = 60_000


async def create_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a queue, or find the one that is there with the same attributes: CreateQueue."""
    given = texts_by_name(parameters, "Attributes")
    tags = texts_by_name(parameters, "tags") or texts_by_name(parameters, "Tags")
    is_fifo = given.get("FifoQueue", "").lower() == "true"
    if text(parameters, "QueueName") == "":
        raise invalid("Queue name cannot be empty")
    name = new_name(_plain_name(parameters), context, is_fifo=is_fifo)
    attributes = checked(given, is_fifo=is_fifo)
    check_tags(tags, name.name)
    await write(context.store, _create, context, name, attributes, tags)
    catalog.forget(context.store, name.key)
    return {"QueueUrl": name.url(context)}


def _create(
    context: Context, name: QueueName, given: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Create a queue, or check the one that is there.

    Raises:
        ServiceError: it has other attributes, or a policy is not valid, or it was just deleted.
        Busy: others create and delete it all the time.
    """
    for _ in range(documents.ATTEMPTS):
        with suppress(UnknownQueue):  # it was deleted meanwhile, or its dead-letter queue was
            if _is_created(context, name, given, tags):
                return
    raise documents.too_busy(name.key)


def _is_created(
    context: Context, name: QueueName, given: Mapping[str, str], tags: Mapping[str, str]
) -> bool:
    """Return whether the queue is there with these attributes; otherwise look again."""
    store = context.store
    found = _find(store, name)
    if found is not None and _is_seen(store, found):
        _check_same(store, found, given)
        return True
    if context.is_strict:
        ago_ms = store.require(Capability.ENDPOINT).deleted_ms_ago(name.key)
        if ago_ms is not None and ago_ms < RECENT_MS:
            raise ServiceError(QUEUE_DELETED_RECENTLY)
    attributes = defaults(is_fifo=name.is_fifo) | dict(given)
    return create(store, name, attributes, tags, None if found is None else found.document)


def _find(store: Store, name: QueueName) -> ServedQueue | None:
    try:
        return catalog.load(store, name)
    except UnknownQueue:
        return None


def _is_seen(store: Store, queue: ServedQueue) -> bool:
    """Return whether a client sees a queue.

    A dead-letter queue that was made together with a queue is seen as soon as it has a message.
    """
    info = store.require(Capability.INSPECT).queue(queue.key)
    is_private = info.dead_letter_queue is None
    return bool(queue.document.version or not is_private or info.counts.present)


def _check_same(store: Store, queue: ServedQueue, given: Mapping[str, str]) -> None:
    """Check that a queue that exists has these attributes.

    Raises:
        ServiceError: one is different.
    """
    present = queue.attributes
    for name, value in given.items():
        if name == REDRIVE_POLICY:
            is_same = same_policy(value, redrive_of(store, queue))
        else:
            is_same = present.get(name, "") == value
        if not is_same:
            raise ServiceError(
                QUEUE_NAME_EXISTS,
                "A queue already exists with the same name and a different value for attribute "
                f"{name}",
            )


async def get_queue_url(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the URL of a queue: GetQueueUrl."""
    plain = _plain_name(parameters)
    account = text(parameters, "QueueOwnerAWSAccountId") or context.account
    name = QueueName(plain, account, context.region)
    if from_key(name.key) != name or "/" in plain:
        raise ServiceError(QUEUE_DOES_NOT_EXIST)
    await catalog.look_up(context, name)
    return {"QueueUrl": name.url(context)}


def _plain_name(parameters: Parameters) -> str:
    """Return the name of a queue, which the request must have.

    Raises:
        ServiceError: it has none.
    """
    name = text(parameters, "QueueName")
    if not name:
        raise invalid(
            "Value for parameter QueueName is invalid. Reason: Must specify a queue name."
        )
    return name


async def list_queues(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the URLs of the queues of the account and region: ListQueues."""
    prefix = text(parameters, "QueueNamePrefix") or ""
    here = place(context.account, context.region)

    def find(after: str, limit: int) -> list[QueueName]:
        endpoint = context.store.require(Capability.ENDPOINT)
        found = endpoint.queue_documents(limit, prefix=prefix, place=here, after=after)
        return [from_key(document.queue) for document in found]

    return await paged(context, parameters, find, "QueueUrls")


async def paged(
    context: Context,
    parameters: Parameters,
    find: Callable[[str, int], list[QueueName]],
    member: str,
) -> dict[str, Any]:
    """Return a page of queues, in order of their names in the store.

    Args:
        context: of the request.
        parameters: with the token of a page, and the number of queues.
        find: returns queues after the one of a name, and at most so many.
        member: the name of the list of URLs.

    Raises:
        ServiceError: the token of a page is not one that was given.
    """
    reason = f"MaxResults must be an integer between 1 and {MAX_RESULTS}."
    most = bounded(parameters, "MaxResults", 1, MAX_RESULTS, reason)
    limit = most or MAX_RESULTS
    found = await read(context.store, find, _after(text(parameters, "NextToken")), limit + 1)
    page = found[:limit]
    answered: dict[str, Any] = {member: [name.url(context) for name in page]}
    if most and len(found) > limit:
        answered["NextToken"] = base64.b64encode(page[-1].key.encode()).decode()
    return answered if page or member != "QueueUrls" else {}


def _after(token: str | None) -> str:
    """Return the name in the store after which a page begins."""
    if not token:
        return ""
    try:
        key = base64.b64decode(token, validate=True).decode()
        check_queue_name(key)
    except (ValueError, InvalidInput):
        raise invalid("Invalid or expired next token.") from None
    return key


async def purge_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Remove all messages of a queue: PurgeQueue."""
    queue = await catalog.named(context, parameters)
    purge = context.store.require(Capability.ENDPOINT).purge_once
    if not await write(context.store, purge, queue.key, RECENT_MS if context.is_strict else 0):
        raise ServiceError(
            PURGE_QUEUE_IN_PROGRESS,
            f"Only one PurgeQueue operation on {queue.name.name} is allowed every 60 seconds.",
        )
    return {}


async def delete_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a queue with its messages: DeleteQueue. To delete it again is an error."""
    name = of_url(context, parameters)
    remove = context.store.require(Capability.ENDPOINT).remove_queue
    try:
        await write(context.store, remove, name.key)
    except UnknownQueue:
        raise ServiceError(QUEUE_DOES_NOT_EXIST) from None
    catalog.forget(context.store, name.key)
    return {}
