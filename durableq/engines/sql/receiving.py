"""Receiving: due messages become ready, ended leases are taken back, ready messages are leased."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from durableq.engines.sql.columns import NO_RECEIPT
from durableq.engines.sql.queries import ready_in_ms
from durableq.engines.sql.reclaiming import reclaim_expired, stored_owner
from durableq.engines.sql.settling import LeasedMessage, bury, put_back
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Token,
    WriteTransaction,
    row_id,
)
from durableq.model import codec
from durableq.model.errors import UnknownQueue
from durableq.model.lifecycle import Admission, KnownKey, admit
from durableq.model.limits import (
    MAX_RECEIVE_BATCH,
    MAX_SET_ASIDE,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import (
    Duplicate,
    Event,
    Failure,
    Message,
    Reason,
    Receipt,
    Received,
    RecordStatus,
    State,
)
from durableq.model.units import check_whole
from durableq.store.core import Watch, receive_or_wait

_IN_FLIGHT: Final = State.IN_FLIGHT  # to look up a member takes 0.2 µs for each message
CONFLICT: Final = Failure(
    Reason.IDEMPOTENCY_CONFLICT, error_type="", error_message=Reason.IDEMPOTENCY_CONFLICT.sentence
)


class _Candidate(NamedTuple):
    """A ready message with the record of its key. Columns in the order of READY."""

    id: int
    body: Any
    key: str | None
    attributes: str | None
    priority: int
    receive_count: int
    recovery_count: int
    sent_at_ms: int
    enqueued_at_ms: int
    retention_from_ms: int
    payload_hash: bytes | None
    source_queue_id: int | None
    status: int | None = None
    known_hash: bytes = b""
    expires_at_ms: int | None = None
    result: str | None = None
    owner_message_id: int = 0
    owner_receipt: bytes = b""


class _Source(NamedTuple):
    """The queue of one receive."""

    name: str
    id: int
    visibility_timeout_ms: int
    retention_ms: int


class Lease(NamedTuple):
    """The terms of one receive: the token, the length and the owner of its leases."""

    token: Token
    visibility_ms: int
    owner_id: int


@dataclass(slots=True)
class _Examined:
    """Ready messages that one receive has looked at, by the decision about them."""

    admitted: list[_Candidate] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    #: Until when each waits for its key.
    deferred: dict[int, int] = field(default_factory=dict)
    conflicts: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    #: The number of those that are not admitted.
    passed_over: int = 0
    #: Whether the receive examines no more: enough are admitted, or MAX_SET_ASIDE are not.
    is_full: bool = False


class Receiving(Operations):
    """The receiving part of the core, in SQL."""

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
        wait_ms: int = 0,
    ) -> Received:
        """Lease ready messages, or wait for one."""
        if wait_ms or type(wait_ms) is not int:
            lease: dict[str, Any] = {"visibility_ms": visibility_ms, "owner_id": owner_id}
            once = partial(self.receive, queue, limit, **lease)
            return receive_or_wait(self, queue, wait_ms, once)
        return self._database.run(receive, queue, limit, visibility_ms, owner_id)

    def watch(self) -> Watch:
        """Start watching for writes; each engine has its own way."""
        raise NotImplementedError

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive on one of these queues may return a message."""
        with self._database.read() as tx:
            return ready_in_ms(tx, queues)


def receive(
    tx: WriteTransaction, queue: str, limit: int, visibility_ms: int | None, owner_id: int
) -> Received:
    """Lease up to `limit` messages; see Queueing.receive."""
    found = tx.execute(tx.sql.RECEIVE_FROM, (queue, tx.now_ms, tx.lease_now_ms)).fetchone()
    if found is None:
        raise UnknownQueue(queue)
    tx.revision, is_due, has_ended, is_paused, *columns = found
    source = _Source(queue, *columns)
    lease = _lease(tx, source, limit, visibility_ms, owner_id)
    promoted = _promote(tx, source.id) if is_due else 0
    reclaimed = reclaim_expired(tx, tx.queue(queue)) if has_ended else 0
    if is_paused:
        return Received([], [], 0, wait_ms=ready_in_ms(tx, [queue]))
    examined = _look_through(tx, source, limit, lease)
    set_aside = _set_aside(tx, source, examined) if examined.passed_over else 0
    more = examined.is_full or promoted == PROMOTE_BATCH or reclaimed == RECLAIM_BATCH
    messages = _deliver(tx, source, examined.admitted, lease) if examined.admitted else []
    idle = not (messages or examined.duplicates or set_aside or more)
    wait_ms = ready_in_ms(tx, [queue]) if idle else None
    received = Received(messages, examined.duplicates, set_aside, more, wait_ms)
    return tx.shown(received) if tx.offset_ms else received


def lease_dead_letters(
    tx: WriteTransaction, queue: str, ids: Sequence[str], visibility_ms: int | None, owner_id: int
) -> list[Message]:
    """Lease dead letters by id; see DeadLetters.lease_dead_letters."""
    row = tx.queue(queue)
    source = _Source(queue, row.id, row.visibility_timeout_ms, row.retention_ms)
    lease = _lease(tx, source, len(ids), visibility_ms, owner_id)
    _promote(tx, row.id)
    reclaim_expired(tx, row)
    chosen = _dead_letters(tx, row, len(ids), ids)
    return _deliver(tx, source, chosen, lease) if chosen else []


def _promote(tx: WriteTransaction, queue_id: int) -> int:
    """Make due messages ready, at most PROMOTE_BATCH, earliest due first; return the number."""
    values = {"in_queue": queue_id, "now_ms": tx.now_ms, "limit": PROMOTE_BATCH}
    due = tx.execute(tx.sql.DUE, values).fetchall()
    if not due:
        return 0
    return len(tx.moved(tx.sql.PROMOTE, ids=tx.list_of([message_id for (message_id,) in due])))


def new_token() -> Token:
    """Return the token of a new receive."""
    return bytearray(os.urandom(len(NO_RECEIPT)))


def _lease(
    tx: WriteTransaction, source: _Source, limit: int, visibility_ms: int | None, owner_id: int
) -> Lease:
    """Return the terms of a receive from a queue.

    Raises:
        InvalidInput: an argument out of bounds.
    """
    if type(limit) is not int or limit != 1:
        check_whole(limit, "The limit of a receive", 1, MAX_RECEIVE_BATCH)
    if visibility_ms is None:
        visibility_ms = source.visibility_timeout_ms
    else:
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
    owner = stored_owner(owner_id) if owner_id else tx.owner_outside
    return Lease(new_token(), visibility_ms, owner)


def _dead_letters(
    tx: WriteTransaction, row: StoredQueue, limit: int, ids: Sequence[str]
) -> list[_Candidate]:
    """Return the chosen dead letters, and make them ready, also those on hold."""
    chosen = tx.list_of([row_id(message_id) for message_id in ids])
    found = tx.run(tx.sql.DEAD_LETTERS, ids=chosen, in_queue=row.id, limit=limit).fetchall()
    # Those that were ready already are not moved; leasing them looks at the rest.
    tx.moved(tx.sql.CHOOSE, ids=tx.list_of([dead_letter[0] for dead_letter in found]))
    return [_Candidate(*dead_letter) for dead_letter in found]


def _look_through(tx: WriteTransaction, source: _Source, limit: int, lease: Lease) -> _Examined:
    """Decide about ready messages in order, until `limit` are admitted or MAX_SET_ASIDE are not.

    Rows are read one at a time: of those that are not admitted no body stays in memory. Nothing is
    written before the reading has ended.
    """
    examined = _Examined()
    admitted, taken = examined.admitted, set[str]()
    oldest_ms = tx.now_ms - source.retention_ms
    rows = tx.raw.execute(tx.sql.READY, (source.id, limit + MAX_SET_ASIDE))  # a cursor of its own
    try:
        for found in map(_Candidate._make, rows):
            key = found.key
            # Most have a key of their own or none, and are not old: `admit` would admit them.
            is_plain = found.status is None and key not in taken
            if (is_plain and found.retention_from_ms > oldest_ms) or _is_admitted(
                tx, source, found, taken, lease, examined
            ):
                admitted.append(found)
                if key is not None and found.source_queue_id is None:
                    taken.add(key)
            if len(admitted) >= limit or examined.passed_over >= MAX_SET_ASIDE:
                examined.is_full = True
                break
    finally:
        rows.close()
    return examined


def _is_admitted(
    tx: WriteTransaction,
    source: _Source,
    found: _Candidate,
    taken: set[str],
    lease: Lease,
    examined: _Examined,
) -> bool:
    """Decide about a message, and note the decision if it is not to deliver it."""
    record, owner_lease_ms = None, 0
    if found.status is not None or found.key in taken:
        record, owner_lease_ms = _known_key(tx, found, taken, lease)
    since_ms, hashed = found.retention_from_ms, found.payload_hash
    admission = admit(since_ms, hashed, record, source.retention_ms, tx.now_ms)
    if admission is Admission.DELIVER:
        return True
    _pass_over(examined, found, admission, source.name, tx.now_ms + max(1, owner_lease_ms))
    return False


def _pass_over(
    examined: _Examined, found: _Candidate, admission: Admission, queue: str, until_ms: int
) -> None:
    """Add a message that is not admitted; a deferred one waits until a time."""
    examined.passed_over += 1
    match admission:
        case Admission.DUPLICATE:
            key = found.key or ""  # never empty: only a keyed message is a duplicate
            examined.duplicates.append(Duplicate(str(found.id), queue, key, found.result))
        case Admission.DEFER:
            examined.deferred[found.id] = until_ms
        case Admission.CONFLICT:
            examined.conflicts.append(found.id)
        case Admission.EXPIRE:
            examined.expired.append(found.id)


def _set_aside(tx: WriteTransaction, source: _Source, examined: _Examined) -> int:
    """Take the messages that are not admitted out of the ready ones.

    Messages that another process has taken since they were read are dropped from `examined`.

    Returns:
        The number of those that are left, without duplicates.
    """
    for message_id, until in tuple(examined.deferred.items()):
        if tx.run(tx.sql.DEFER, of=message_id, until=until).rowcount != 1:
            del examined.deferred[message_id]
    examined.conflicts = [
        message_id
        for message_id in examined.conflicts
        if bury(tx, tx.queue(source.name), message_id, NO_RECEIPT, State.READY, CONFLICT)
    ]
    ended = [*examined.expired, *(int(duplicate.message_id) for duplicate in examined.duplicates)]
    moved = tx.moved(tx.sql.END_READY, ids=tx.list_of(ended))
    examined.expired = [message_id for message_id in examined.expired if message_id in moved]
    examined.duplicates = [known for known in examined.duplicates if int(known.message_id) in moved]
    for message_id in examined.expired:
        tx.count(source.id, tx.sql.EXPIRED)
        tx.record(message_id, source.id, Event.EXPIRED, reason=Reason.EXPIRED)
    tx.count(source.id, tx.sql.DUPLICATES, len(examined.duplicates))
    return len(examined.deferred) + len(examined.conflicts) + len(examined.expired)


def _known_key(
    tx: WriteTransaction, found: _Candidate, taken: set[str], lease: Lease
) -> tuple[KnownKey | None, int]:
    """Return the state of a candidate's key, and the rest of its owner's lease in ms."""
    if found.source_queue_id is not None:  # the key of a dead letter guards nothing
        return None, 0
    if found.key in taken:
        return KnownKey(RecordStatus.IN_PROGRESS, b"", 0, owner_holds_lease=True), (
            lease.visibility_ms
        )
    if found.status is None:
        return None, 0
    if found.status == RecordStatus.COMPLETED:
        expires, mine = found.expires_at_ms or 0, found.payload_hash or b""
        same = codec.same_payload(found.known_hash, mine, found.body)
        known_hash = mine if same else found.known_hash
        return KnownKey(RecordStatus.COMPLETED, known_hash, expires, False), 0
    owner = tx.run(
        tx.sql.OWNER_LEASE, id=found.owner_message_id, token=found.owner_receipt
    ).fetchone()
    left_ms = owner[0] - tx.lease_now_ms if owner else 0
    return KnownKey(RecordStatus.IN_PROGRESS, found.known_hash, 0, owner is not None), left_ms


def _deliver(
    tx: WriteTransaction, source: _Source, admitted: list[_Candidate], lease: Lease
) -> list[Message]:
    """Lease the admitted messages, and their keys; return them."""
    ids = [found.id for found in admitted]
    leased = lease_ready(tx, ids, lease)
    if len(leased) != len(ids):
        admitted = [found for found in admitted if found.id in leased]
    keyed = [found for found in admitted if found.key is not None and found.source_queue_id is None]
    if keyed:
        refused = _take_keys(tx, source, keyed, lease)
        if refused:
            admitted = [found for found in admitted if found.id not in refused]
    return _leased(tx, source, admitted, lease)


def lease_ready(tx: WriteTransaction, ids: list[int], lease: Lease) -> list[int]:
    """Lease ready messages; return the ids of those that no other process has taken meanwhile."""
    text, listed = tx.listed(tx.sql.LEASE, tx.sql.LEASE_ONE, ids)
    until = tx.lease_now_ms + lease.visibility_ms
    values = (listed, lease.token, lease.owner_id, until, tx.now_ms)
    if tx.execute(text, values).rowcount == len(ids):
        return ids
    left = tx.run(tx.sql.UNDER_RECEIPT, ids=tx.list_of(ids), token=lease.token)
    return [message_id for (message_id,) in left.fetchall()]


def _take_keys(
    tx: WriteTransaction, source: _Source, keyed: list[_Candidate], lease: Lease
) -> set[int]:
    """Take the keys of leased messages; return the ids of messages whose key is another's by now.

    Those are put back, uncounted.
    """
    new = [found.id for found in keyed if found.status is None]
    taken = 0
    if new:
        text, ids = tx.listed(tx.sql.TAKE_NEW_KEYS, tx.sql.TAKE_NEW_KEYS_ONE, new)
        taken = tx.execute(text, (ids, lease.token, tx.now_ms)).rowcount
    if len(new) < len(keyed):
        taken += _take_over_keys(tx, source, keyed, lease)
    if taken == len(keyed):
        return set()
    row, refused = tx.queue(source.name), set()
    for found in keyed:
        of = {"in_queue": row.id, "of_key": found.key, "of": found.id, "token": lease.token}
        if tx.run(tx.sql.OWNED_KEY, **of).fetchone() is None:
            refused.add(found.id)
            put_back(tx, row, LeasedMessage(found.id, None, 1, lease.token), State.READY, None, 1)
    return refused


def _take_over_keys(
    tx: WriteTransaction, source: _Source, keyed: list[_Candidate], lease: Lease
) -> int:
    """Take the keys that have a record, each as it was seen and in order; return their number."""
    rows = [
        {
            "queue_id": source.id,
            "key": found.key,
            "id": found.id,
            "token": lease.token,
            "payload_hash": found.payload_hash,
            "now_ms": tx.now_ms,
            "seen_status": found.status,
            "seen_owner_id": found.owner_message_id,
            "seen_receipt": found.owner_receipt,
        }
        for found in sorted(keyed, key=attrgetter("key"))
        if found.status is not None
    ]
    number: int = tx.run_many(tx.sql.TAKE_KEY_ROWS, rows).rowcount
    return number


def _leased(
    tx: WriteTransaction, source: _Source, admitted: list[_Candidate], lease: Lease
) -> list[Message]:
    token, name, visibility_ms = lease.token.hex(), source.name, lease.visibility_ms
    messages = []
    for found in admitted:
        message_id, died_in = str(found.id), found.source_queue_id
        messages.append(
            Message(
                message_id,
                name,
                found.body,
                found.key,
                found.attributes,
                found.priority,
                _IN_FLIGHT,
                found.receive_count + 1,
                found.recovery_count,
                found.sent_at_ms,
                found.enqueued_at_ms,
                0,
                visibility_ms,
                tx.queue_by_id(died_in).name if died_in is not None else None,
                Receipt(name, message_id, token),
            )
        )
    return messages
