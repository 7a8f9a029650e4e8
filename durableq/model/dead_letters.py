"""Dead letters by the many: which are meant, what killed them, moving them, what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict, InvalidInput, NotFound
from durableq.model.message import DeadLetter, Reason
from durableq.model.text import shown
from durableq.model.units import check_whole

#: How the name of every recovery process begins.
RECOVERY_ACTOR: Final = "recovery:"


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that fit all that is given; nothing given means all."""

    #: Where they died.
    queue: str | None = None
    reason: Reason | None = None
    #: Of the failure that killed them.
    error_type: str | None = None
    #: Of the failure that killed them.
    fingerprint: str | None = None
    #: Wall clock.
    died_before_ms: int | None = None

    def fits(self, dead_letter: DeadLetter) -> bool:
        """Return whether a letter is one of them."""
        burial = dead_letter.burial
        error_type = burial.error_type if burial is not None else ""
        return (
            self.queue in {None, dead_letter.source_queue}
            and self.reason in {None, dead_letter.reason}
            and self.error_type in {None, error_type}
            and self.fingerprint in {None, dead_letter.fingerprint}
            and (self.died_before_ms is None or dead_letter.died_at_ms < self.died_before_ms)
        )


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one queue that were killed by the same failure."""

    #: Where they died.
    queue: str
    reason: Reason
    fingerprint: str
    #: The example's, as are message and place.
    error_type: str
    error_message: str
    place: str
    count: int
    #: Wall clock, as is the last.
    first_died_ms: int
    last_died_ms: int
    #: The one that died last.
    example_id: str


class RedriveState(StrEnum):
    """How far a move is."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RedriveTask:
    """One decision about many dead letters, carried out a few at a time ("message move" in SQS)."""

    id: str
    wanted: DeadLetterFilter
    decision: Requeue | Discard
    #: Where requeued letters go; None: each to the queue where it died.
    to_queue: str | None
    state: RedriveState
    #: Letters that fitted when it started.
    total: int
    #: Letters decided about so far.
    moved: int
    #: Letters met that somebody had leased just then; the move does not come back to them.
    skipped: int
    actor: str
    #: Wall clock.
    started_at_ms: int
    #: Wall clock, when it last went on.
    updated_at_ms: int

    @property
    def word(self) -> str:
        """The verdict in a word: requeue or discard."""
        return type(self.decision).__name__.lower()


def check_redrive(decision: Requeue | Discard, to_queue: str | None) -> None:
    """Refuse a move that cannot be carried out, whatever is in the store.

    Raises:
        InvalidInput: another verdict, a delay out of bounds, or a discard to somewhere.
    """
    if not isinstance(decision, Requeue | Discard):
        raise InvalidInput(f"A move requeues or discards; it cannot {type(decision).__name__}.")
    if isinstance(decision, Requeue):
        _ = decision.delay_ms
    elif to_queue is not None:
        raise InvalidInput(
            f"What is discarded goes nowhere: leave out the queue {shown(to_queue)}."
        )


def check_redrive_limit(limit: int, most: int) -> None:
    """Refuse a step of a move that is empty, or too long for one transaction.

    Raises:
        InvalidInput: not 1 to `most`.
    """
    check_whole(limit, "The number of letters of a move's step", 1, most)


def unknown_redrive(task_id: str) -> NotFound:
    """Return the error for a move that is not in the store."""
    return NotFound(
        f"There is no move {shown(task_id)} in this file; only the newest are remembered."
    )


def source_is_gone(message_id: str) -> Conflict:
    """Return the error for a letter that has no queue to go back to."""
    return Conflict(
        f"The queue where dead letter {message_id} died does not exist any more. Nothing was "
        "moved: name another queue for it (durableq dlq redrive --to QUEUE; to_queue in Python)."
    )


class RecoveredFate(Enum):
    """What became of a message that recovery sent back."""

    #: It is still there, and has not died since.
    PENDING = "pending"
    #: It died again after that, whatever happened to it since.
    DIED = "died"
    #: It is no longer in the file, and had not died again.
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A message that a recovery process sent back to its queue."""

    message_id: str
    #: Wall clock of the newest time.
    at_ms: int
    liveness: RecoveredFate
