"""Leasing messages: what is due, what is ready, and what is met on the way."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from durableq import codec
from durableq.engines.sql import statements as sql
from durableq.engines.sql.settling import Held, bury, fail_one
from durableq.engines.sql.tables import NO_RECEIPT
from durableq.engines.sql.unit import QueueRow, Unit, ids_json, row_id
from durableq.errors import InvalidInput
from durableq.lifecycle import Admission, KnownKey, admit
from durableq.limits import (
    MAX_RECEIVE_BATCH,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECEIVE_ROWS,
    RECLAIM_BATCH,
)
from durableq.message import (
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
from durableq.units import check_whole

CONFLICT: Final = Failure(
    Reason.IDEMPOTENCY_CONFLICT, error_type="", error_message=Reason.IDEMPOTENCY_CONFLICT.sentence
)


LOOK_AHEAD: Final = 50
"""Messages looked at together behind those that were not delivered, bodies and all."""


class _Candidate(NamedTuple):
    """A ready message, and what is known of its key. Columns in the order of sql.READY."""

    id: int
    body: Any
    key: str | None
    attributes: str | None
    priority: int
    receive_count: int
    recovery_count: int
    sent_at_ms: int
    enqueued_at_ms: int
    delayed_until_ms: int
    payload_hash: bytes | None
    source_queue_id: int | None
    status: int | None = None
    known_hash: bytes = b""
    expires_at_ms: int | None = None
    result: str | None = None
    owner_id: int = 0
    owner_receipt: bytes = b""


class _Lease(NamedTuple):
    """The terms of one receive: the token and the length of its leases, and their number."""

    token: bytes
    visibility_ms: int
    limit: int


def receive(
    unit: Unit,
    queue: str,
    limit: int,
    visibility_ms: int | None,
    holder: int,
    ids: Iterable[str] | None,
) -> Received:
    """Lease up to `limit` messages; see Store.receive."""
    row = unit.queue(queue)
    lease = _check(row, limit, visibility_ms, holder)
    _promote(unit, row)
    reclaimed = reclaim_expired(unit, row)
    received = Received([], [], 0)
    if ids is not None:
        return _deliver(unit, row, _letters(unit, row, limit, ids), lease, received)
    if row.setting("paused"):
        return received
    received = received._replace(more=reclaimed == RECLAIM_BATCH)
    looked, size = 0, limit
    while True:
        found = sql.READY(unit.raw, in_queue=row.id, limit=size).fetchall()
        page = list(map(_Candidate._make, found))
        wanted = limit - len(received.messages)
        admitted, set_aside = _sort_out(unit, row, page, lease, received)
        received = _deliver(unit, row, admitted, lease, received)
        received = received._replace(set_aside=received.set_aside + set_aside)
        looked += len(page)
        if len(admitted) == wanted or looked == RECEIVE_ROWS:
            return received._replace(more=True)
        if len(page) < size:
            return received
        size = min(max(wanted - len(admitted), LOOK_AHEAD), RECEIVE_ROWS - looked)


def _promote(unit: Unit, row: QueueRow) -> None:
    """Make due messages ready, at most PROMOTE_BATCH, those that were due first."""
    due = sql.DUE(unit.raw, in_queue=row.id, now_ms=unit.now_ms, limit=PROMOTE_BATCH).fetchall()
    if due:
        sql.PROMOTE(unit.raw, ids=ids_json(message_id for (message_id,) in due))


def reclaim_expired(unit: Unit, row: QueueRow) -> int:
    """Take back leases of a queue that have ended, at most RECLAIM_BATCH; return how many."""
    expired = sql.EXPIRED_LEASES(
        unit.raw, in_queue=row.id, lease_now=unit.lease_now_ms, limit=RECLAIM_BATCH
    ).fetchall()
    for message_id, key, receive_count, token in expired:
        _take_back(unit, row, Held(message_id, key, receive_count, token), Reason.LEASE_EXPIRED)
    return len(expired)


def reclaim_lost(unit: Unit, holder_mark: bytes) -> int:
    """Take back every lease of a dead holder, or of everyone (an empty mark)."""
    lost = sql.LEASES_OF_HOLDER(unit.raw, mark=holder_mark, length=len(holder_mark)).fetchall()
    for message_id, key, receive_count, token, queue_id in lost:
        held = Held(message_id, key, receive_count, token)
        _take_back(unit, unit.queue_by_id(queue_id), held, Reason.WORKER_LOST)
    return len(lost)


def _take_back(unit: Unit, row: QueueRow, held: Held, reason: Reason) -> None:
    holder = int.from_bytes(held.token[:4], "big")
    name = sql.WORKER_NAME(unit.raw, of=holder).fetchone()
    failure = Failure(reason, error_type="", error_message=reason.sentence)
    fail_one(unit, row, held, failure, actor=name[0] if name else "", event=Event.LEASE_EXPIRED)


def mark(holder: int) -> bytes:
    """Return the first bytes of every receipt a worker is given."""
    if not 0 < holder < 1 << 32:
        raise InvalidInput(f"{holder} is not a worker's mark: see Store.register.")
    return holder.to_bytes(4, "big")


def _check(row: QueueRow, limit: int, visibility_ms: int | None, holder: int) -> _Lease:
    check_whole(limit, "The limit of a receive", 1, MAX_RECEIVE_BATCH)
    if visibility_ms is None:
        visibility_ms = row.setting("visibility_timeout_ms")
    check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
    start = mark(holder) if holder else bytes(4)
    return _Lease(start + os.urandom(len(NO_RECEIPT) - 4), visibility_ms, limit)


def _letters(unit: Unit, row: QueueRow, limit: int, ids: Iterable[str]) -> list[_Candidate]:
    """Return the chosen dead letters, and make them ready, held ones too."""
    chosen = ids_json(map(row_id, ids))
    found = sql.LETTERS(unit.raw, ids=chosen, in_queue=row.id, limit=limit).fetchall()
    sql.CHOOSE(unit.raw, ids=ids_json(letter[0] for letter in found))
    return [_Candidate(*letter) for letter in found]


def _sort_out(
    unit: Unit, row: QueueRow, page: list[_Candidate], lease: _Lease, received: Received
) -> tuple[list[_Candidate], int]:
    """Return the candidates to deliver, and how many were set aside; settle all the others.

    It looks no further than to the last one that is wanted.
    """
    admitted: list[_Candidate] = []
    ended: list[int] = []
    set_aside = 0
    taken: set[str] = set()
    retention_ms = row.setting("retention_ms")
    for found in page:
        if len(received.messages) + len(admitted) == lease.limit:
            break
        record, owner_lease_ms = (
            (None, 0) if found.key is None else _known_key(unit, found, taken, lease)
        )
        since_ms = max(found.enqueued_at_ms, found.delayed_until_ms)
        admission = admit(since_ms, found.payload_hash, record, retention_ms, unit.now_ms)
        if admission is Admission.DELIVER:
            admitted.append(found)
            if found.key is not None and found.source_queue_id is None:
                taken.add(found.key)
            continue
        if admission is Admission.DUPLICATE and found.key is not None:
            received.duplicates.append(Duplicate(str(found.id), row.name, found.key, found.result))
            unit.count(row.id, "duplicates")
            ended.append(found.id)
            continue
        set_aside += 1
        if admission is Admission.DEFER:
            sql.DEFER(unit.raw, of=found.id, until=unit.now_ms + max(1, owner_lease_ms))
        elif admission is Admission.CONFLICT:
            bury(unit, row, found.id, NO_RECEIPT, State.READY, CONFLICT)
        else:
            unit.count(row.id, "expired")
            unit.record(found.id, row.id, Event.EXPIRED, reason=Reason.EXPIRED)
            ended.append(found.id)
    if ended:
        sql.END_READY(unit.raw, ids=ids_json(ended))
    return admitted, set_aside


def _known_key(
    unit: Unit, found: _Candidate, taken: set[str], lease: _Lease
) -> tuple[KnownKey | None, int]:
    """Return what is known of a candidate's key, and how long its owner's lease still runs."""
    if found.key is None or found.source_queue_id is not None:
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
    owner = sql.OWNER_LEASE(unit.raw, id=found.owner_id, token=found.owner_receipt).fetchone()
    left_ms = owner[0] - unit.lease_now_ms if owner else 0
    return KnownKey(RecordStatus.IN_PROGRESS, found.known_hash, 0, owner is not None), left_ms


def _deliver(
    unit: Unit, row: QueueRow, admitted: list[_Candidate], lease: _Lease, received: Received
) -> Received:
    """Lease the admitted and add them to what was received."""
    if not admitted:
        return received
    sql.LEASE(
        unit.raw,
        ids=ids_json([found.id for found in admitted]),
        token=lease.token,
        until=unit.lease_now_ms + lease.visibility_ms,
    )
    keyed = [
        {
            "queue_id": row.id,
            "key": found.key,
            "id": found.id,
            "token": lease.token,
            "payload_hash": found.payload_hash,
            "now_ms": unit.now_ms,
        }
        for found in admitted
        if found.key is not None and found.source_queue_id is None
    ]
    if keyed:
        sql.TAKE_KEY.many(unit.raw, keyed)
    received.messages.extend(_leased(unit, row, admitted, lease))
    return received


def _leased(
    unit: Unit, row: QueueRow, admitted: list[_Candidate], lease: _Lease
) -> Iterator[Message]:
    token = lease.token.hex()
    for found in admitted:
        message_id, source = str(found.id), found.source_queue_id
        yield Message(
            message_id,
            row.name,
            found.body,
            found.key,
            found.attributes,
            found.priority,
            State.IN_FLIGHT,
            found.receive_count + 1,
            found.recovery_count,
            found.sent_at_ms,
            found.enqueued_at_ms,
            0,
            lease.visibility_ms,
            unit.queue_by_id(source).name if source is not None else None,
            Receipt(row.name, message_id, token),
        )
