"""Queues: created, found, listed, purged and deleted."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

from durableq.client.coroutines import read, write
from durableq.model.errors import UnknownQueue
from durableq.model.info import QueueInfo
from durableq.model.queues import dead_letter_name
from durableq.serve.context import Context
from durableq.serve.errors import (
    PURGE_QUEUE_IN_PROGRESS,
    QUEUE_DELETED_RECENTLY,
    QUEUE_DOES_NOT_EXIST,
    QUEUE_NAME_EXISTS,
    ServiceError,
)
from durableq.serve.sqs import catalog, documents
from durableq.serve.sqs.attributes import REDRIVE_POLICY, check_together, checked, defaults
from durableq.serve.sqs.catalog import ServedQueue
from durableq.serve.sqs.changing import apply, redrive_of, same_policy
from durableq.serve.sqs.clock import now_ms
from durableq.serve.sqs.names import QueueName, from_key, new_name, of_url
from durableq.serve.sqs.reading import (
    Parameters,
    bounded,
    invalid,
    required_text,
    text,
    texts_by_name,
)
from durableq.serve.sqs.recent import deletions, purges
from durableq.serve.sqs.tags import check_tags
from durableq.store.core import Capability, Store

#: The most queues of a page.
MAX_RESULTS: Final = 1000


async def create_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a queue, or find the one that is there with the same attributes: CreateQueue."""
    given = texts_by_name(parameters, "Attributes")
    tags = texts_by_name(parameters, "tags") or texts_by_name(parameters, "Tags")
    is_fifo = given.get("FifoQueue", "").lower() == "true"
    name = new_name(required_text(parameters, "QueueName"), context, is_fifo=is_fifo)
    attributes = checked(given, is_fifo=is_fifo)
    check_tags(tags, name.name)
    found = await read(context.store, _find, context.store, name)
    if found is not None:
        await read(context.store, _check_same, context.store, found, attributes)
    elif context.is_strict and deletions(context.store).has(name.key):
        raise ServiceError(QUEUE_DELETED_RECENTLY)
    else:
        await write(context.store, _create, context, name, attributes, tags)
        catalog.forget(context.store, name.key)
    return {"QueueUrl": name.url(context.base_url)}


def _find(store: Store, name: QueueName) -> ServedQueue | None:
    """Return a queue that a client sees; None: there is none."""
    try:
        found = catalog.load(store, name)
    except UnknownQueue:
        return None
    is_private = name.key in private_queues(store.require(Capability.INSPECT).queues())
    return None if is_private and not documents.is_there(store, name.key) else found


def _create(
    context: Context, name: QueueName, given: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Create a queue with its attributes: they are there before it is."""
    attributes = defaults(is_fifo=name.is_fifo) | dict(given)
    check_together(attributes)
    apply(context.store, name, attributes, now_ms(context), tags=tags, is_new=True)


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
    plain = required_text(parameters, "QueueName")
    account = text(parameters, "QueueOwnerAWSAccountId") or context.account
    name = QueueName(plain, account, context.region)
    if from_key(name.key) != name or "/" in plain:
        raise ServiceError(QUEUE_DOES_NOT_EXIST)
    await catalog.look_up(context, name)
    return {"QueueUrl": name.url(context.base_url)}


async def list_queues(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the URLs of the queues of the account and region: ListQueues."""
    prefix = text(parameters, "QueueNamePrefix") or ""
    names = await read(context.store, _names, context.store)
    found = [
        name
        for name in names
        if (name.account, name.region) == (context.account, context.region)
        and name.name.startswith(prefix)
    ]
    return paged(context, parameters, found, "QueueUrls")


def _names(store: Store) -> list[QueueName]:
    """Return the queues that a client sees.

    A dead-letter queue that was made together with a queue is one as soon as it has a message.
    """
    infos = store.require(Capability.INSPECT).queues()
    hidden = private_queues(infos)
    return [
        from_key(info.name)
        for info in infos
        if info.name not in hidden or documents.is_there(store, info.name)
    ]


def private_queues(infos: Iterable[QueueInfo]) -> set[str]:
    """Return the dead-letter queues that were made with their queues, and have no message."""
    found = {info.name: info for info in infos}
    made = map(dead_letter_name, found)
    return {
        name
        for name in made
        if name in found and found[name].dead_letter_queue is None
        if not found[name].counts.present
    }


def paged(
    context: Context, parameters: Parameters, names: list[QueueName], member: str
) -> dict[str, Any]:
    """Return a page of queues, in order of their names.

    Raises:
        ServiceError: the token of a page is not one that was given.
    """
    reason = f"MaxResults must be an integer between 1 and {MAX_RESULTS}."
    most = bounded(parameters, "MaxResults", 1, MAX_RESULTS, reason)
    after = _after(text(parameters, "NextToken"))
    left = sorted(name for name in names if name.name > after)
    page = left[: most or MAX_RESULTS]
    answered: dict[str, Any] = {member: [name.url(context.base_url) for name in page]}
    if most and len(left) > len(page):
        answered["NextToken"] = base64.b64encode(page[-1].name.encode()).decode()
    return answered if page or member != "QueueUrls" else {}


def _after(token: str | None) -> str:
    try:
        return base64.b64decode(token or "", validate=True).decode()
    except ValueError:
        raise invalid("Invalid or expired next token.") from None


async def purge_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Remove all messages of a queue: PurgeQueue."""
    queue = await catalog.named(context, parameters)
    recent = purges(context.store)
    if context.is_strict and recent.has(queue.key):
        raise ServiceError(
            PURGE_QUEUE_IN_PROGRESS,
            f"Only one PurgeQueue operation on {queue.name.name} is allowed every 60 seconds.",
        )
    control = context.store.require(Capability.CONTROL)
    await write(context.store, control.purge, queue.key)
    recent.note(queue.key)
    return {}


async def delete_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a queue with its messages: DeleteQueue. To delete it again is an error."""
    name = of_url(context, parameters)
    await write(context.store, _delete, context.store, name)
    catalog.forget(context.store, name.key)
    deletions(context.store).note(name.key)
    purges(context.store).drop(name.key)
    return {}


def _delete(store: Store, name: QueueName) -> None:
    try:
        store.require(Capability.CONTROL).delete_queue(name.key, force=True)
    except UnknownQueue:
        raise ServiceError(QUEUE_DOES_NOT_EXIST) from None
