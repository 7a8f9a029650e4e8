"""The capability of inspection: reads for people and programs."""

from __future__ import annotations

from typing import Protocol

from durableq.model.health import Storage
from durableq.model.info import (
    ALL_EVENTS,
    ANYTHING,
    GroupInfo,
    HistoryFilter,
    HistoryPage,
    QueueInfo,
    Sample,
    Search,
    SearchPage,
)
from durableq.model.message import Message
from durableq.model.queues import ApproximateCounts


class Inspect(Protocol):
    """Reads for people and programs. Nothing here writes."""

    def queues(self, *, recount: bool = False, dead_letters: bool = False) -> list[QueueInfo]:
        """Return every queue, by name.

        Args:
            recount: count each message, which takes time in proportion to their number. Otherwise
                the number of ready messages may be taken from the counters, and is wrong if they
                are.
            dead_letters: count the dead letters of queues without a private dead-letter queue, too,
                one by one.
        """
        ...

    def queue(self, name: str) -> QueueInfo:
        """Return one queue, with the counts of its messages.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def approximate_counts(self, queue: str) -> ApproximateCounts:
        """Return the numbers of a queue's messages at this moment, as SQS reports them.

        A message that is due and one whose lease has ended are visible, although no receive has
        made them ready yet; so is one that is blocked by others of its group, and each of a paused
        queue. The number of ready messages is taken from the counters.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def message(self, message_id: str) -> Message | None:
        """Return one message, in any queue; None once it has ended."""
        ...

    def peek(self, queue: str, limit: int, after_id: str | None = None) -> list[Message]:
        """Return messages of a queue in order of id, in any state, without receiving them.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: `after_id` cannot be the id of a message.
        """
        ...

    def search(
        self, queue: str, limit: int, wanted: Search = ANYTHING, before_id: str | None = None
    ) -> SearchPage:
        """Return messages of a queue that match, newest first, without receiving them.

        One call looks at a bounded number of messages, SEARCHED: a page may have less than `limit`
        messages, or none, and not be the last one.

        Args:
            queue: its name.
            limit: maximum number of messages.
            wanted: conditions; none means all messages.
            before_id: `looked_to` of the page before.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: `before_id` cannot be the id of a message, or `wanted` is not possible.
        """
        ...

    def events(
        self, after: str = "", limit: int = 1000, wanted: HistoryFilter = ALL_EVENTS
    ) -> HistoryPage:
        """Return the next events of the histories of all messages, in the order of their writes.

        One call looks at a bounded number of events, SEARCHED: a page may have less than `limit`,
        or none, and not be the last one. It is the last one if its mark is `after`. An event that
        was not there yet comes behind the mark, whoever writes it: no reader misses one. One that
        is removed meanwhile, by retention or with its queue, may let others come twice.

        Args:
            after: the mark of the page before, or of the functions below; empty: from the oldest.
            limit: maximum number of events, from 1 to SEARCHED.
            wanted: which ones.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: `after` is no mark, or `limit` is out of bounds.
        """
        ...

    def mark_before(self, number: int, wanted: HistoryFilter = ALL_EVENTS) -> str:
        """Return the mark before the last events that match; 0: behind all.

        Args:
            number: of the events, from 0 to LOOKED_BACK; where they are fewer among the last
                LOOKED_BACK, all of those.
            wanted: which ones.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: `number` is out of bounds.
        """
        ...

    def mark_since(self, since_ms: int) -> str:
        """Return the mark before the first event since a time of the wall clock."""
        ...

    def group(self, queue: str, name: str, limit: int = 10) -> GroupInfo:
        """Return the active messages of a group, and its dead letters: at most `limit` of each.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def samples(self, queue: str, since_ms: int) -> list[Sample]:
        """Return a queue, or a dead-letter queue, as it stood at times, oldest first.

        Maintenance takes a sample once a minute of each queue that has changed, and keeps it for
        SAMPLES_KEPT_MS. Between two samples a queue has changed evenly as far as is known; after
        the last one it had not changed when maintenance last looked. An engine without the
        capability of maintenance has no samples.

        Args:
            queue: its name.
            since_ms: wall clock. The first sample is the last one from before, if there is one,
                which tells how the queue stood then.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def storage(self) -> Storage:
        """Return the storage's location and size."""
        ...
