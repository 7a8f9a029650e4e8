"""The capability of the SQS endpoint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.model.endpoint import IDENTITY, QueueDocument, check_document, is_at
from durableq.model.errors import UnknownQueue
from durableq.model.limits import MAX_RECEIVE
from durableq.model.message import Envelope
from durableq.model.units import check_whole
from durableq.model.wire_message import DATABASE_BITS
from durableq.store.endpoint import Endpoint


class MemoryEndpoint(MemoryBase, Endpoint):
    """Documents, and all else that the SQS endpoint keeps beside its messages."""

    @operation
    def database_id(self) -> int:
        """Return the identity of the database."""
        drawn = str(secrets.randbits(DATABASE_BITS))
        return int(self._tables.metadata.setdefault(IDENTITY, drawn))

    @query
    def envelopes(self, ids: Sequence[str]) -> Mapping[str, Envelope]:
        """Return the envelopes of messages by id."""
        check_whole(len(ids), "The number of messages", 0, MAX_RECEIVE)
        found = {row.id: row for row in map(self._tables.rows.get, ids) if row is not None}
        return {name: self._clock.shown(row.envelope) for name, row in found.items()}

    @query
    def queue_document(self, queue: str) -> QueueDocument:
        """Return the document of a queue."""
        return self._document(queue)

    @query
    def queue_documents(
        self, limit: int, *, prefix: str = "", place: str = "", after: str = ""
    ) -> list[QueueDocument]:
        """Return the documents of queues, in order of name."""
        tables = self._tables
        found = [
            one
            for name, one in sorted(tables.documents.items())
            if name > after and name.startswith(prefix) and is_at(name, place)
            if one.version or tables.queues[name].dead_letter_queue or tables.in_queue(name)
        ]
        return found[:limit]

    @operation
    def store_queue_document(
        self, queue: str, attributes: str, tags: str, *, expected: int
    ) -> bool:
        """Store the document of a queue, if nobody has meanwhile."""
        check_document(attributes, tags)
        present = self._document(queue)
        if present.version != expected:
            return False
        changes = present.attributes != attributes or not expected
        self._tables.documents[queue] = present._replace(
            attributes=attributes,
            tags=tags,
            modified_at_ms=self._clock.now_ms() if changes else present.modified_at_ms,
            version=expected + 1,
        )
        return True

    @operation
    def begin_purge(self, queue: str, within_ms: int) -> bool:
        """Note that a queue is purged now, unless it was within this time."""
        present, now_ms = self._document(queue), self._clock.now_ms()
        if present.purged_at_ms and 0 <= now_ms - present.purged_at_ms < within_ms:
            return False
        self._tables.documents[queue] = present._replace(purged_at_ms=now_ms)
        return True

    @operation
    def note_deletion(self, queue: str) -> None:
        """Note that a queue was deleted now."""
        self._tables.deletions[queue] = self._clock.now_ms()

    @query
    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue."""
        at_ms = self._tables.deletions.get(queue)
        return None if at_ms is None else max(0, self._clock.now_ms() - at_ms)

    def _document(self, queue: str) -> QueueDocument:
        if queue not in self._tables.documents:
            raise UnknownQueue(queue)
        return self._tables.documents[queue]
