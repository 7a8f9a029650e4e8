"""The capability of redrive: one decision about many messages, a slice at a time."""

from __future__ import annotations

from typing import Protocol

from durableq.model.dead_letters import DeadLetterFilter, RedriveTask, WholeQueue
from durableq.model.decisions import Discard, Requeue


class Redrive(Protocol):
    """Redrive tasks: one decision about many messages, a slice at a time."""

    def start_redrive(
        self,
        wanted: DeadLetterFilter | WholeQueue,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
        rate: float | None = None,
    ) -> RedriveTask:
        """Create a redrive task, which `continue_redrive` performs.

        It covers the dead letters that match and are dead now, or all messages that are now in a
        queue. The newest MAX_REDRIVE_TASKS ended tasks are kept, older ones dropped, and those of a
        whole queue when it is deleted.

        Args:
            wanted: dead letters, held ones too; or all messages of a queue, which is any queue. One
                task of a whole queue runs at a time, whichever processes start them.
            decision: the same for each. A whole queue is not discarded, but purged.
            to_queue: requeue to this one instead of each message's source queue. Its keys guard
                there; the body was accepted once and is not measured again.
            actor: the person or process that decides; in the history of each message.
            rate: messages sent back in a second, MIN_RATE to MAX_RATE, by all processes that
                continue the task together; None: no limit.

        Raises:
            UnknownQueue: a named queue does not exist.
            Conflict: a named queue is a private dead-letter queue, which only `WholeQueue` may
                name; the source queue of a dead letter that matches does not exist any more, and
                no other is named; or, of a whole queue, a task is running, or it is the target.
            InvalidInput: a delay or rate out of bounds, or a discard with `to_queue` or `rate` or
                of a whole queue.
        """
        ...

    def continue_redrive(
        self, task_id: str, limit: int, *, within_ms: int | None = None
    ) -> RedriveTask:
        """Decide about the next messages of a task; DONE when none was left.

        Dead letters by a filter come in order of id, the messages of a whole queue in the order of
        receiving, so that groups keep their order. The position is kept in the same transaction:
        processes that continue a task after a crash, or at the same time, decide about no message
        twice. Messages that come after the start are not covered, also such as were moved by this
        task and died again. Leased ones are skipped, and in a whole queue those behind them in
        their groups. A task that has ended does not change.

        A task fails when its target was deleted, or at a message of a whole queue that has no
        source queue, while the task names no target. What it has moved stays moved.

        With a rate, a step sends back as many as the rate allows now: no window of time has more
        than `default_burst(rate)` + rate x window. Where it allows none, nothing is written and
        the answer's `wait_ms` is the time until a step is worth while.

        Args:
            task_id: from `start_redrive`.
            limit: 1 to MAX_RECEIVE_BATCH messages.
            within_ms: decide about fewer once this time has passed. It is looked at between pages
                of a few messages, of which there is one at least. None: no limit.

        Raises:
            NotFound: there is no such task.
            Conflict: another process continued it at the same time; try again.
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
