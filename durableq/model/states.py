"""The enums of a message's life: states, reasons, history events, outcomes, refusals."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum


class State(IntEnum):
    """The state of a message in its queue. The database stores the numbers."""

    READY = 0
    IN_FLIGHT = 1
    DELAYED = 2
    #: Behind the head of its group.
    BLOCKED = 3

    @property
    def label(self) -> str:
        """The name in text and JSON: ready, in_flight, delayed, blocked."""
        return self.name.lower()


class _Sentence(StrEnum):
    """An enum whose members carry the sentence that explains them."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> _Sentence:
        """Create a member from its value and its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class Reason(_Sentence):
    """Why a receive did not end in success."""

    HANDLER_ERROR = "handler_error", "the handler raised an exception"
    REJECTED = "rejected", "the handler said it can never succeed"
    UNAVAILABLE = "unavailable", "a service that the handler needs was unavailable"
    TIMEOUT = "timeout", "the handler ran too long and was stopped"
    WORKER_LOST = "worker_lost", "the worker died while it held the message"
    LEASE_EXPIRED = "lease_expired", "the lease ran out before the message was settled"
    TOO_MANY_RECEIVES = "too_many_receives", "it was received max_receives times without success"
    UNDECODABLE = "undecodable", "the stored body cannot be read"
    EXPIRED = "expired", "the queue's retention ended before it was delivered"
    MESSAGE_EXPIRED = "message_expired", "it had not succeeded when its expires_in ended"
    IDEMPOTENCY_CONFLICT = (
        "idempotency_conflict",
        "its key already succeeded with a different payload",
    )

    @property
    def permanent(self) -> bool:
        """Whether another receive would fail in the same way."""
        return self in {Reason.REJECTED, Reason.UNDECODABLE, Reason.IDEMPOTENCY_CONFLICT}


class Event(_Sentence):
    """An event in the history of a message. A message that succeeds at once leaves none."""

    FAILED = "failed", "a handler failed"
    UNAVAILABLE = "unavailable", "put back uncounted: a service that the handler needs was down"
    LEASE_EXPIRED = "lease_expired", "a lease ended without an answer"
    BURIED = "buried", "moved to the dead-letter queue"
    RETRIED = "retried", "recovered with a changed body"
    REQUEUED = "requeued", "recovered unchanged"
    HELD = "held", "left for a person to look at"
    RELEASED = "released", "left for recovery again, after it was held"
    DISCARDED = "discarded", "removed by a decision"
    EXPIRED = "expired", "removed by retention or expires_in"
    CANCELLED = "cancelled", "removed on request"
    REPLACED = "replaced", "replaced by a newer message with its replace_key"
    RESCHEDULED = "rescheduled", "made ready or delayed on request"
    #: Of a queue, not of a message.
    BREAKER = "breaker", "the circuit breaker of the queue changed its phase"
    SCHEDULE = "schedule", "a schedule that sends into the queue was changed, or skipped slots"


class Refusal(_Sentence):
    """Why a message cannot be cancelled or rescheduled. The sentence follows "Message 17 "."""

    UNKNOWN = "unknown", "is not in this database: it has ended, or it never existed"
    ELSEWHERE = "elsewhere", "is in another queue: use that queue"
    IN_FLIGHT = "in_flight", "is in flight: its receiver settles it, or its lease ends first"
    DEAD = "dead", "is a dead letter: use `durableq dlq redrive` or `durableq dlq discard`"
    HELD = (
        "held",
        "is a dead letter held for a person: use `durableq dlq redrive` or `durableq dlq discard`",
    )
    BLOCKED = "blocked", "waits behind others of its group"
    TOO_LATE = "too_late", "expires before that time: give an earlier one, or cancel it"
    DEFERRED = (
        "deferred",
        "waits behind the message that has its key in progress, and is ready once that is settled",
    )


class Outcome(Enum):
    """The outcome of a settling operation for one message."""

    #: Whether nothing was written, because the receipt is no longer valid. Each settled message is
    #: asked for it, and a property that compares members takes a microsecond.
    refused: bool

    def __new__(cls, value: str, refusal: str = "") -> Outcome:
        """Create a member from its value and `refused`, if it is one."""
        member = object.__new__(cls)
        member._value_ = value
        member.refused = bool(refusal)
        return member

    DONE = "done"
    RETRY = "retry"
    BURIED = "buried"
    #: Dropped, or moved to the dead-letter queue, because its `expires_in` had ended.
    EXPIRED = "expired"
    STALE = "stale", "refused"
    GONE = "gone", "refused"

    @property
    def why(self) -> str:
        """The reason of a refusal, for the message of StaleReceipt."""
        if self is Outcome.STALE:
            return "its lease ended, and the message was given to another worker or put back"
        return (
            "the message has ended (completed, discarded, cancelled, replaced, expired or purged)"
        )
