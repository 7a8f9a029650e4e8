"""Receiving: due messages become ready, ended leases are taken back, ready messages are leased."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from durableq.engines.sql import attempts, flow
from durableq.engines.sql.admission import (
    GROUP,
    ID,
    IS_PLAIN,
    KEY,
    RECEIVE_COUNT,
    SOURCE_QUEUE_ID,
    Facts,
    NotDelivered,
    Row,
    Terms,
    examine,
    has_damaged_key,
    set_aside,
    within_budget,
)
from durableq.engines.sql.columns import NEEDS_UPKEEP, NO_RECEIPT
from durableq.engines.sql.envelopes import with_envelopes
from durableq.engines.sql.group_batches import Batches, with_following
from durableq.engines.sql.group_rate import GroupTokens
from durableq.engines.sql.leased_keys import take_over_keys
from durableq.engines.sql.queries import count_ready, find_queue, ready_in_ms
from durableq.engines.sql.reclaiming import reclaim_expired, stored_owner
from durableq.engines.sql.settling import LeasedMessage, put_back
from durableq.engines.sql.transactions import Operations, Token, WriteTransaction
from durableq.model.errors import UnknownQueue
from durableq.model.limits import (
    MAX_RECEIVE,
    MAX_SET_ASIDE,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import (
    FOREVER_MS,
    Gather,
    Message,
    Ready,
    Receipt,
    Received,
    Served,
    State,
    check_served,
    of_fields,
)
from durableq.model.settings import MANY, RECEIVE_LIMITS, Limits
from durableq.model.units import check_whole
from durableq.store.core import Watch
from durableq.store.waiting import receive_or_wait

_Admitted = tuple[list[Row], dict[int, Facts], NotDelivered, bool]
_IN_FLIGHT: Final = State.IN_FLIGHT  # to look up a member takes 0.2 µs for each message
_GROUP_RATE: Final = int(Limits.GROUP_RATE)
_BURY_AT_RECEIVE: Final = int(Limits.BURY_AT_RECEIVE)
#: The flags of RECEIVE_FROM that a limit of receives sets.
_LIMITED: Final = RECEIVE_LIMITS << 1


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
        by_group: bool = False,
        gather: Gather | None = None,
        served: Served | None = None,
    ) -> Received:
        """Lease ready messages, or wait for one."""
        if wait_ms or type(wait_ms) is not int:
            lease: dict[str, Any] = {"visibility_ms": visibility_ms, "owner_id": owner_id}
            lease |= {"by_group": by_group, "gather": gather, "served": served}
            once = partial(self.receive, queue, limit, **lease)
            return receive_or_wait(self, queue, wait_ms, once)
        fills = False if by_group else None
        if served is not None:
            terms = visibility_ms, owner_id, fills, gather
            return self._database.run(receive_served, queue, limit, *terms, served)
        return self._database.run(receive, queue, limit, visibility_ms, owner_id, fills, gather)

    def watch(self) -> Watch:
        """Start watching for writes; each engine has its own way."""
        raise NotImplementedError

    def count_ready(self, queue: str, limit: int) -> Ready:
        """Count the messages that a receive may find ready, at most `limit`."""
        with self._database.read() as tx:
            return count_ready(tx, find_queue(tx, queue).id, limit)

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive on one of these queues may return a message."""
        with self._database.read() as tx:
            return ready_in_ms(tx, queues)


def receive(
    tx: WriteTransaction,
    queue: str,
    limit: int,
    visibility_ms: int | None,
    owner_id: int,
    fills: bool | None = None,
    gather: Gather | None = None,
) -> Received:
    """Lease messages; see Queueing.receive. `fills` is for `Batches`; None: there are none."""
    text = flow.receive_text(tx, queue, limit) if queue in tx.limited else tx.sql.RECEIVE_FROM
    found = tx.execute(text, (queue, tx.now_ms, tx.lease_now_ms)).fetchone()
    if found is None:
        raise UnknownQueue(queue)
    tx.revision, flags, queue_id, timeout_ms, retention_ms, *state = found
    terms = terms_of(tx, limit, (queue, queue_id, flags >> 1), visibility_ms, timeout_ms, owner_id)
    more, retries, before, probing = False, None, None, None
    if flags & NEEDS_UPKEEP or gather is not None:
        (more, nothing), state = _prepare(tx, flags, terms, gather), ()
        if nothing is not None:
            return nothing
    if flags & _LIMITED:
        limit, retries, before, probing = flow.grant(tx, terms[:3], limit, state)
        if not limit:
            return Received([], [], 0, more, None if more else ready_in_ms(tx, [queue]))
    elif state:
        del tx.limited[queue]
    admit = _admit if probing is None else partial(_admit_probes, probing.taken)
    terms = terms if fills is None else Batches.of(tx, terms, retention_ms, fills, retries, probing)
    admitted, known, undelivered, is_full = admit(tx, terms, limit, retention_ms, retries)
    messages = deliver(tx, terms, admitted, known) if admitted else []
    if terms.behind is not None:
        messages = with_following(tx, terms, terms.behind.rows, admitted, messages, deliver)
    aside = set_aside(tx, terms, undelivered) if undelivered.number else 0  # last: it fills groups
    if messages and before is not None:
        flow.charge(tx, terms[:3], before, messages)
    more = more or is_full
    is_idle = not (messages or undelivered.duplicates or aside or more)
    wait_ms = ready_in_ms(tx, [queue]) if is_idle else None
    received = Received(messages, undelivered.duplicates, aside, more, wait_ms)
    return tx.shown(received) if tx.offset_ms else received


def receive_served(
    tx: WriteTransaction,
    queue: str,
    limit: int,
    visibility_ms: int | None,
    owner_id: int,
    fills: bool | None,
    gather: Gather | None,
    served: Served,
) -> Received:
    """Lease messages for the SQS endpoint; see Queueing.receive."""
    check_served(served, by_group=fills is not None)
    attempt_id = served.attempt_id
    if attempt_id is not None:
        again = attempts.repeated(tx, queue, attempt_id, visibility_ms)
        if again is not None:
            return Received(with_envelopes(tx, again), [], 0)
    received = receive(
        tx, queue, limit, visibility_ms, owner_id, served.fill_groups or None, gather
    )
    if attempt_id is not None and received.messages:
        attempts.keep(tx, queue, attempt_id, visibility_ms, received.messages)
    return received._replace(messages=with_envelopes(tx, received.messages))


def _prepare(
    tx: WriteTransaction, flags: int, terms: Terms, gather: Gather | None
) -> tuple[bool, Received | None]:
    """Do what is due before a receive.

    Returns:
        Whether more is due, and the answer of a receive that may lease nothing.
    """
    more, queue = False, terms.queue
    if flags & NEEDS_UPKEEP:  # messages are due, leases have ended, or the queue is paused
        more = _keep_up(tx, queue)
        if tx.queue(queue).paused:
            return more, Received([], [], 0, wait_ms=ready_in_ms(tx, [queue]))
    if gather is not None:
        ready = count_ready(tx, terms.queue_id, gather.least)
        if left_ms := gather.left_ms(ready, terms.visibility_ms):
            return more, Received([], [], 0, more, left_ms)
    return more, None


def terms_of(
    tx: WriteTransaction,
    limit: int,
    queue: tuple[str, int, int],
    visibility_ms: int | None,
    default_ms: int,
    owner_id: int,
) -> Terms:
    """Return the terms of a receive.

    Args:
        tx: the transaction.
        limit: the number of messages.
        queue: name, id and limits of the queue.
        visibility_ms: the length of the leases; None means the queue's.
        default_ms: the queue's.
        owner_id: 0 is no registered worker.

    Raises:
        InvalidInput: an argument out of bounds.
    """
    check_whole(limit, "The limit of a receive", 1, MAX_RECEIVE)
    if visibility_ms is None:
        visibility_ms = default_ms
    else:
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
    owner = stored_owner(owner_id) if owner_id else tx.owner_outside
    *_, queue_id, limits = queue
    tokens = GroupTokens(tx, queue_id) if limits & _GROUP_RATE else None
    suspect = 1 if limits & _BURY_AT_RECEIVE else MANY
    return Terms(*queue, new_token(), visibility_ms, owner, tokens, None, suspect)


def new_token() -> Token:
    """Return the token of a new receive."""
    return bytearray(os.urandom(len(NO_RECEIPT)))


def promote(tx: WriteTransaction, queue_id: int) -> int:
    """Make due messages ready, at most PROMOTE_BATCH, earliest due first; return the number."""
    values = {"in_queue": queue_id, "now_ms": tx.now_ms, "limit": PROMOTE_BATCH}
    due = tx.execute(tx.sql.DUE, values).fetchall()
    if not due:
        return 0
    return len(tx.moved(tx.sql.PROMOTE, ids=tx.list_of([message_id for (message_id,) in due])))


def _keep_up(tx: WriteTransaction, queue: str) -> bool:
    """Make due messages ready, and take back ended leases; return whether there may be more."""
    row = tx.queue(queue)
    promoted, reclaimed = promote(tx, row.id), reclaim_expired(tx, row)
    return promoted == PROMOTE_BATCH or reclaimed == RECLAIM_BATCH


def _admit_probes(
    taken: int, tx: WriteTransaction, terms: Terms, limit: int, retention_ms: int, _retries: object
) -> _Admitted:
    """Decide about ready messages, of which so many are in flight as probes. All may be retries.

    A half-open breaker lets those through that have not raised Unavailable; if there are none, and
    none is in flight, they are the ones that have. So a message that always raises it does not take
    the place of the others.
    """
    found = _admit(tx, terms, limit, retention_ms, None, tx.sql.READY_FRESH)
    admitted, _, undelivered, _ = found
    if admitted or undelivered.number or taken:
        return found
    return _admit(tx, terms, limit, retention_ms, None, tx.sql.READY_RETURNED)


def _admit(
    tx: WriteTransaction,
    terms: Terms,
    limit: int,
    retention_ms: int,
    retries: int | None,
    ready: str | None = None,
) -> _Admitted:
    """Decide about ready messages in order, until `limit` are admitted or MAX_SET_ASIDE are not.

    Rows are read one at a time: of those that are not admitted no body stays in memory. Nothing is
    written before the reading has ended. Retries are bounded unless `retries` is None.

    Returns:
        The admitted ones, the facts about those whose keys have a record, the others, and whether
        more may be ready.
    """
    admitted: list[Row] = []
    known: dict[int, Facts] = {}
    taken, undelivered, is_full, suspect = set[str](), NotDelivered(), False, terms.suspect_receives
    values = (terms.queue_id, tx.now_ms - retention_ms, tx.now_ms, limit + MAX_SET_ASIDE)
    rows = tx.raw.execute(ready or tx.sql.READY, values)  # a cursor of its own
    try:
        for row in rows if retries is None else within_budget(rows, retries, undelivered):
            key = row[KEY]
            is_odd = key is not None and not key.isascii() and has_damaged_key(row)
            if is_odd or not row[IS_PLAIN] or key in taken or row[RECEIVE_COUNT] >= suspect:
                facts = examine(tx, row, terms, retention_ms, taken, undelivered)
                if facts is None:
                    if undelivered.number >= MAX_SET_ASIDE:
                        break
                    continue
                if facts.status is not None:
                    known[row[ID]] = facts
            if terms.tokens is not None and not undelivered.has_token(row, terms.tokens):
                if undelivered.number >= MAX_SET_ASIDE:
                    break
                continue
            admitted.append(row)
            if key is not None and row[SOURCE_QUEUE_ID] is None:
                taken.add(key)
            if terms.behind is not None:
                limit -= terms.behind.take(row, limit - len(admitted), taken)
            if is_full := len(admitted) >= limit:
                break
    finally:
        rows.close()
    is_full = is_full or undelivered.number >= MAX_SET_ASIDE
    return admitted, known, undelivered, is_full


def deliver(
    tx: WriteTransaction,
    terms: Terms,
    admitted: list[Row],
    known: dict[int, Facts],
    forms: tuple[str, str] | None = None,
) -> list[Message]:
    """Lease the admitted messages, and their keys; return them.

    `forms` is the statement for them, if they are not ready, for many and for one.
    """
    ids = [row[ID] for row in admitted]
    leased = lease_ready(tx, ids, terms.token, terms.visibility_ms, terms.owner, forms)
    if terms.tokens is not None:
        terms.tokens.pay()
    if terms.limits:
        flow.count_leases(tx, terms.queue_id, terms.limits, len(leased))
    if len(leased) != len(ids):
        admitted = [row for row in admitted if row[ID] in leased]
    keyed = [row for row in admitted if row[KEY] is not None and row[SOURCE_QUEUE_ID] is None]
    if keyed:
        refused = _take_keys(tx, terms, keyed, known)
        if refused:
            admitted = [row for row in admitted if row[ID] not in refused]
    return _leased(tx, terms, admitted)


def lease_ready(
    tx: WriteTransaction,
    ids: list[int],
    token: Token,
    visibility_ms: int,
    owner: int,
    forms: tuple[str, str] | None = None,
) -> list[int]:
    """Lease ready messages; return the ids of those that no other process has taken meanwhile.

    `forms` as for `deliver`.
    """
    text, listed = tx.listed(*(forms or (tx.sql.LEASE, tx.sql.LEASE_ONE)), ids)
    values = (listed, token, owner, tx.lease_now_ms + visibility_ms, tx.now_ms)
    if tx.execute(text, values).rowcount == len(ids):
        return ids
    left = tx.run(tx.sql.UNDER_RECEIPT, ids=tx.list_of(ids), token=token)
    return [message_id for (message_id,) in left.fetchall()]


def _take_keys(
    tx: WriteTransaction, terms: Terms, keyed: list[Row], known: dict[int, Facts]
) -> set[int]:
    """Take the keys of leased messages; return the ids of messages whose key is another's by now.

    Those are put back, uncounted.
    """
    new = [row[ID] for row in keyed if row[ID] not in known]
    taken = 0
    if new:
        text, ids = tx.listed(tx.sql.TAKE_NEW_KEYS, tx.sql.TAKE_NEW_KEYS_ONE, new)
        taken = tx.execute(text, (ids, terms.token, tx.now_ms)).rowcount
    if len(new) < len(keyed):
        taken += take_over_keys(tx, terms, keyed, known)
    if taken == len(keyed):
        return set()
    row, refused = tx.queue(terms.queue), set()
    for message in keyed:
        message_id = message[ID]
        of = {"in_queue": row.id, "of_key": message[KEY], "of": message_id, "token": terms.token}
        if tx.run(tx.sql.OWNED_KEY, **of).fetchone() is None:
            refused.add(message_id)
            leased = LeasedMessage(message_id, None, 1, message[GROUP], terms.token)
            put_back(tx, row, leased, State.READY, None, 1)
    return refused


def _leased(tx: WriteTransaction, terms: Terms, admitted: list[Row]) -> list[Message]:
    queue, token, visibility_ms = terms.queue, terms.token.hex(), terms.visibility_ms
    messages = []
    for row in admitted:
        # READY_COLUMNS, and whether it is plain.
        id_, body, key, attributes, priority, received, recovered, sent, enqueued, *rest = row
        source, group, expires_at_ms, _ = rest
        message_id = str(id_)
        fields = (
            message_id,
            queue,
            body,
            key,
            attributes,
            priority,
            _IN_FLIGHT,
            received + 1,
            recovered,
            sent,
            enqueued,
            0,
            visibility_ms,
            None if source is None else tx.queue_by_id(source).name,
            of_fields(Receipt, (queue, message_id, token)),
            group,
            None if expires_at_ms == FOREVER_MS else expires_at_ms,
            None,
        )
        messages.append(of_fields(Message, fields))
    return messages
