"""The attributes of a queue as they are stored: settings, dead-letter queue, and the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from durableq.model.errors import UnknownQueue
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.serve.errors import QUEUE_DOES_NOT_EXIST, ServiceError
from durableq.serve.sqs import documents
from durableq.serve.sqs.attributes import (
    REDRIVE_ALLOW_POLICY,
    REDRIVE_POLICY,
    SETTINGS,
    settings_of,
)
from durableq.serve.sqs.catalog import ServedQueue, load
from durableq.serve.sqs.documents import Document
from durableq.serve.sqs.names import QueueName, from_key
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
#: The change of a queue that is no setting: where its dead letters go; None: to one of its own.
DEAD_LETTER_QUEUE: Final = "dead_letter_queue"


def apply(
    store: Store,
    name: QueueName,
    attributes: Mapping[str, str],
    now_ms: int,
    *,
    tags: Mapping[str, str] | None = None,
    is_new: bool = False,
) -> None:
    """Set attributes of a queue, and create it if it is new.

    Args:
        store: the engine.
        name: the queue.
        attributes: those that are set; an empty value takes one away.
        now_ms: the time.
        tags: of a new queue.
        is_new: whether to create it.

    Raises:
        ServiceError: a policy is not valid, or the queue does not exist.
    """
    policy = _checked_policies(store, name, attributes)
    changes: dict[str, Any] = settings_of(attributes)
    if is_new:
        changes = _OF_SQS | (_OF_FIFO if name.is_fifo else {}) | changes
    if is_new and name.key.endswith(DEAD_LETTER_SUFFIX):
        changes[DEAD_LETTER_QUEUE] = None  # one of its own makes it a queue as any other
    if REDRIVE_POLICY in attributes:
        changes["max_receives"] = policy.max_receive_count if policy else 0
        changes[DEAD_LETTER_QUEUE] = policy.target.key if policy else None

    def changed(document: Document) -> Document:
        kept = {key: value for key, value in attributes.items() if key not in SETTINGS}
        merged = {} if is_new else dict(document.attributes)
        merged = {key: value for key, value in (merged | kept).items() if value}
        return replace(
            document,
            attributes=merged,
            tags=dict(tags or {}) if is_new else document.tags,
            created_at_ms=now_ms if is_new else document.created_at_ms,
            modified_at_ms=now_ms,
        )

    if not is_new:
        try:
            store.declare_queue(name.key, changes, creates=False)
        except UnknownQueue:  # it was deleted meanwhile
            raise ServiceError(QUEUE_DOES_NOT_EXIST) from None
    documents.change(store, name.key, changed)
    if is_new:  # its attributes are there before it is
        store.declare_queue(name.key, changes)


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

    It is as the client has spelled it, unless a Python program has changed what it says.
    """
    receives = queue.settings.max_receives
    target = store.require(Capability.INSPECT).queue(queue.key).dead_letter_queue
    if not receives or target is None:
        return ""
    policy = RedrivePolicy(from_key(target), receives)
    text = queue.attribute(REDRIVE_POLICY)
    return text if same_policy(text, policy.as_text()) else policy.as_text()


def same_policy(one: str, other: str) -> bool:
    """Return whether two redrive policies say the same."""
    return (redrive_policy(one) if one else None) == (redrive_policy(other) if other else None)
