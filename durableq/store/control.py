"""The capability of control: single messages by id, and whole queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durableq.model.info import BreakerInfo
from durableq.model.message import Refusal


class Control(Protocol):
    """Operations on single messages by id, and on whole queues."""

    def cancel(
        self, ids: Sequence[str], *, queue: str | None = None, actor: str = "", note: str = ""
    ) -> list[Refusal | None]:
        """Remove messages that are ready, delayed or blocked, with an event in their histories.

        Leases of their queues that have ended are taken back first. `lifecycle.refusal` decides;
        a message that is refused stays as it is, and the others are removed.

        Args:
            ids: at most MAX_RECEIVE_BATCH.
            queue: only messages of this queue; None: of any.
            actor: the person or process, for the history.
            note: why; the reason of the event in the history, at most MAX_ERROR_CHARS characters.

        Returns:
            For each id, in order, the reason why it was not removed; None: it was.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: too many ids, or a note that is too long.
        """
        ...

    def reschedule(
        self,
        ids: Sequence[str],
        *,
        delay_ms: int = 0,
        at_ms: int | None = None,
        queue: str | None = None,
        actor: str = "",
        note: str = "",
    ) -> list[Refusal | None]:
        """Delay messages that are ready or delayed until another time, or make them ready.

        A message behind the key of another stays behind it: a later time replaces the end of its
        wait, and its key is looked at then; it cannot be made ready before its key is settled.
        A message that is ready already, and stays so, does not change.

        Args:
            ids: as for cancel.
            delay_ms: the wait from now, 0 to MAX_DELAY_MS; 0 makes them ready.
            at_ms: the due time on the wall clock instead, at most MAX_DELAY_MS ahead; a time in
                the past makes them ready.
            queue: as for cancel.
            actor: as for cancel.
            note: as for cancel. A message that does not change has no event for it.

        Returns:
            As cancel.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: too many ids, a time out of bounds, or a note that is too long.
        """
        ...

    def breaker(self, queue: str) -> BreakerInfo:
        """Return the circuit breaker of a queue, with the changes of phase that are kept.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def set_breaker(
        self, queue: str, *, is_open: bool, open_ms: int | None = None, actor: str = ""
    ) -> BreakerInfo:
        """Open or close the circuit breaker of a queue by hand, for all processes.

        An open one probes when its time is over. A closed one opens again by the rules that it has.

        Args:
            queue: the queue.
            is_open: whether to open it.
            open_ms: how long it stays open; None: as long as it would by itself.
            actor: the person or process, for the history.

        Raises:
            UnknownQueue: there is no such queue.
            Conflict: the queue's breaker is off.
            InvalidInput: the time is out of bounds, or given for closing.
        """
        ...

    def purge(self, queue: str) -> int:
        """Remove every message of a queue, leased ones too; return their number.

        Their deduplication ids are forgotten, so each may be sent again.
        """
        ...

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue, its private dead-letter queue, their records, history and metadata.

        Metadata belongs to a queue if its name ends with a colon and the queue's name. Its dead
        letters in other queues stay there, as messages of those. Queues whose dead letters came to
        it have NAME-dlq again.

        Raises:
            Conflict: it is a private dead-letter queue; or it holds messages, or is the
                dead-letter queue of others, and `force` is False.
        """
        ...
