"""The capability of the SQS endpoint, in SQL."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from durableq.engines.sql.envelopes import envelopes
from durableq.engines.sql.metadata import compare_and_set, get_metadata
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction, row_id
from durableq.model.endpoint import (
    DELETIONS_KEPT_MS,
    IDENTITY,
    QueueDocument,
    check_document,
    is_at,
)
from durableq.model.errors import UnknownQueue
from durableq.model.limits import MAX_RECEIVE
from durableq.model.message import Envelope
from durableq.model.units import check_whole
from durableq.model.wire_message import DATABASE_BITS
from durableq.store.endpoint import Endpoint

#: Documents of all accounts that one statement reads.
_PAGE: Final = 1_000


class SQLEndpoint(Operations, Endpoint):
    """Documents, and all else that the SQS endpoint keeps beside its messages."""

    def database_id(self) -> int:
        """Return the identity of the database."""
        with self._database.read() as tx:
            known = get_metadata(tx, IDENTITY)
        return self._database.run(_identify) if known is None else int(known)

    def envelopes(self, ids: Sequence[str]) -> Mapping[str, Envelope]:
        """Return the envelopes of messages by id."""
        check_whole(len(ids), "The number of messages", 0, MAX_RECEIVE)
        with self._database.read() as tx:
            return envelopes(tx, [row_id(message_id) for message_id in ids])

    def queue_document(self, queue: str) -> QueueDocument:
        """Return the document of a queue."""
        with self._database.read() as tx:
            return tx.shown(_document(tx, queue))

    def queue_documents(
        self, limit: int, *, prefix: str = "", place: str = "", after: str = ""
    ) -> list[QueueDocument]:
        """Return the documents of queues, in order of name."""
        found: list[QueueDocument] = []
        with self._database.read() as tx:
            while len(found) < limit:
                values = {"after": after, "prefix": prefix, "limit": _PAGE}
                rows = tx.run(tx.sql.QUEUE_DOCUMENTS, **values).fetchall()
                found += [QueueDocument(*row) for row in rows if is_at(row[0], place)]
                if len(rows) < _PAGE:
                    break
                after = rows[-1][0]
            return tx.shown(found[:limit])

    def store_queue_document(
        self, queue: str, attributes: str, tags: str, *, expected: int
    ) -> bool:
        """Store the document of a queue, if nobody has meanwhile."""
        check_document(attributes, tags)
        return self._database.run(_store, queue, attributes, tags, expected)

    def begin_purge(self, queue: str, within_ms: int) -> bool:
        """Note that a queue is purged now, unless it was within this time."""
        return self._database.run(_begin_purge, queue, within_ms)

    def note_deletion(self, queue: str) -> None:
        """Note that a queue was deleted now."""
        with self._database.write() as tx:
            tx.run(tx.sql.NOTE_DELETION, name=queue, now_ms=tx.now_ms)

    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue."""
        with self._database.read() as tx:
            row = tx.run(tx.sql.DELETION, name=queue).fetchone()
            return None if row is None else max(0, tx.now_ms - row[0])


def prune(tx: WriteTransaction, limit: int) -> int:
    """Forget old deletions, and receives that nobody can repeat; return the number of those."""
    tx.run(tx.sql.PRUNE_DELETIONS, oldest_ms=tx.now_ms - DELETIONS_KEPT_MS)
    forgotten: int = tx.run(tx.sql.PRUNE_ATTEMPTS, now_ms=tx.now_ms, limit=limit).rowcount
    return forgotten


def _identify(tx: WriteTransaction) -> int:
    """Return the identity of the database; draw it unless another process was first."""
    drawn = str(secrets.randbits(DATABASE_BITS))
    compare_and_set(tx, IDENTITY, drawn, None)
    return int(get_metadata(tx, IDENTITY) or drawn)


def _document(tx: Transaction, queue: str) -> QueueDocument:
    row = tx.execute(tx.sql.QUEUE_DOCUMENT, (queue,)).fetchone()
    if row is None:
        raise UnknownQueue(queue)
    return QueueDocument(*row)


def _store(tx: WriteTransaction, queue: str, attributes: str, tags: str, expected: int) -> bool:
    present = _document(tx, queue)
    if present.version != expected:
        return False
    changes = present.attributes != attributes or not expected
    _put(
        tx,
        present._replace(
            attributes=attributes,
            tags=tags,
            modified_at_ms=tx.now_ms if changes else present.modified_at_ms,
            version=expected + 1,
        ),
    )
    return True


def _begin_purge(tx: WriteTransaction, queue: str, within_ms: int) -> bool:
    present = _document(tx, queue)
    if present.purged_at_ms and 0 <= tx.now_ms - present.purged_at_ms < within_ms:
        return False
    _put(tx, present._replace(purged_at_ms=tx.now_ms))
    return True


def _put(tx: WriteTransaction, document: QueueDocument) -> None:
    values: dict[str, Any] = document._asdict()
    name = values.pop("queue")
    del values["created_at_ms"]
    tx.run(tx.sql.STORE_QUEUE_DOCUMENT, in_queue=tx.queue(name).id, **values)
