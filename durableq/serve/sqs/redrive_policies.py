"""The policies of redrive: which dead-letter queue a queue has, and which queues one is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from durableq.serve.sqs.attributes import REDRIVE_ALLOW_POLICY, REDRIVE_POLICY
from durableq.serve.sqs.names import QueueName, from_arn
from durableq.serve.sqs.reading import invalid_value

MAX_RECEIVE_COUNT: Final = 1000
MAX_SOURCE_QUEUES: Final = 10
_PERMISSIONS: Final = ("allowAll", "denyAll", "byQueue")


class RedrivePolicy(NamedTuple):
    """The dead-letter queue of a queue, and the receives after which a message goes there."""

    target: QueueName
    max_receive_count: int

    def as_text(self) -> str:
        """Return the policy as a client reads it."""
        content = {
            "deadLetterTargetArn": self.target.arn,
            "maxReceiveCount": self.max_receive_count,
        }
        return json.dumps(content, separators=(",", ":"))


class RedriveAllowPolicy(NamedTuple):
    """The queues that may use a queue as their dead-letter queue."""

    permission: str = "allowAll"
    source_arns: Sequence[str] = ()

    def permits(self, source: QueueName) -> bool:
        """Return whether a queue may."""
        if self.permission == "byQueue":
            return source.arn in self.source_arns
        return self.permission == "allowAll"


def redrive_policy(text: str) -> RedrivePolicy:
    """Read the policy of a queue.

    Raises:
        ServiceError: it is not valid.
    """
    content = _content(text, REDRIVE_POLICY)
    for name in ("deadLetterTargetArn", "maxReceiveCount"):
        if content.get(name) is None:
            raise invalid_value(
                text,
                REDRIVE_POLICY,
                f"Redrive policy does not contain mandatory attribute: {name}.",
            )
    count = _count(content["maxReceiveCount"])
    if count is None:
        raise invalid_value(
            text,
            REDRIVE_POLICY,
            f"Invalid value for maxReceiveCount: {content['maxReceiveCount']}, valid values are "
            "from 1 to 1000 both inclusive.",
        )
    arn = content["deadLetterTargetArn"]
    target = from_arn(arn) if isinstance(arn, str) else None
    if target is None:
        raise invalid_value(text, REDRIVE_POLICY, "Invalid value for deadLetterTargetArn.")
    return RedrivePolicy(target, count)


def check_target(
    text: str, policy: RedrivePolicy, source: QueueName, allowed: RedriveAllowPolicy | None
) -> None:
    """Check that a queue may have a dead-letter queue.

    Args:
        text: the policy as it was sent.
        policy: what it says.
        source: the queue that gets it.
        allowed: the queues that the dead-letter queue takes; None: it does not exist.

    Raises:
        ServiceError: it may not.
    """
    reason = ""
    if allowed is None:
        reason = "Dead letter target does not exist."
    elif policy.target.is_fifo != source.is_fifo:
        reason = "Dead letter queue must be same type of queue as the source."
    elif (policy.target.account, policy.target.region) != (source.account, source.region):
        reason = "Dead letter target owner should be same as the source."
    elif not allowed.permits(source):
        reason = f"Queue {policy.target.arn} does not permit {source.arn} as a source queue."
    if reason:
        raise invalid_value(text, REDRIVE_POLICY, reason)


def redrive_allow_policy(text: str) -> RedriveAllowPolicy:
    """Read the policy of a dead-letter queue.

    Raises:
        ServiceError: it is not valid.
    """
    content = _content(text, REDRIVE_ALLOW_POLICY)
    permission, arns = content.get("redrivePermission"), content.get("sourceQueueArns")
    reason = ""
    if permission not in _PERMISSIONS:
        reason = "redrivePermission must be one of allowAll, denyAll, byQueue."
    elif permission == "byQueue":
        if not isinstance(arns, list) or not 0 < len(arns) <= MAX_SOURCE_QUEUES:
            reason = f"sourceQueueArns must have 1 to {MAX_SOURCE_QUEUES} queues with byQueue."
        elif not all(isinstance(arn, str) and from_arn(arn) for arn in arns):
            reason = "sourceQueueArns must be ARNs of queues."
    elif arns:
        reason = f"sourceQueueArns can not be specified with {permission}."
    if reason:
        raise invalid_value(text, REDRIVE_ALLOW_POLICY, reason)
    return RedriveAllowPolicy(str(permission), tuple(arns or ()))


def _content(text: str, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        kind = "Redrive policy" if name == REDRIVE_POLICY else "Redrive allow policy"
        raise invalid_value(text, name, f"{kind} is not a valid JSON map.")
    return content


def _count(value: object) -> int | None:
    """Return a number of receives, which some clients send as text; None if it is not valid."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 4:
        value = int(value)
    if type(value) is not int or not 1 <= value <= MAX_RECEIVE_COUNT:
        return None
    return value
