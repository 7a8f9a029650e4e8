"""Admission: which ready messages are delivered, and what happens to the others.

Most ready messages are plain: within their retention, and without a record of their key. They are
delivered at once. `examine` decides about each of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from durableq.engines.sql import groups
from durableq.engines.sql.burying import bury
from durableq.engines.sql.columns import NO_RECEIPT, READY_COLUMNS
from durableq.engines.sql.expiring import expire_waiting
from durableq.engines.sql.group_rate import GroupTokens
from durableq.engines.sql.leaving import left
from durableq.engines.sql.settling import LeasedMessage
from durableq.engines.sql.transactions import Token, WriteTransaction
from durableq.model import codec
from durableq.model.lifecycle import (
    TOO_MANY_RECEIVES,
    Admission,
    KnownKey,
    admit,
    is_exhausted,
)
from durableq.model.limits import MAX_SET_ASIDE
from durableq.model.message import (
    Duplicate,
    Event,
    Failure,
    Reason,
    RecordStatus,
    State,
)
from durableq.model.settings import MANY, Limits
from durableq.model.text import is_storable

CONFLICT: Final = Failure(
    Reason.IDEMPOTENCY_CONFLICT, error_type="", error_message=Reason.IDEMPOTENCY_CONFLICT.sentence
)
DAMAGED_KEY: Final = Failure(
    Reason.UNDECODABLE, error_type="", error_message="the stored key is not UTF-8"
)

#: A row of READY or DEAD_LETTERS: READY_COLUMNS, and whether the message is plain. It stays a
#: tuple: a named tuple of each would take as long as the rest of the reading.
Row = tuple[Any, ...]
ID, BODY, KEY, SOURCE_QUEUE_ID, GROUP, EXPIRES_AT_MS = map(
    READY_COLUMNS.index, ("id", "body", "key", "source_queue_id", "group_id", "expires_at_ms")
)
RECEIVE_COUNT: Final = READY_COLUMNS.index("receive_count")
IS_PLAIN: Final = len(READY_COLUMNS)
_BURY_AT_RECEIVE: Final = int(Limits.BURY_AT_RECEIVE)


class Behind(Protocol):
    """The messages behind the heads of a receive."""

    #: By the id of the head.
    rows: dict[int, list[Row]]

    def take(self, head: Row, left: int, taken: set[str]) -> int:
        """Find those behind a head; return by how many the receive is to be shorter."""
        ...


class Terms(NamedTuple):
    """The terms of one receive: its queue, and the token, length and owner of its leases."""

    queue: str
    queue_id: int
    #: The bits of the queue's limits.
    limits: int
    token: Token
    visibility_ms: int
    owner: int
    #: Of the rates of groups, if they are on.
    tokens: GroupTokens | None = None
    #: Of a receive whose messages are followed by others of their groups.
    behind: Behind | None = None
    #: The receives from which on a message may have had too many, which `examine` decides.
    suspect_receives: int = MANY


class Facts(NamedTuple):
    """The facts that decide about a message that is not plain. Columns in the order of EXAMINE."""

    retention_from_ms: int
    payload_hash: bytes | None
    #: Of the record of its key; None: there is no record.
    status: int | None
    known_hash: bytes
    expires_at_ms: int | None
    result: str | None
    owner_message_id: int
    owner_receipt: bytes


@dataclass(slots=True)
class NotDelivered:
    """Ready messages that are not delivered, by the decision about them."""

    duplicates: list[Duplicate] = field(default_factory=list)
    #: Until when each waits for its key.
    deferred: dict[int, int] = field(default_factory=dict)
    #: Why each goes to the dead-letter queue, and its receives if the history does not have them.
    buried: list[tuple[LeasedMessage, Failure, int | None]] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    #: Retries that the retry budget does not cover.
    over_budget: list[int] = field(default_factory=list)
    #: Until when each waits for a token of its group.
    untimely: dict[int, int] = field(default_factory=dict)
    #: Those over the retention of the queue.
    outdated: list[int] = field(default_factory=list)
    number: int = 0

    def add(self, row: Row, facts: Facts, admission: Admission, queue: str, until_ms: int) -> None:
        """Add a message; a deferred one waits until a time."""
        self.number += 1
        match admission:
            case Admission.DUPLICATE:
                self.duplicates.append(Duplicate(str(row[ID]), queue, row[KEY], facts.result))
            case Admission.DEFER:
                self.deferred[row[ID]] = min(until_ms, row[EXPIRES_AT_MS])
            case Admission.CONFLICT:
                self.buried.append((_dying(row), CONFLICT, None))
            case Admission.EXHAUSTED:
                cause = TOO_MANY_RECEIVES, row[RECEIVE_COUNT]
                self.buried.append((_dying(row), *cause))
            case Admission.EXPIRE:
                self.expired.append(row[ID])
            case Admission.PAST_RETENTION:
                self.outdated.append(row[ID])

    def has_token(self, row: Row, tokens: GroupTokens | None) -> bool:
        """Take a token of a message's group; add the message if there is none."""
        if tokens is None or row[GROUP] is None or tokens.take(row[GROUP]):
            return True
        self.number += 1
        self.untimely[row[ID]] = tokens.until_ms(row[GROUP])
        return False

    def add_damaged(self, row: Row) -> None:
        """Add a message whose key cannot be used."""
        self.number += 1
        self.buried.append((_dying(row), DAMAGED_KEY, None))


def _dying(row: Row) -> LeasedMessage:
    of_row = row[ID], row[KEY], row[RECEIVE_COUNT], row[GROUP], NO_RECEIPT
    return LeasedMessage(*of_row, source_queue_id=row[SOURCE_QUEUE_ID])


def within_budget(rows: Iterable[Row], retries: int, undelivered: NotDelivered) -> Iterator[Row]:
    """Yield ready messages with at most so many retries among them, up to MAX_SET_ASIDE others.

    Args:
        rows: the ready messages, in order.
        retries: the number of retries that may be delivered.
        undelivered: gets the other retries.
    """
    for row in rows:
        if row[RECEIVE_COUNT]:
            if not retries:
                undelivered.number += 1
                undelivered.over_budget.append(row[ID])
                if undelivered.number >= MAX_SET_ASIDE:
                    return
                continue
            retries -= 1
        yield row


def has_damaged_key(row: Row) -> bool:
    """Return whether a message has a key that only another program can have written.

    A key is a value of the statements that settle the message, and one that is not UTF-8 cannot be
    bound. The key of a dead letter is not used.
    """
    return row[SOURCE_QUEUE_ID] is None and not is_storable(row[KEY] or "")


def examine(
    tx: WriteTransaction,
    row: Row,
    terms: Terms,
    retention_ms: int,
    taken: set[str],
    undelivered: NotDelivered,
) -> Facts | None:
    """Decide about a message that is not plain, or whose key another message has just taken.

    Or about a retry, in a queue that buries at a receive.

    Args:
        tx: the transaction.
        row: the message.
        terms: of the receive.
        retention_ms: the retention of the queue.
        taken: the keys of the messages that this receive delivers.
        undelivered: gets the message if it is not delivered.

    Returns:
        The facts about a message that is delivered; otherwise None.
    """
    if has_damaged_key(row):
        undelivered.add_damaged(row)
        return None
    facts = Facts(*tx.execute(tx.sql.EXAMINE, (row[ID],)).fetchone())
    record, owner_lease_ms = _known_key(tx, row, facts, terms, taken)
    admission = admit(
        facts.retention_from_ms,
        facts.payload_hash,
        record,
        retention_ms,
        tx.now_ms,
        row[EXPIRES_AT_MS],
        is_exhausted=_is_exhausted(tx, row, terms),
    )
    if admission is Admission.DELIVER:
        return facts
    undelivered.add(row, facts, admission, terms.queue, tx.now_ms + max(1, owner_lease_ms))
    return None


def _is_exhausted(tx: WriteTransaction, row: Row, terms: Terms) -> bool:
    """Return whether a message has had all its receives, and is buried instead of another one."""
    if not terms.limits & _BURY_AT_RECEIVE:
        return False
    queue = tx.queue(terms.queue)
    has_dead_letter_queue = queue.dead_letter_queue_id is not None
    return has_dead_letter_queue and is_exhausted(row[RECEIVE_COUNT], queue.max_receives)


def _known_key(
    tx: WriteTransaction, row: Row, facts: Facts, terms: Terms, taken: set[str]
) -> tuple[KnownKey | None, int]:
    """Return the state of a message's key, and the rest of its owner's lease in ms."""
    if row[SOURCE_QUEUE_ID] is not None:  # the key of a dead letter guards nothing
        return None, 0
    if row[KEY] in taken:
        in_progress = KnownKey(RecordStatus.IN_PROGRESS, b"", 0, owner_holds_lease=True)
        return in_progress, terms.visibility_ms
    if facts.status is None:
        return None, 0
    if facts.status == RecordStatus.COMPLETED:
        expires, mine = facts.expires_at_ms or 0, facts.payload_hash or b""
        same = codec.same_payload(facts.known_hash, mine, row[BODY])
        known_hash = mine if same else facts.known_hash
        return KnownKey(RecordStatus.COMPLETED, known_hash, expires, False), 0
    owner = tx.run(
        tx.sql.OWNER_LEASE, id=facts.owner_message_id, token=facts.owner_receipt
    ).fetchone()
    left_ms = owner[0] - tx.lease_now_ms if owner else 0
    return KnownKey(RecordStatus.IN_PROGRESS, facts.known_hash, 0, owner is not None), left_ms


def set_aside(tx: WriteTransaction, terms: Terms, undelivered: NotDelivered) -> int:
    """Defer, bury or delete the messages that are not delivered.

    Messages that another process has taken since they were read are dropped from `undelivered`.

    Returns:
        The number of those that are left, without duplicates.
    """
    for message_id, until in tuple(undelivered.deferred.items()):
        if tx.run(tx.sql.DEFER, of=message_id, until=until).rowcount != 1:
            del undelivered.deferred[message_id]
    buried = [
        message
        for message, cause, receives in undelivered.buried
        if bury(tx, tx.queue(terms.queue), message, State.READY, cause, receives)
    ]
    held_back = sum(
        len(tx.moved(tx.sql.DELAY, ids=tx.list_of([message_id]), until=until))
        for message_id, until in undelivered.untimely.items()
    )
    if undelivered.over_budget:
        ids = tx.list_of(undelivered.over_budget)
        held_back += tx.execute(tx.sql.HOLD_BACK, (ids,)).rowcount
    if undelivered.expired:
        waiting = [(message_id, State.READY.value) for message_id in undelivered.expired]
        undelivered.expired = [*expire_waiting(tx, tx.queue(terms.queue), waiting)]
    ended = [*undelivered.outdated, *(int(one.message_id) for one in undelivered.duplicates)]
    deleted = left(tx, tx.run(tx.sql.END_READY, ids=tx.list_of(ended)))
    undelivered.outdated = [one for one in undelivered.outdated if one in deleted]
    undelivered.duplicates = [
        one for one in undelivered.duplicates if int(one.message_id) in deleted
    ]
    for message_id in undelivered.outdated:
        tx.count(terms.queue_id, tx.sql.EXPIRED)
        tx.record(message_id, terms.queue_id, Event.EXPIRED, reason=Reason.EXPIRED)
    tx.count(terms.queue_id, tx.sql.DUPLICATES, len(undelivered.duplicates))
    gone = len(buried) + len(undelivered.expired) + len(undelivered.outdated)
    return len(undelivered.deferred) + gone + held_back


def choose(tx: WriteTransaction, queue_id: int, ids: list[int]) -> None:
    """Make messages that wait in any way ready, for a lease by id."""
    # Those that were ready already are not moved; leasing them looks at the rest.
    tx.moved(tx.sql.CHOOSE, ids=tx.list_of(ids))
    if tx.limits_of(queue_id) & groups.GROUPS:
        jumped = tx.run(tx.sql.CHOOSE_BLOCKED, ids=tx.list_of(ids)).fetchall()
        groups.take_steps(tx, [(queue_id, name, groups.Step(active=1)) for (name,) in jumped])
