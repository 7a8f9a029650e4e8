"""The capability of the SQS endpoint: what it alone keeps, beside its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from durableq.model.endpoint import QueueDocument, Readiness
from durableq.model.message import Envelope, Receipt
from durableq.model.queues import Changes

NO_CHANGES: Final[Changes] = {}
NO_SOURCES: Final[Mapping[str, int]] = {}


class Endpoint(Protocol):
    """The identity of the database, envelopes by id, ready queues, a document of each queue."""

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

    def lease_again(
        self, receipt: Receipt, receive_count: int, recovery_count: int, visibility_ms: int
    ) -> Receipt | None:
        """Lease a message once more under the receipt of its last receive, uncounted.

        It is for a message that is ready again and was not received since. One that is in flight
        stays as it is.

        Args:
            receipt: of the receive.
            receive_count: the message's count at that receive.
            recovery_count: its count at that receive.
            visibility_ms: the length of the lease, 1 to MAX_VISIBILITY_MS.

        Returns:
            The receipt under which the message is in flight now: this one, or that of a later
            receive. None: it is not in this queue, or was received since and is not in flight.

        Raises:
            Conflict: it was not received since, and only a receive can lease it: it has a key, is
                in a queue with groups, or waits for its next try.
            InvalidInput: the length of the lease is out of bounds.
        """
        ...

    def readiness(self, wanted: Mapping[str, int]) -> Mapping[str, Readiness]:
        """Return when each of several queues has messages for a receive; those that are gone not.

        It is one look for all of them, and one more for each queue with ready messages.

        Args:
            wanted: the number of messages that is of interest, by name of the queue.
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
            prefix: the start of the names, as `name_at` returns them.
            place: the account and region, as `@123456789012.eu-west-1`; empty for names without
                such a part.
            after: the name of the last one of the page before.
        """
        ...

    def documents_with(self, words: str, place: str) -> list[QueueDocument]:
        """Return the documents of queues whose attributes have a text, in order of name.

        Args:
            words: the text, as the JSON of the attributes has it.
            place: as for `queue_documents`.
        """
        ...

    def sources_of(self, queue: str) -> list[str]:
        """Return the queues whose dead letters go to a queue, in order of name.

        Only those with a limit of receives: without one a queue of SQS has no dead letters.
        """
        ...

    def store_queue_document(
        self,
        queue: str,
        attributes: str,
        tags: str,
        *,
        expected: int | None,
        changes: Changes = NO_CHANGES,
        sources: Mapping[str, int] = NO_SOURCES,
    ) -> bool:
        """Store the document of a queue and change its settings, if nobody has meanwhile.

        Args:
            queue: the queue.
            attributes: a JSON object.
            tags: a JSON object.
            expected: the version of the present document; None: there is no such queue, and it is
                created.
            changes: as for `declare_queue`, in the same transaction. The queue was modified now if
                there are any, or the attributes are others.
            sources: queues whose dead-letter queue this one becomes, in the same transaction, with
                the versions of their present documents. Their documents stay as they are.

        Returns:
            Whether it was stored; otherwise nothing was changed.

        Raises:
            UnknownQueue: there is no such queue, or source, or dead-letter queue.
            InvalidInput: a text is over MAX_DOCUMENT_CHARS; or as `declare_queue`.
        """
        ...

    def purge_once(self, queue: str, within_ms: int) -> bool:
        """Purge a queue and note the time, unless it was purged so within this time.

        Returns:
            Whether it was purged.

        Raises:
            UnknownQueue: there is no such queue.
        """
        ...

    def remove_queue(self, name: str) -> None:
        """Delete a queue by force, as `delete_queue`, and note the time.

        Maintenance forgets it after DELETIONS_KEPT_MS.

        Raises:
            UnknownQueue: there is no such queue.
            Conflict: it is a private dead-letter queue.
        """
        ...

    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue; None: none is known."""
        ...
