"""The capability of redrive: one decision about many dead letters, a slice at a time."""

from __future__ import annotations

from typing import Protocol

from durableq.model.dead_letters import DeadLetterFilter, RedriveTask
from durableq.model.decisions import Discard, Requeue


class Redrive(Protocol):
    """Redrive tasks: one decision about many dead letters, a slice at a time."""

    def start_redrive(
        self,
        wanted: DeadLetterFilter,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
        rate: float | None = None,
    ) -> RedriveTask:
        """Create a redrive task, which `continue_redrive` performs.

        It covers the messages that match and are dead now. The newest MAX_REDRIVE_TASKS ended tasks
        are kept, older ones dropped.

        Args:
            wanted: the dead letters, held ones too.
            decision: the same for each.
            to_queue: requeue to this one instead of each message's source queue. Its keys guard
                there; the body was accepted once and is not measured again.
            actor: the person or process that decides; in the history of each message.
            rate: messages sent back in a second, MIN_RATE to MAX_RATE, by all processes that
                continue the task together; None: no limit.

        Raises:
            UnknownQueue: a named queue does not exist.
            Conflict: it is a dead-letter queue; or the source queue of a message does not exist any
                more, and no other is named.
            InvalidInput: a delay or rate out of bounds, or a discard with `to_queue` or `rate`.
        """
        ...

    def continue_redrive(self, task_id: str, limit: int) -> RedriveTask:
        """Decide about the next dead letters of a task, in order of id; DONE when none was left.

        The position is kept in the same transaction: processes that continue a task after a crash,
        or at the same time, decide about no message twice. Deaths after the start are not covered,
        and leased dead letters are skipped. A task that has ended does not change.

        With a rate, a step sends back as many as the rate allows now: no window of time has more
        than `default_burst(rate)` + rate x window. Where it allows none, nothing is written and
        the answer's `wait_ms` is the time until a step is worth while.

        Args:
            task_id: from `start_redrive`.
            limit: 1 to MAX_RECEIVE_BATCH dead letters.

        Raises:
            NotFound: there is no such task.
            UnknownQueue: its target queue was deleted.
        """
        ...

    def set_redrive_rate(self, task_id: str, rate: float | None) -> RedriveTask:
        """Change the rate of a running task; it applies from the next step on.

        Args:
            task_id: from `start_redrive`.
            rate: as for `start_redrive`.

        Raises:
            NotFound: there is no such task.
            Conflict: it has ended.
            InvalidInput: a rate out of bounds, or the task discards.
        """
        ...

    def cancel_redrive(self, task_id: str) -> RedriveTask:
        """Stop a running task; the messages that it has moved stay moved.

        Raises:
            NotFound: there is no such task.
        """
        ...

    def redrive_tasks(self) -> list[RedriveTask]:
        """Return the running tasks and the newest that have ended, newest first."""
        ...

    def redrive_task(self, task_id: str) -> RedriveTask:
        """Return one task.

        Raises:
            NotFound: there is no such task.
        """
        ...
