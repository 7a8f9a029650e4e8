"""A durable message queue, a dead-letter queue and an idempotency store in one SQLite file.

The names below are the public API. Every other name may change without notice.
"""

from durableq.runtime import startup as _startup  # noqa: F401 - first: it postpones signals

# isort: split

from durableq.client.app import DurableQ
from durableq.client.delivery import Batch, Deliveries, Delivery, Transaction
from durableq.client.producer import Producer
from durableq.client.queue import Queue
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import (
    AppError,
    Busy,
    Conflict,
    DatabaseReplaced,
    DatabaseUnusable,
    DurableQError,
    ForeignDatabase,
    InvalidBody,
    InvalidInput,
    InvalidResult,
    NewerDatabase,
    NotFound,
    OlderDatabase,
    OutcomeUnknown,
    Reject,
    RetryLater,
    StaleReceipt,
    StorageFull,
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
from durableq.store.core import QueueInfo

__all__ = [
    "AppError",
    "Batch",
    "Busy",
    "Conflict",
    "DatabaseReplaced",
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
    "NotFound",
    "OlderDatabase",
    "Outcome",
    "OutcomeUnknown",
    "Producer",
    "Queue",
    "QueueInfo",
    "Reason",
    "Receipt",
    "Reject",
    "Requeue",
    "Retry",
    "RetryLater",
    "StaleReceipt",
    "StorageFull",
    "Transaction",
    "UnknownMessage",
    "UnknownQueue",
    "Unsupported",
    "UnsupportedSQLite",
]


def __getattr__(name: str) -> object:
    """Return an old name that stays importable for one release."""
    if name == "Verdict":
        import warnings

        warnings.warn("durableq.Verdict is Decision now.", DeprecationWarning, stacklevel=2)
        return Decision
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
