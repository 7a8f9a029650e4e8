"""The capability of the SQS endpoint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from durableq.engines.memory.base import operation, query
from durableq.engines.memory.control import MemoryControl
from durableq.engines.memory.tables import Lease
from durableq.model.endpoint import (
    IDENTITY,
    QueueDocument,
    Readiness,
    check_document,
    name_at,
    needs_a_receive,
)
from durableq.model.errors import UnknownQueue
from durableq.model.limits import MAX_RECEIVE, MAX_VISIBILITY_MS
from durableq.model.message import Envelope, Receipt, State
from durableq.model.queues import DEAD_LETTER_QUEUE, Changes
from durableq.model.units import check_whole
from durableq.model.wire_message import DATABASE_BITS
from durableq.store.endpoint import NO_CHANGES, NO_SOURCES, Endpoint


class MemoryEndpoint(MemoryControl, Endpoint):
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

    @operation
    def lease_again(
        self, receipt: Receipt, receive_count: int, recovery_count: int, visibility_ms: int
    ) -> Receipt | None:
        """Lease a message once more under the receipt of its last receive."""
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
        row = self._tables.rows.get(receipt.message_id)
        if row is None or row.queue != receipt.queue:
            return None
        if row.state is State.IN_FLIGHT:
            return row.receipt
        if (row.receive_count, row.recovery_count) != (receive_count, recovery_count):
            return None
        has_groups = self._queue(row.queue).settings.group_concurrency
        if has_groups or row.state is not State.READY or row.draft.key is not None:
            raise needs_a_receive(row.id, row.queue)
        lease = Lease(receipt.token, self._clock.lease_ms() + visibility_ms, 0)
        return self._put(row, state=State.IN_FLIGHT, lease=lease).receipt

    @query
    def readiness(self, wanted: Mapping[str, int]) -> Mapping[str, Readiness]:
        """Return when each of several queues has messages for a receive."""
        found = {}
        for name, limit in wanted.items():
            if name in self._tables.queues:
                due_ms = self.ready_in_ms([name])
                number = self.count_ready(name, limit).number if due_ms == 0 else 0
                found[name] = Readiness(due_ms, number)
        return found

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
            if name > after
            if (shown := name_at(name, place)) is not None and shown.startswith(prefix)
            if one.version or tables.queues[name].dead_letter_queue or tables.in_queue(name)
        ]
        return found[:limit]

    @query
    def documents_with(self, words: str, place: str) -> list[QueueDocument]:
        """Return the documents of an account and region whose attributes have a text."""
        return [
            one
            for name, one in sorted(self._tables.documents.items())
            if words in one.attributes and name_at(name, place) is not None
        ]

    @query
    def sources_of(self, queue: str) -> list[str]:
        """Return the queues whose dead letters go to a queue."""
        return [
            name
            for name, one in sorted(self._tables.queues.items())
            if one.dead_letter_queue == queue and one.settings.max_receives
        ]

    @operation
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
        """Store the document of a queue and change its settings, if nobody has meanwhile."""
        check_document(attributes, tags)
        if any(self._document(name).version != known for name, known in sources.items()):
            return False
        if expected is None:
            if queue in self._tables.queues:
                return False
            self.declare_queue(queue, changes)
        present = self._document(queue)
        if present.version != (expected or 0):
            return False
        if expected is not None and changes:
            self.declare_queue(queue, changes)
        now_ms, has_changes = self._clock.now_ms(), bool(changes)
        changed = present.changed(attributes, tags, now_ms, has_changes=has_changes)
        self._tables.documents[queue] = changed
        for source in sources:
            self.declare_queue(source, {DEAD_LETTER_QUEUE: queue})
        return True

    @operation
    def purge_once(self, queue: str, within_ms: int) -> bool:
        """Purge a queue and note the time, unless it was purged so within this time."""
        present, now_ms = self._document(queue), self._clock.now_ms()
        if present.was_purged(now_ms, within_ms):
            return False
        self.purge(queue)
        self._tables.documents[queue] = present._replace(purged_at_ms=now_ms)
        return True

    @operation
    def remove_queue(self, name: str) -> None:
        """Delete a queue by force, and note the time."""
        self.delete_queue(name, force=True)
        self._tables.deletions[name] = self._clock.now_ms()

    @query
    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue."""
        at_ms = self._tables.deletions.get(queue)
        return None if at_ms is None else max(0, self._clock.now_ms() - at_ms)

    def _document(self, queue: str) -> QueueDocument:
        if queue not in self._tables.documents:
            raise UnknownQueue(queue)
        return self._tables.documents[queue]
