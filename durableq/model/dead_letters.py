"""Many dead letters: filters, groups by failure, redrive tasks, and the fate of the recovered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict, InvalidInput, NotFound
from durableq.model.flow.rate import check_rate
from durableq.model.limits import DAY_MS
from durableq.model.message import DeadLetter, Event, Reason
from durableq.model.text import shown
from durableq.model.units import check_whole

#: The prefix of the name of every recovery process.
RECOVERY_ACTOR: Final = "recovery:"
#: The events of decisions about dead letters.
DECISION_EVENTS: Final = (Event.DISCARDED, Event.RETRIED, Event.REQUEUED, Event.HELD)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A filter of dead letters. All given fields must match; an empty filter matches all."""

    #: The queue in which they failed.
    queue: str | None = None
    reason: Reason | None = None
    #: The type or fingerprint of the last failure.
    error_type: str | None = None
    #: The type or fingerprint of the last failure.
    fingerprint: str | None = None
    #: Wall clock.
    died_before_ms: int | None = None

    def fits(self, dead_letter: DeadLetter) -> bool:
        """Return whether a dead letter matches."""
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
class WholeQueue:
    """All messages of a queue: its dead letters, of any source, and those that were sent to it."""

    name: str


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one queue with the same reason and fingerprint."""

    #: The queue in which they failed.
    queue: str
    reason: Reason
    fingerprint: str
    #: Error type, message and place are those of the example.
    error_type: str
    error_message: str
    place: str
    count: int
    #: Both times are on the wall clock.
    first_died_ms: int
    last_died_ms: int
    #: The id of the newest dead letter.
    example_id: str


class RedriveState(StrEnum):
    """The state of a redrive task."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    #: It met what `failure` tells; the messages that it has moved stay moved.
    FAILED = "failed"


class RedriveFailure(StrEnum):
    """Why a redrive task failed. The sentence is for people."""

    NO_TARGET = "no_target"
    NO_SOURCE = "no_source"

    @property
    def sentence(self) -> str:
        """The sentence for a person."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    RedriveFailure.NO_TARGET: "its target queue was deleted",
    RedriveFailure.NO_SOURCE: (
        "the next message never died in another queue, or that queue was deleted, and the task "
        "names no target"
    ),
}


@dataclass(frozen=True, slots=True)
class RedriveTask:
    """One decision about many messages, applied in steps (SQS: a message move task)."""

    id: str
    wanted: DeadLetterFilter | WholeQueue
    decision: Requeue | Discard
    #: The target of a requeue; None sends each dead letter to the queue in which it failed.
    to_queue: str | None
    state: RedriveState
    #: The number of messages that are meant, at the start.
    total: int
    #: The number of decisions so far.
    moved: int
    #: The number of messages passed over because they were leased; of a whole queue also those
    #: behind them in their groups.
    skipped: int
    actor: str
    #: Wall clock.
    started_at_ms: int
    #: The wall-clock time of the last step.
    updated_at_ms: int
    #: Messages sent back in a second, by all processes that continue it; None: no limit.
    rate: float | None = None
    #: The time to wait before the next step, while the rate allows none.
    wait_ms: int = 0
    #: Why it is FAILED.
    failure: RedriveFailure | None = None

    @property
    def word(self) -> str:
        """The name of the decision: requeue or discard."""
        return type(self.decision).__name__.lower()

    @property
    def whole_queue(self) -> str | None:
        """The queue all of whose messages are meant; None: dead letters by a filter."""
        return self.wanted.name if isinstance(self.wanted, WholeQueue) else None


def check_redrive(
    wanted: DeadLetterFilter | WholeQueue,
    decision: Requeue | Discard,
    to_queue: str | None,
    rate: float | None = None,
) -> None:
    """Check the decision of a redrive task.

    Raises:
        InvalidInput: another decision, a delay or rate out of bounds, a discard with a target
            queue or a rate, or the discard of a whole queue.
        Conflict: a whole queue would be moved to itself.
    """
    if not isinstance(decision, Requeue | Discard):
        raise InvalidInput(
            f"A redrive task requeues or discards; it cannot {type(decision).__name__}."
        )
    if isinstance(decision, Requeue):
        _ = decision.delay_ms
        check_redrive_rate(rate)
    elif rate is not None:
        raise InvalidInput(f"A discard sends nothing back: leave out the rate {shown(rate)}.")
    elif to_queue is not None:
        raise InvalidInput(f"A discard has no target: leave out the queue {shown(to_queue)}.")
    if isinstance(wanted, WholeQueue):
        if isinstance(decision, Discard):
            raise InvalidInput(f"To discard all of queue {shown(wanted.name)}, purge it.")
        if wanted.name == to_queue:
            raise Conflict(f"Queue {shown(to_queue)} cannot be moved to itself.")


def check_redrive_rate(rate: float | None) -> None:
    """Check the rate of a redrive task.

    Raises:
        InvalidInput: neither None nor a number from MIN_RATE to MAX_RATE.
    """
    if rate is not None:
        check_rate(rate, "The rate of a redrive")


def check_redrive_step(limit: int, most: int, within_ms: int | None) -> None:
    """Check the number of dead letters in one step of a redrive task, and its time.

    Raises:
        InvalidInput: not 1 to `most`, or no time.
    """
    check_whole(limit, "The number of dead letters in a step", 1, most)
    if within_ms is not None:
        check_whole(within_ms, "The milliseconds of a step", 0, DAY_MS)


def unknown_redrive(task_id: str) -> NotFound:
    """Return the error for an unknown redrive task."""
    return NotFound(
        f"There is no redrive task {shown(task_id)} in this database; only the newest are kept."
    )


def check_running(task: RedriveTask) -> None:
    """Refuse to change a redrive task that has ended.

    Raises:
        Conflict: it has.
    """
    if task.state is not RedriveState.RUNNING:
        raise Conflict(
            f"Redrive task {task.id} has ended ({task.state}), so its rate cannot be changed. "
            "Start another one."
        )


def continued_meanwhile(task_id: str) -> Conflict:
    """Return the error for a task that another process changed within a step."""
    return Conflict(
        f"Another process continued redrive task {shown(task_id)} at the same time. Nothing was "
        "changed by this one: try again."
    )


class RedriveRunning(Conflict):
    """A redrive task of all of a queue is running, and there is one at a time."""


def one_at_a_time(queue: str) -> RedriveRunning:
    """Return the error for a second running task of a whole queue."""
    return RedriveRunning(
        f"A redrive task of all of queue {shown(queue)} is running; there is one at a time. Wait "
        "for its end, or cancel it (durableq dlq cancel)."
    )


def source_is_gone(message_id: str) -> Conflict:
    """Return the error for a dead letter whose queue was deleted."""
    return Conflict(
        f"The queue where dead letter {message_id} died does not exist any more. Nothing was "
        "moved: name another queue for it (durableq dlq redrive --to QUEUE; to_queue in Python)."
    )


class RecoveredFate(Enum):
    """The fate of a message that recovery sent back."""

    #: It is still in the file and has not failed again.
    PENDING = "pending"
    #: It moved to the dead-letter queue again.
    DIED = "died"
    #: It left the file without moving to the dead-letter queue again.
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A message that a recovery process sent back to its queue."""

    message_id: str
    #: The wall-clock time of the last redrive.
    at_ms: int
    fate: RecoveredFate


class DecisionCount(NamedTuple):
    """Equal decisions of recovery processes about dead letters of a queue."""

    #: DISCARDED, RETRIED, REQUEUED or HELD.
    event: Event
    #: It begins with the rule, if one decided.
    reason: str
    number: int
    #: The wall-clock time of the last one.
    at_ms: int


class RecoveryDecisions(NamedTuple):
    """The decisions of recovery processes about dead letters of a queue."""

    #: The largest number first.
    counts: list[DecisionCount]
    #: Whether there were events before the newest SEARCHED, which were not looked at.
    is_partial: bool
