"""A durable message queue, a dead-letter queue and an idempotency store in one SQLite file.

This is the only door: what is not named here may change without notice.
"""

from durableq import startup as _startup  # noqa: F401 - first: it postpones signals
from durableq.app import DurableQ, Queue
from durableq.delivery import Batch, Deliveries, Delivery, Transaction
from durableq.errors import (
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
from durableq.message import DeadLetter, HistoryEvent, IdempotencyRecord, Outcome, Reason, Receipt
from durableq.producer import Producer
from durableq.store import QueueInfo
from durableq.verdict import Discard, Hold, Requeue, Retry, Verdict

__all__ = [
    "AppError",
    "Batch",
    "Busy",
    "Conflict",
    "DatabaseReplaced",
    "DatabaseUnusable",
    "DeadLetter",
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
    "Verdict",
]
