"""The capability of schedules: messages that are sent at times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durableq.model.schedules import Schedule
from durableq.model.slots import Fired, ScheduleInfo


class Schedules(Protocol):
    """Schedules by name, which send one message for each of their slots.

    `decide` decides about slots that are due; their messages and the move to the next slot are one
    transaction. The times of slots are those of the wall clock.
    """

    def declare_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Store schedules that are new or have changed, all or none: the newest definition counts.

        A new one, and one whose timing changes, counts from now. Where nothing changes, nothing is
        written.

        Raises:
            UnknownQueue: the queue of one is not there.
            Conflict: it is a private dead-letter queue.
        """
        ...

    def schedules(self) -> list[ScheduleInfo]:
        """Return all schedules, by name."""
        ...

    def schedule(self, name: str) -> ScheduleInfo:
        """Return one schedule.

        Raises:
            NotFound: there is no such schedule.
        """
        ...

    def next_slots_in_ms(self, names: Sequence[str]) -> dict[str, int]:
        """Return the time until a decision about each of these schedules is due; 0: it is.

        Those that are not stored, or are paused, are left out.
        """
        ...

    def fire_schedule(self, name: str) -> Fired:
        """Decide about the slots of a schedule that are due, and send their messages.

        Nothing is sent where none is due, or the schedule is paused or not stored: another process
        was first. A slot whose message a full queue sheds is skipped, and so are the oldest ones
        where more are due than the queue can hold at all.

        Raises:
            QueueFull, StorageFull, InvalidBody: the queue takes no message; the slots stay due.
            InvalidInput: this machine does not know the time zone of the schedule, or not even one
                message fits into the limits of the queue; the slots stay due.
        """
        ...

    def pause_schedule(self, name: str, *, paused: bool, actor: str = "") -> ScheduleInfo:
        """Pause a schedule for all processes, or let it go on.

        The slots of a pause are not sent later.

        Raises:
            NotFound: there is no such schedule.
        """
        ...

    def run_schedule(self, name: str, *, actor: str = "") -> str:
        """Send one message of a schedule now, under a key of its own; return its id.

        Its slots do not change. A schedule that is paused sends this message too. The id is SHED
        if the queue is full and sheds it.

        Raises:
            NotFound: there is no such schedule.
            QueueFull, StorageFull, InvalidBody: the queue takes no message.
        """
        ...

    def remove_schedule(self, name: str, *, actor: str = "") -> None:
        """Remove a schedule. The messages that it has sent stay.

        An application that still has it in its code stores it again when it opens the database.

        Raises:
            NotFound: there is no such schedule.
        """
        ...
