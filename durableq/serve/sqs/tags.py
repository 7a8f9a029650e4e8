"""Tags of queues, and the permissions that are stored with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from durableq.client.coroutines import write
from durableq.serve.context import Context
from durableq.serve.sqs import catalog, documents, policies
from durableq.serve.sqs.catalog import ServedQueue
from durableq.serve.sqs.documents import Document
from durableq.serve.sqs.reading import invalid, missing, required_text, texts, texts_by_name

MAX_TAGS: Final = 50
MAX_KEY_CHARS: Final = 128
MAX_VALUE_CHARS: Final = 256


def check_tags(tags: Mapping[str, str], queue: str) -> None:
    """Check the tags of a queue.

    Raises:
        ServiceError: too many, or one is not valid.
    """
    if len(tags) > MAX_TAGS:
        raise invalid(f"Too many tags added for queue {queue}.")
    for key, value in tags.items():
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise invalid(f"Tag keys must be between 1 and {MAX_KEY_CHARS} characters in length.")
        if len(value) > MAX_VALUE_CHARS:
            raise invalid(
                f"Tag values must be between 0 and {MAX_VALUE_CHARS} characters in length."
            )


async def tag_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a queue: TagQueue."""
    queue = await catalog.named(context, parameters)
    added = texts_by_name(parameters, "Tags")
    if not added:
        raise missing("Tags")

    def tagged(document: Document) -> Document:
        tags = dict(document.tags) | added
        check_tags(tags, queue.name.name)
        return document._replace(tags=tags)

    return await _changed(context, queue, tagged)


async def untag_queue(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take tags from a queue: UntagQueue."""
    queue = await catalog.named(context, parameters)
    keys = texts(parameters, "TagKeys")
    if not keys:
        raise invalid(f"Tag keys must be between 1 and {MAX_KEY_CHARS} characters in length.")

    def untagged(document: Document) -> Document:
        tags = {key: value for key, value in document.tags.items() if key not in keys}
        return document._replace(tags=tags)

    return await _changed(context, queue, untagged)


async def list_queue_tags(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a queue: ListQueueTags. Without any, the answer is empty."""
    queue = await catalog.named(context, parameters)
    return {"Tags": dict(queue.document.tags)} if queue.document.tags else {}


async def add_permission(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add a statement to the policy of a queue: AddPermission. Nothing enforces it."""
    queue = await catalog.named(context, parameters)
    label = required_text(parameters, "Label")
    accounts, actions = texts(parameters, "AWSAccountIds"), texts(parameters, "Actions")

    def permitted(document: Document) -> Document:
        policy = document.attributes.get("Policy", "")
        return _with_policy(document, policies.added(policy, queue.name, label, accounts, actions))

    return await _changed(context, queue, permitted)


async def remove_permission(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take a statement from the policy of a queue: RemovePermission."""
    queue = await catalog.named(context, parameters)
    label = required_text(parameters, "Label")

    def withdrawn(document: Document) -> Document:
        policy = document.attributes.get("Policy", "")
        return _with_policy(document, policies.removed(policy, queue.name, label))

    return await _changed(context, queue, withdrawn)


async def _changed(
    context: Context, queue: ServedQueue, changed: Callable[[Document], Document]
) -> dict[str, Any]:
    """Change the document of a queue, and return the answer, which is empty."""
    await write(context.store, documents.change, context.store, queue.key, changed)
    catalog.forget(context.store, queue.key)
    return {}


def _with_policy(document: Document, policy: str) -> Document:
    return document._replace(attributes=dict(document.attributes) | {"Policy": policy})
