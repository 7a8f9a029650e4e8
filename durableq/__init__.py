"""A durable message queue, dead-letter queue and idempotency store, in SQLite or PostgreSQL.

The names below are the public API. Every other name may change without notice.
"""

from durableq.runtime import startup as _startup  # noqa: F401 - first: it postpones signals

# isort: split

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from durableq.client.app import DurableQ
    from durableq.client.delivery import Batch, Deliveries, Delivery
    from durableq.client.producer import Producer
    from durableq.client.queue import Queue
    from durableq.client.transaction import Transaction
    from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
    from durableq.model.errors import (
        AppError,
        Busy,
        Conflict,
        DatabaseMoved,
        DatabaseReplaced,
        DatabaseUnreachable,
        DatabaseUnusable,
        DurableQError,
        ForeignDatabase,
        InvalidBody,
        InvalidInput,
        InvalidResult,
        NewerDatabase,
        NoResult,
        NotFound,
        OlderDatabase,
        OutcomeUnknown,
        QueueFull,
        Refused,
        Reject,
        RetryLater,
        StaleReceipt,
        StorageFull,
        Unavailable,
        UnknownMessage,
        UnknownQueue,
        Unsupported,
        UnsupportedSQLite,
    )
    from durableq.model.message import (
        DeadLetter,
        HistoryEvent,
        IdempotencyRecord,
        Outcome,
        Reason,
        Receipt,
    )
    from durableq.model.progress import Progress
    from durableq.store.core import QueueInfo

__version__ = "0.1.0"

__all__ = [
    "AppError",
    "Batch",
    "Busy",
    "Conflict",
    "DatabaseMoved",
    "DatabaseReplaced",
    "DatabaseUnreachable",
    "DatabaseUnusable",
    "DeadLetter",
    "Decision",
    "Deliveries",
    "Delivery",
    "Discard",
    "DurableQ",
    "DurableQError",
    "ForeignDatabase",
    "HistoryEvent",
    "Hold",
    "IdempotencyRecord",
    "InvalidBody",
    "InvalidInput",
    "InvalidResult",
    "NewerDatabase",
    "NoResult",
    "NotFound",
    "OlderDatabase",
    "Outcome",
    "OutcomeUnknown",
    "Producer",
    "Progress",
    "Queue",
    "QueueFull",
    "QueueInfo",
    "Reason",
    "Receipt",
    "Refused",
    "Reject",
    "Requeue",
    "Retry",
    "RetryLater",
    "StaleReceipt",
    "StorageFull",
    "Transaction",
    "Unavailable",
    "UnknownMessage",
    "UnknownQueue",
    "Unsupported",
    "UnsupportedSQLite",
]

#: The module of each name, which is imported at the name's first use.
_HOMES = {
    "AppError": "durableq.model.errors",
    "Batch": "durableq.client.delivery",
    "Busy": "durableq.model.errors",
    "Conflict": "durableq.model.errors",
    "DatabaseMoved": "durableq.model.errors",
    "DatabaseReplaced": "durableq.model.errors",
    "DatabaseUnreachable": "durableq.model.errors",
    "DatabaseUnusable": "durableq.model.errors",
    "DeadLetter": "durableq.model.message",
    "Decision": "durableq.model.decisions",
    "Deliveries": "durableq.client.delivery",
    "Delivery": "durableq.client.delivery",
    "Discard": "durableq.model.decisions",
    "DurableQ": "durableq.client.app",
    "DurableQError": "durableq.model.errors",
    "ForeignDatabase": "durableq.model.errors",
    "HistoryEvent": "durableq.model.message",
    "Hold": "durableq.model.decisions",
    "IdempotencyRecord": "durableq.model.message",
    "InvalidBody": "durableq.model.errors",
    "InvalidInput": "durableq.model.errors",
    "InvalidResult": "durableq.model.errors",
    "NewerDatabase": "durableq.model.errors",
    "NoResult": "durableq.model.errors",
    "NotFound": "durableq.model.errors",
    "OlderDatabase": "durableq.model.errors",
    "Outcome": "durableq.model.message",
    "OutcomeUnknown": "durableq.model.errors",
    "Producer": "durableq.client.producer",
    "Progress": "durableq.model.progress",
    "Queue": "durableq.client.queue",
    "QueueFull": "durableq.model.errors",
    "QueueInfo": "durableq.store.core",
    "Reason": "durableq.model.message",
    "Receipt": "durableq.model.message",
    "Refused": "durableq.model.errors",
    "Reject": "durableq.model.errors",
    "Requeue": "durableq.model.decisions",
    "Retry": "durableq.model.decisions",
    "RetryLater": "durableq.model.errors",
    "StaleReceipt": "durableq.model.errors",
    "StorageFull": "durableq.model.errors",
    "Transaction": "durableq.client.transaction",
    "Unavailable": "durableq.model.errors",
    "UnknownMessage": "durableq.model.errors",
    "UnknownQueue": "durableq.model.errors",
    "Unsupported": "durableq.model.errors",
    "UnsupportedSQLite": "durableq.model.errors",
}


def __getattr__(name: str) -> object:
    """Import a name of the public API, or return an old one that stays for one release."""
    from importlib import import_module

    if name in _HOMES:
        found: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    if name == "Verdict":
        import warnings

        warnings.warn("durableq.Verdict is Decision now.", DeprecationWarning, stacklevel=2)
        return __getattr__("Decision")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
