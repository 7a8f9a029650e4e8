"""The capability of the SQS endpoint: what it alone keeps, beside its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from durableq.model.endpoint import QueueDocument
from durableq.model.message import Envelope


class Endpoint(Protocol):
    """The identity of the database, envelopes by id, and a document of each queue."""

    def database_id(self) -> int:
        """Return the identity of the database, of 48 bits.

        It is drawn at the first call, and stays: also in a backup, a restored database and after a
        transfer, for the ids of messages over SQS are made of it.
        """
        ...

    def envelopes(self, ids: Sequence[str]) -> Mapping[str, Envelope]:
        """Return the envelopes of messages by id, also of those that nobody received.

        Those that are gone are left out.

        Args:
            ids: at most MAX_RECEIVE.

        Raises:
            InvalidInput: too many.
        """
        ...

    def queue_document(self, queue: str) -> QueueDocument:
        """Return the document of a queue; an empty one if none was stored.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def queue_documents(
        self, limit: int, *, prefix: str = "", place: str = "", after: str = ""
    ) -> list[QueueDocument]:
        """Return the documents of queues, in order of name.

        A dead-letter queue that was made with its queue is left out until it has a document, or a
        message.

        Args:
            limit: the largest number.
            prefix: the start of the names.
            place: the end of the names of an account and region, as `@123456789012.eu-west-1`,
                before the `-dlq` of a dead-letter queue; empty for names without such an end.
            after: the name of the last one of the page before.
        """
        ...

    def store_queue_document(
        self, queue: str, attributes: str, tags: str, *, expected: int
    ) -> bool:
        """Store the document of a queue, if nobody has meanwhile.

        Args:
            queue: the queue.
            attributes: a JSON object. Where it changes, the queue was modified now.
            tags: a JSON object.
            expected: the version of the present document.

        Returns:
            Whether it was stored.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: one of them is over MAX_DOCUMENT_CHARS.
        """
        ...

    def begin_purge(self, queue: str, within_ms: int) -> bool:
        """Note that a queue is purged now, unless it was within this time; return whether it was
        noted.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def note_deletion(self, queue: str) -> None:
        """Note that a queue was deleted now. Maintenance forgets it after DELETIONS_KEPT_MS."""
        ...

    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue; None: none is known."""
        ...
