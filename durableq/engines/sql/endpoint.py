"""The capability of the SQS endpoint, in SQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from durableq.engines.sql import groups
from durableq.engines.sql.envelopes import envelopes
from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.metadata import compare_and_set, get_metadata
from durableq.engines.sql.queries import readiness
from durableq.engines.sql.queues import declare, delete, purge
from durableq.engines.sql.settling import fence_of
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction, row_id
from durableq.model.endpoint import (
    DELETIONS_KEPT_MS,
    IDENTITY,
    QueueDocument,
    Readiness,
    check_document,
    name_at,
    needs_a_receive,
    start_of_keys,
)
from durableq.model.errors import UnknownQueue
from durableq.model.limits import MAX_RECEIVE, MAX_VISIBILITY_MS
from durableq.model.message import Envelope, Receipt
from durableq.model.queues import DEAD_LETTER_QUEUE, Changes
from durableq.model.units import check_whole
from durableq.model.wire_message import DATABASE_BITS
from durableq.store.endpoint import NO_CHANGES, NO_SOURCES, Endpoint

#: Documents of all accounts that one statement reads.
_PAGE: Final = 1_000
#: The same, where fewer are wanted: those of other accounts may be among them.
_SHORT_PAGE: Final = 100
#: Less than each character of a name.
_LEAST: Final = " "


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

    def lease_again(
        self, receipt: Receipt, receive_count: int, recovery_count: int, visibility_ms: int
    ) -> Receipt | None:
        """Lease a message once more under the receipt of its last receive."""
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
        counts = {"receives": receive_count, "recoveries": recovery_count}
        return self._database.run(_lease_again, receipt, counts, visibility_ms)

    def readiness(self, wanted: Mapping[str, int]) -> Mapping[str, Readiness]:
        """Return when each of several queues has messages for a receive."""
        with self._database.read() as tx:
            return readiness(tx, wanted)

    def queue_document(self, queue: str) -> QueueDocument:
        """Return the document of a queue."""
        with self._database.read() as tx:
            return tx.shown(_document(tx, queue))

    def queue_documents(
        self, limit: int, *, prefix: str = "", place: str = "", after: str = ""
    ) -> list[QueueDocument]:
        """Return the documents of queues, in order of name."""
        found: list[QueueDocument] = []
        start = start_of_keys(prefix)
        from_name = max(start, after + _LEAST)
        with self._database.read() as tx:
            while len(found) < limit:
                page = min(_PAGE, max(_SHORT_PAGE, limit - len(found)))
                rows = tx.run(tx.sql.QUEUE_DOCUMENTS, from_name=from_name, limit=page).fetchall()
                found += [
                    QueueDocument(*row)
                    for row in rows
                    if (name := name_at(row[0], place)) is not None and name.startswith(prefix)
                ]
                if len(rows) < page or not rows[-1][0].startswith(start):
                    break
                from_name = rows[-1][0] + _LEAST
            return tx.shown(found[:limit])

    def documents_with(self, words: str, place: str) -> list[QueueDocument]:
        """Return the documents of an account and region whose attributes have a text."""
        with self._database.read() as tx:
            rows = tx.run(tx.sql.DOCUMENTS_WITH, words=words).fetchall()
            return tx.shown(
                [QueueDocument(*row) for row in rows if name_at(row[0], place) is not None]
            )

    def sources_of(self, queue: str) -> list[str]:
        """Return the queues whose dead letters go to a queue."""
        with self._database.read() as tx:
            return [name for (name,) in tx.run(tx.sql.SOURCES_OF, queue=queue).fetchall()]

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
        with self._database.write() as tx:
            return _has_versions(tx, sources) and _store(
                tx, queue, attributes, tags, expected, changes, sources
            )

    def purge_once(self, queue: str, within_ms: int) -> bool:
        """Purge a queue and note the time, unless it was purged so within this time."""
        with self._database.write() as tx:
            return _purge(tx, queue, within_ms)

    def remove_queue(self, name: str) -> None:
        """Delete a queue by force, and note the time."""
        with self._database.write() as tx:
            delete(tx, name, force=True)
            tx.run(tx.sql.NOTE_DELETION, name=name, now_ms=tx.now_ms)

    def deleted_ms_ago(self, queue: str) -> int | None:
        """Return the time since the noted deletion of a queue."""
        with self._database.read() as tx:
            row = tx.run(tx.sql.DELETION, name=queue).fetchone()
            return None if row is None else max(0, tx.now_ms - row[0])


def prune(tx: WriteTransaction, limit: int) -> int:
    """Forget at most `limit` old deletions, and as many receives that nobody can repeat.

    Returns the larger of the two numbers: `limit` says that there may be more.
    """
    oldest_ms = tx.now_ms - DELETIONS_KEPT_MS
    deletions: int = tx.run(tx.sql.PRUNE_DELETIONS, oldest_ms=oldest_ms, limit=limit).rowcount
    attempts: int = tx.run(tx.sql.PRUNE_ATTEMPTS, now_ms=tx.now_ms, limit=limit).rowcount
    return max(deletions, attempts)


def _lease_again(
    tx: WriteTransaction, receipt: Receipt, counts: Mapping[str, int], visibility_ms: int
) -> Receipt | None:
    fence = fence_of(tx, receipt.queue, receipt.token)
    if fence is None:
        return None
    row, token = fence
    of_message = {"of": row_id(receipt.message_id), "in_queue": row.id}
    held = tx.run(tx.sql.IN_FLIGHT_UNDER, **of_message).fetchone()
    if held is not None:
        return receipt._replace(token=bytes(held[0]).hex())
    if tx.run(tx.sql.NOT_RECEIVED_SINCE, **of_message, **counts).fetchone() is None:
        return None
    lease = {"owner": tx.owner_outside, "until": tx.lease_now_ms + visibility_ms, "token": token}
    has_groups = row.limits & groups.GROUPS
    if has_groups or tx.run(tx.sql.LEASE_AGAIN, of=of_message["of"], **lease).rowcount != 1:
        raise needs_a_receive(receipt.message_id, receipt.queue)
    count_leases(tx, row.id, row.limits, 1)
    return receipt


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


def _has_versions(tx: Transaction, versions: Mapping[str, int]) -> bool:
    """Return whether the documents of queues are still of these versions."""
    return all(_document(tx, queue).version == known for queue, known in versions.items())


def _store(
    tx: WriteTransaction,
    queue: str,
    attributes: str,
    tags: str,
    expected: int | None,
    changes: Changes,
    sources: Iterable[str],
) -> bool:
    if expected is None:
        if tx.find_queue(queue) is not None:
            return False
        declare(tx, queue, changes)
    present = _document(tx, queue)
    if present.version != (expected or 0):
        return False
    if expected is not None and changes:
        declare(tx, queue, changes)
    _put(tx, present.changed(attributes, tags, tx.now_ms, has_changes=bool(changes)))
    for source in sources:
        declare(tx, source, {DEAD_LETTER_QUEUE: queue})
    return True


def _purge(tx: WriteTransaction, queue: str, within_ms: int) -> bool:
    present = _document(tx, queue)
    if present.was_purged(tx.now_ms, within_ms):
        return False
    purge(tx, queue)
    _put(tx, present._replace(purged_at_ms=tx.now_ms))
    return True


def _put(tx: WriteTransaction, document: QueueDocument) -> None:
    values: dict[str, Any] = document._asdict()
    name = values.pop("queue")
    del values["created_at_ms"]
    tx.run(tx.sql.STORE_QUEUE_DOCUMENT, in_queue=tx.queue(name).id, **values)
