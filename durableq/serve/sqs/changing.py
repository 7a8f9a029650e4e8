"""The attributes of a queue as they are stored: settings, dead-letter queue, and the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from durableq.model.errors import UnknownQueue
from durableq.model.queues import DEAD_LETTER_QUEUE, dead_letter_name
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import documents
from durableq.serve.sqs.attributes import (
    REDRIVE_ALLOW_POLICY,
    REDRIVE_POLICY,
    SCOPE,
    SCOPE_IN_FORCE,
    SETTINGS,
    check_together,
    settings_of,
)
from durableq.serve.sqs.catalog import ServedQueue, load
from durableq.serve.sqs.documents import Document
from durableq.serve.sqs.names import QueueName, from_key, place
from durableq.serve.sqs.redrive_policies import (
    RedriveAllowPolicy,
    RedrivePolicy,
    check_target,
    redrive_allow_policy,
    redrive_policy,
)
from durableq.store.core import Capability, Store

#: What makes a queue of the store one of SQS: no limit of receives, and no wait after a lease.
_OF_SQS: Final = {"max_receives": 0, "bury_at": 1}
_OF_FIFO: Final = {"group_concurrency": 1}


def create(
    store: Store,
    name: QueueName,
    attributes: Mapping[str, str],
    tags: Mapping[str, str],
    private: Document | None,
) -> bool:
    """Create a queue with its attributes and tags, in one transaction.

    It becomes the dead-letter queue of those that have named it since it was deleted.

    Args:
        store: the engine.
        name: the queue.
        attributes: all that it has.
        tags: its tags.
        private: the document of the private dead-letter queue that has this name; it becomes a
            queue as any other. None: there is no such queue.

    Returns:
        Whether it was created; otherwise others have done so meanwhile.

    Raises:
        ServiceError: a policy is not valid, or attributes do not allow each other.
        UnknownQueue: its dead-letter queue was deleted meanwhile, or a queue that names it.
    """
    of_private: dict[str, Any] = {} if private is None else {DEAD_LETTER_QUEUE: None}
    of_fifo = _OF_FIFO if name.is_fifo else {}
    changes = of_private | _OF_SQS | of_fifo | _changes(store, name, attributes)
    version = None if private is None else private.version
    kept = _set({}, attributes)
    if SCOPE in kept:
        kept[SCOPE_IN_FORCE] = kept[SCOPE]
    document = Document(kept, tags, version=version)
    return documents.put(store, name.key, document, changes, _sources(store, name, attributes))


def change(store: Store, name: QueueName, attributes: Mapping[str, str]) -> None:
    """Change attributes of a queue, in one transaction.

    Args:
        store: the engine.
        name: the queue.
        attributes: those that are set; an empty value takes one away.

    Raises:
        ServiceError: as `create`.
        UnknownQueue: the queue does not exist.
    """

    def changed(document: Document) -> Document:
        return document._replace(attributes=_set(document.attributes, attributes))

    documents.change(store, name.key, changed, _changes(store, name, attributes))


def _changes(store: Store, name: QueueName, attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return the changes of a queue that attributes are.

    Raises:
        ServiceError: a policy is not valid.
    """
    policy = _checked_policies(store, name, attributes)
    changes: dict[str, Any] = settings_of(attributes)
    if REDRIVE_POLICY in attributes:
        if policy is not None and policy.target == name:
            policy = None  # what would move there stays there
        changes["max_receives"] = policy.max_receive_count if policy else 0
        changes[DEAD_LETTER_QUEUE] = policy.target.key if policy else None
    return changes


def _sources(store: Store, name: QueueName, attributes: Mapping[str, str]) -> dict[str, int]:
    """Return the queues that wait for a queue as their dead-letter queue.

    Their policies name it, and it was deleted, so their dead letters go to their own meanwhile. The
    value is the version of the document that says so.
    """
    allow = attributes.get(REDRIVE_ALLOW_POLICY)
    allowed = redrive_allow_policy(allow) if allow else RedriveAllowPolicy()
    endpoint, found = store.require(Capability.ENDPOINT), {}
    for document in endpoint.documents_with(name.arn, place(name.account, name.region)):
        text = json.loads(document.attributes).get(REDRIVE_POLICY)
        policy, source = redrive_policy(text) if text else None, from_key(document.queue)
        if policy is None or policy.target != name or not _has_its_own(store, source, policy):
            continue
        with suppress(ServiceError):  # it is of the other kind, or not for this source
            check_target(text, policy, source, allowed)
            found[document.queue] = document.version
    return found


def _has_its_own(store: Store, source: QueueName, policy: RedrivePolicy) -> bool:
    """Return whether a queue has its private dead-letter queue, and the limit of its policy."""
    info = store.require(Capability.INSPECT).queue(source.key)
    return (
        info.dead_letter_queue == dead_letter_name(source.key)
        and info.settings.max_receives == policy.max_receive_count
    )


def _set(present: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that are no settings, when others are set.

    Raises:
        ServiceError: they do not allow each other.
    """
    merged = dict(present) | {key: each for key, each in given.items() if key not in SETTINGS}
    kept = {key: value for key, value in merged.items() if value}
    check_together(kept)
    return kept


def _checked_policies(
    store: Store, name: QueueName, attributes: Mapping[str, str]
) -> RedrivePolicy | None:
    """Return the redrive policy that is set.

    Raises:
        ServiceError: one of the two policies is not valid.
    """
    if allow := attributes.get(REDRIVE_ALLOW_POLICY):
        redrive_allow_policy(allow)
    text = attributes.get(REDRIVE_POLICY)
    if not text:
        return None
    policy = redrive_policy(text)
    check_target(text, policy, name, _allowed(store, policy.target))
    return policy


def _allowed(store: Store, target: QueueName) -> RedriveAllowPolicy | None:
    """Return the queues that a dead-letter queue is for; None: it does not exist."""
    try:
        text = load(store, target).attribute(REDRIVE_ALLOW_POLICY)
    except UnknownQueue:
        return None
    return redrive_allow_policy(text) if text else RedriveAllowPolicy()


def redrive_of(store: Store, queue: ServedQueue) -> str:
    """Return the redrive policy of a queue as a client reads it; empty: it has none.

    It is as the client has spelled it, unless a Python program has changed what it says. As on AWS
    it names a queue that was deleted; the dead letters go to the queue's own meanwhile.
    """
    receives = queue.settings.max_receives
    target = store.require(Capability.INSPECT).queue(queue.key).dead_letter_queue
    text = queue.attribute(REDRIVE_POLICY)
    said = redrive_policy(text) if text else None
    if not receives or target is None:
        return text if said is not None and said.target == queue.name else ""
    policy = RedrivePolicy(from_key(target), receives)
    if said is None or said == policy:
        return text or policy.as_text()
    names_deleted = (
        target == dead_letter_name(queue.key)
        and said.max_receive_count == receives
        and _allowed(store, said.target) is None
    )
    return text if names_deleted else policy.as_text()


def same_policy(one: str, other: str) -> bool:
    """Return whether two redrive policies say the same."""
    return (redrive_policy(one) if one else None) == (redrive_policy(other) if other else None)
