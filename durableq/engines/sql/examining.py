"""Ready messages that are not plain: the decision about each, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from durableq.engines.sql.columns import NO_RECEIPT
from durableq.engines.sql.settling import bury
from durableq.engines.sql.transactions import Token, WriteTransaction
from durableq.model import codec
from durableq.model.lifecycle import Admission, KnownKey, admit
from durableq.model.message import (
    Duplicate,
    Event,
    Failure,
    Reason,
    RecordStatus,
    State,
)

CONFLICT: Final = Failure(
    Reason.IDEMPOTENCY_CONFLICT, error_type="", error_message=Reason.IDEMPOTENCY_CONFLICT.sentence
)

#: A row of READY or DEAD_LETTERS, and where its columns stand. A named tuple of each would take as
#: long as the rest of the reading.
Row = tuple[Any, ...]
ID, BODY, KEY, DIED_IN, IS_PLAIN = 0, 1, 2, 9, 10


class Terms(NamedTuple):
    """The terms of one receive: its queue, and the token, length and owner of its leases."""

    queue: str
    queue_id: int
    token: Token
    visibility_ms: int
    owner: int


class Known(NamedTuple):
    """The facts that decide about a message that is not plain. Columns in the order of EXAMINE."""

    retention_from_ms: int
    payload_hash: bytes | None
    status: int | None
    known_hash: bytes
    expires_at_ms: int | None
    result: str | None
    owner_message_id: int
    owner_receipt: bytes


@dataclass(slots=True)
class Aside:
    """Ready messages that are not admitted, by the decision about them."""

    duplicates: list[Duplicate] = field(default_factory=list)
    #: Until when each waits for its key.
    deferred: dict[int, int] = field(default_factory=dict)
    conflicts: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    number: int = 0


def decide(
    tx: WriteTransaction,
    row: Row,
    found: Known,
    terms: Terms,
    retention_ms: int,
    taken: set[str],
) -> tuple[Admission, int]:
    """Decide about a message that is not plain; if it is deferred, until when."""
    record, owner_lease_ms = _known_key(tx, row, found, taken, terms)
    admission = admit(found.retention_from_ms, found.payload_hash, record, retention_ms, tx.now_ms)
    return admission, tx.now_ms + max(1, owner_lease_ms)


def _known_key(
    tx: WriteTransaction, row: Row, found: Known, taken: set[str], terms: Terms
) -> tuple[KnownKey | None, int]:
    """Return the state of a message's key, and the rest of its owner's lease in ms."""
    if row[DIED_IN] is not None:  # the key of a dead letter guards nothing
        return None, 0
    if row[KEY] in taken:
        return KnownKey(RecordStatus.IN_PROGRESS, b"", 0, owner_holds_lease=True), (
            terms.visibility_ms
        )
    if found.status is None:
        return None, 0
    if found.status == RecordStatus.COMPLETED:
        expires, mine = found.expires_at_ms or 0, found.payload_hash or b""
        same = codec.same_payload(found.known_hash, mine, row[BODY])
        known_hash = mine if same else found.known_hash
        return KnownKey(RecordStatus.COMPLETED, known_hash, expires, False), 0
    owner = tx.run(
        tx.sql.OWNER_LEASE, id=found.owner_message_id, token=found.owner_receipt
    ).fetchone()
    left_ms = owner[0] - tx.lease_now_ms if owner else 0
    return KnownKey(RecordStatus.IN_PROGRESS, found.known_hash, 0, owner is not None), left_ms


def note(
    aside: Aside, row: Row, found: Known, admission: Admission, queue: str, until_ms: int
) -> None:
    """Add a message that is not admitted; a deferred one waits until a time."""
    aside.number += 1
    match admission:
        case Admission.DUPLICATE:
            aside.duplicates.append(Duplicate(str(row[ID]), queue, row[KEY], found.result))
        case Admission.DEFER:
            aside.deferred[row[ID]] = until_ms
        case Admission.CONFLICT:
            aside.conflicts.append(row[ID])
        case Admission.EXPIRE:
            aside.expired.append(row[ID])


def set_aside(tx: WriteTransaction, terms: Terms, aside: Aside) -> int:
    """Take the messages that are not admitted out of the ready ones.

    Messages that another process has taken since they were read are dropped from `aside`.

    Returns:
        The number of those that are left, without duplicates.
    """
    for message_id, until in tuple(aside.deferred.items()):
        if tx.run(tx.sql.DEFER, of=message_id, until=until).rowcount != 1:
            del aside.deferred[message_id]
    aside.conflicts = [
        message_id
        for message_id in aside.conflicts
        if bury(tx, tx.queue(terms.queue), message_id, NO_RECEIPT, State.READY, CONFLICT)
    ]
    ended = [*aside.expired, *(int(duplicate.message_id) for duplicate in aside.duplicates)]
    moved = tx.moved(tx.sql.END_READY, ids=tx.list_of(ended))
    aside.expired = [message_id for message_id in aside.expired if message_id in moved]
    aside.duplicates = [known for known in aside.duplicates if int(known.message_id) in moved]
    for message_id in aside.expired:
        tx.count(terms.queue_id, tx.sql.EXPIRED)
        tx.record(message_id, terms.queue_id, Event.EXPIRED, reason=Reason.EXPIRED)
    tx.count(terms.queue_id, tx.sql.DUPLICATES, len(aside.duplicates))
    return len(aside.deferred) + len(aside.conflicts) + len(aside.expired)
