"""The attributes of a queue: their values, for which queues they are, what they are in the store.

An attribute that is a setting of the queue is kept there, so that Python programs and this endpoint
see the same; the others are kept beside the queue as they were set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from durableq.model.limits import SECOND_MS
from durableq.model.settings import QueueSettings
from durableq.serve.errors import INVALID_ATTRIBUTE_NAME, INVALID_ATTRIBUTE_VALUE, ServiceError

#: Attributes that are counted or computed, and that nobody sets.
COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
READ_ONLY: Final = (*COUNTS, "CreatedTimestamp", "LastModifiedTimestamp", "QueueArn")
ALL: Final = "All"
REDRIVE_POLICY: Final = "RedrivePolicy"
REDRIVE_ALLOW_POLICY: Final = "RedriveAllowPolicy"
KMS_KEY: Final = "KmsMasterKeyId"
#: Is of the key, and not shown without one.
KMS_REUSE_PERIOD: Final = "KmsDataKeyReusePeriodSeconds"
MANAGED_SSE: Final = "SqsManagedSseEnabled"
SCOPE: Final = "DeduplicationScope"
#: The scope with which a queue was created. It stays in force, and is kept beside the attributes:
#: AWS was recorded to find duplicates as before after a change of the scope.
SCOPE_IN_FORCE: Final = "DeduplicationScopeInForce"
_IN_GROUP: Final = "messageGroup"
#: Attributes that a queue has no more when they are set to nothing.
_MAY_BE_EMPTY: Final = ("Policy", REDRIVE_POLICY, REDRIVE_ALLOW_POLICY, KMS_KEY)
_PER_GROUP: Final = "perMessageGroupId"


class Attribute(NamedTuple):
    """An attribute that can be set.

    Args:
        read: returns the value as it is kept, or None if it is not valid.
        default: the value of a new queue; None: it has none.
        is_of_fifo: whether only FIFO queues have it.
    """

    read: Callable[[str], str | None]
    default: str | None = None
    is_of_fifo: bool = False


def _whole(least: int, most: int) -> Callable[[str], str | None]:
    def read(value: str) -> str | None:
        if not (value.isascii() and value.isdecimal() and len(value) <= 10):
            return None
        return str(int(value)) if least <= int(value) <= most else None

    return read


def _choice(*names: str) -> Callable[[str], str | None]:
    return lambda value: value if value in names else None


def _switch(value: str) -> str | None:
    lowered = value.lower()
    return lowered if lowered in {"true", "false"} else None


def _json(value: str) -> str | None:
    try:
        return value if isinstance(json.loads(value), dict) else None
    except (ValueError, RecursionError):
        return None


def _any(value: str) -> str | None:
    return value


ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "DelaySeconds": Attribute(_whole(0, 900), "0"),
    "MaximumMessageSize": Attribute(_whole(1024, 1 << 20), str(1 << 20)),
    "MessageRetentionPeriod": Attribute(_whole(60, 1_209_600), "345600"),
    "ReceiveMessageWaitTimeSeconds": Attribute(_whole(0, 20), "0"),
    "VisibilityTimeout": Attribute(_whole(0, 43_200), "30"),
    "Policy": Attribute(_json),
    REDRIVE_POLICY: Attribute(_any),
    REDRIVE_ALLOW_POLICY: Attribute(_any),
    KMS_KEY: Attribute(_any),
    KMS_REUSE_PERIOD: Attribute(_whole(60, 86_400), "300"),
    MANAGED_SSE: Attribute(_switch, "true"),
    "FifoQueue": Attribute(_switch, "true", is_of_fifo=True),
    "ContentBasedDeduplication": Attribute(_switch, "false", is_of_fifo=True),
    SCOPE: Attribute(_choice("queue", _IN_GROUP), "queue", is_of_fifo=True),
    "FifoThroughputLimit": Attribute(_choice("perQueue", _PER_GROUP), "perQueue", is_of_fifo=True),
}
#: Those of FIFO queues that AWS refuses on a standard queue by another sentence.
_NAMED_FIFO: Final = (SCOPE, "FifoThroughputLimit")
#: Attributes that are settings of the store: the setting, and how many of its units are one.
SETTINGS: Final = {
    "DelaySeconds": ("delay_ms", SECOND_MS),
    "MaximumMessageSize": ("max_body_bytes", 1),
    "MessageRetentionPeriod": ("retention_ms", SECOND_MS),
    "VisibilityTimeout": ("visibility_timeout_ms", SECOND_MS),
}
#: The shortest lease, which stands for a visibility timeout of 0.
NO_LEASE_MS: Final = 1


def checked(given: Mapping[str, str], *, is_fifo: bool) -> dict[str, str]:
    """Return the attributes that a client sets, as they are kept.

    An empty value takes the attribute away.

    Raises:
        ServiceError: an attribute that the queue does not have, a value that is not valid, or both
            kinds of encryption.
    """
    found = {name: _checked(name, value, is_fifo=is_fifo) for name, value in given.items()}
    return found | _one_encryption(found)


def _one_encryption(given: Mapping[str, str]) -> dict[str, str]:
    """Return the attribute of the kind of encryption that another kind replaces.

    Raises:
        ServiceError: both are given.
    """
    is_managed = given.get(MANAGED_SSE) == "true"
    if is_managed and given.get(KMS_KEY):
        raise ServiceError(
            INVALID_ATTRIBUTE_NAME,
            "You can use one type of server-side encryption (SSE) at one time. You can either "
            "enable KMS SSE or SQS SSE.",
        )
    if given.get(KMS_KEY):
        return {MANAGED_SSE: "false"}
    return {KMS_KEY: ""} if is_managed else {}


def _checked(name: str, value: str, *, is_fifo: bool) -> str:
    attribute = ATTRIBUTES.get(name)
    if attribute is None:
        raise unknown(name)
    if attribute.is_of_fifo and not is_fifo:
        if name in _NAMED_FIFO:
            raise ServiceError(
                INVALID_ATTRIBUTE_NAME,
                f"You can specify the {name} only when FifoQueue is set to true.",
            )
        raise unknown(name)
    if not value and name in _MAY_BE_EMPTY:
        return ""
    kept = attribute.read(value)
    if kept is None:
        raise bad_value(name)
    if name == "FifoQueue" and kept != "true":
        raise bad_value(name, "Modifying queue type is not supported.")
    return kept


def check_together(attributes: Mapping[str, str]) -> None:
    """Check attributes of a queue that allow each other.

    Raises:
        ServiceError: a limit for each group without a deduplication for each group.
    """
    is_per_group = attributes.get("FifoThroughputLimit") == _PER_GROUP
    if is_per_group and attributes.get(SCOPE) != _IN_GROUP:
        raise bad_value(
            "FifoThroughputLimit",
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope is "
            "messageGroup.",
        )


def deduplicates_in_group(kept: Mapping[str, str]) -> bool:
    """Return whether a deduplication id is one of its group alone.

    Args:
        kept: the attributes of the queue, as they are stored.
    """
    return kept.get(SCOPE_IN_FORCE, kept.get(SCOPE)) == _IN_GROUP


def unknown(name: str) -> ServiceError:
    """Return the error of an attribute that there is not, or that nobody sets."""
    return ServiceError(INVALID_ATTRIBUTE_NAME, f"Unknown Attribute {name}.")


def bad_value(name: str, reason: str = "") -> ServiceError:
    """Return the error of a value that an attribute does not take."""
    because = f" Reason: {reason}" if reason else ""
    return ServiceError(
        INVALID_ATTRIBUTE_VALUE, f"Invalid value for the parameter {name}.{because}"
    )


def check_names(names: list[str]) -> None:
    """Check the names of attributes that a client reads.

    Raises:
        ServiceError: there is no such attribute.
    """
    for name in names:
        if name != ALL and name not in ATTRIBUTES and name not in READ_ONLY:
            raise unknown(name)


def defaults(*, is_fifo: bool) -> dict[str, str]:
    """Return the attributes of a new queue."""
    return {
        name: each.default
        for name, each in ATTRIBUTES.items()
        if each.default is not None and (is_fifo or not each.is_of_fifo)
    }


def settings_of(attributes: Mapping[str, str]) -> dict[str, float]:
    """Return the settings of the store that these attributes are."""
    found: dict[str, float] = {}
    for name, (setting, unit) in SETTINGS.items():
        if name in attributes:
            found[setting] = int(attributes[name]) * unit
    if found.get("visibility_timeout_ms") == 0:
        found["visibility_timeout_ms"] = NO_LEASE_MS
    return found


def of_settings(settings: QueueSettings) -> dict[str, str]:
    """Return the attributes that the settings of a queue are.

    A Python program may have set times that are no whole seconds, which are rounded.
    """
    return {
        name: str(round(getattr(settings, setting) / unit))
        for name, (setting, unit) in SETTINGS.items()
    }
