"""The policy of a queue, as AddPermission and RemovePermission change it. Nothing enforces it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from durableq.serve.errors import OVER_LIMIT, ServiceError
from durableq.serve.sqs.names import QueueName
from durableq.serve.sqs.reading import invalid, invalid_value, missing

#: The actions that the owner of a queue may permit to others.
PERMITTED: Final = frozenset(
    {
        *("*", "ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl"),
        *("ListDeadLetterSourceQueues", "PurgeQueue", "ReceiveMessage", "SendMessage"),
    }
)
MAX_ACTIONS: Final = 7


def added(
    policy: str, queue: QueueName, label: str, accounts: Sequence[str], actions: Sequence[str]
) -> str:
    """Return a policy with one statement more.

    Args:
        policy: the present one; empty: there is none.
        queue: the queue.
        label: the id of the statement.
        accounts: who is permitted.
        actions: to do what.

    Raises:
        ServiceError: the label is taken, or an argument is not valid.
    """
    _check(accounts, actions)
    document = _document(policy, queue)
    if label in _labels(document):
        raise invalid_value(label, "Label", "Already exists.")
    principals = [f"{_iam(queue)}::{account}:root" for account in accounts]
    names = [f"SQS:{action}" for action in actions]
    document["Statement"].append(
        {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_list(principals)},
            "Action": _one_or_list(names),
            "Resource": queue.arn,
        }
    )
    return json.dumps(document, separators=(",", ":"))


def removed(policy: str, queue: QueueName, label: str) -> str:
    """Return a policy without a statement; empty: none is left.

    Raises:
        ServiceError: it has no such statement.
    """
    document = _document(policy, queue)
    if label not in _labels(document):
        raise invalid_value(label, "Label", "can't find label.")
    document["Statement"] = [one for one in document["Statement"] if _label(one) != label]
    return json.dumps(document, separators=(",", ":")) if document["Statement"] else ""


def _check(accounts: Sequence[str], actions: Sequence[str]) -> None:
    if not actions:
        raise missing("Actions")
    if not accounts:
        raise invalid_value("[]", "PrincipalId", "Unable to verify.")
    if len(actions) > MAX_ACTIONS:
        raise ServiceError(
            OVER_LIMIT, f"{len(actions)} Actions were found, maximum allowed is {MAX_ACTIONS}."
        )
    for action in actions:
        if action not in PERMITTED:
            reason = "Only the queue owner is allowed to invoke this action."
            raise invalid_value(f"SQS:{action}", "ActionName", reason)
    for account in accounts:
        if not (account.isascii() and account.isdecimal() and len(account) == 12):
            raise invalid_value(f"[{account}]", "PrincipalId", "Unable to verify.")


def _document(policy: str, queue: QueueName) -> dict[str, Any]:
    """Return a policy with a list of statements. The text may be any that a client has set."""
    try:
        document = json.loads(policy) if policy else None
    except (ValueError, RecursionError):
        raise invalid("The present policy of the queue is not JSON: set another.") from None
    if not policy:
        document = {"Version": "2008-10-17", "Id": f"{queue.arn}/SQSDefaultPolicy"}
    if not isinstance(document, dict):
        raise invalid("The present policy of the queue is no JSON object: set another.")
    statements = document.get("Statement", [])
    document["Statement"] = statements if isinstance(statements, list) else [statements]
    return document


def _labels(document: dict[str, Any]) -> list[object]:
    return [*map(_label, document["Statement"])]


def _label(statement: object) -> object:
    return statement.get("Sid") if isinstance(statement, dict) else None


def _iam(queue: QueueName) -> str:
    return f"arn:{queue.arn.split(':')[1]}:iam"


def _one_or_list(values: list[str]) -> str | list[str]:
    return values if len(values) > 1 else values[0]
