"""Settling: complete and fail. Each is fenced by the receipt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from durableq.engines.sql import breaker, groups
from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.leaving import COUNTING_LIMITS, Left, come, complete_counted, left
from durableq.engines.sql.send_terms import send_terms
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Token,
    WriteTransaction,
    row_id,
)
from durableq.model.errors import Conflict
from durableq.model.lifecycle import Bury, Redeliver, after_failure
from durableq.model.message import (
    FOREVER_MS,
    Completion,
    Event,
    Failure,
    Outcome,
    Reason,
    Receipt,
    State,
)
from durableq.model.settings import Limits
from durableq.model.text import is_storable
from durableq.runtime.logs import facts

log = logging.getLogger("durableq.engine")

_IN_FLIGHT: Final = int(Limits.IN_FLIGHT)
_BREAKER: Final = int(Limits.BREAKER)
_BURY_AT_RECEIVE: Final = int(Limits.BURY_AT_RECEIVE)
#: With the first of these alone a dead letter is kept as long as if it were still in its queue.
KEEPS_AGE: Final = _BURY_AT_RECEIVE | int(Limits.GROUPS)
#: The values of sql.BURY for a dead-letter queue without limits.
_PLAIN_ENTRANCE: Final[dict[str, int | None]] = {
    "to_state": State.READY.value,
    "new_sequence": None,
    "base": 0,
    "weight": 1,
}
MESSAGE_EXPIRED: Final = Failure(
    Reason.MESSAGE_EXPIRED, error_type="", error_message=Reason.MESSAGE_EXPIRED.sentence
)


class LeasedMessage(NamedTuple):
    """A leased message with the columns that settling needs; or one that is to be buried, ready."""

    id: int
    key: str | None
    receive_count: int
    group: str | None
    token: Token
    expires_at_ms: int = FOREVER_MS
    recovery_count: int = 0
    source_queue_id: int | None = None


class _Source(NamedTuple):
    """The queue of completed messages with keys."""

    name: str
    id: int
    idempotency_ttl_ms: int


class Settling(Operations):
    """The settling part of the core, in SQL."""

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        return self._database.run(complete, completions)

    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record failures, and retry or bury."""
        return self._database.run(fail, failures, actor)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in one transaction."""
        return self._database.run(settle, completions, failures, actor)

    def settle_joining(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        connection: Any,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in the caller's transaction."""
        with self._database.join(connection) as tx:
            return settle(tx, completions, failures, actor)


def settle(
    tx: WriteTransaction,
    completions: Sequence[Completion],
    failures: Sequence[tuple[Receipt, Failure]],
    actor: str,
) -> list[Outcome]:
    """Complete and fail messages; see Queueing.settle."""
    outcomes = complete(tx, completions)
    return outcomes + fail(tx, failures, actor) if failures else outcomes


def complete(tx: WriteTransaction, completions: Sequence[Completion]) -> list[Outcome]:
    """End messages in success; see Queueing.complete."""
    outcomes: list[Outcome | None] = [None] * len(completions)
    done = Outcome.DONE  # to look up a member takes as long as the rest of the loop
    for queue, token, positions in by_receive([c.receipt for c in completions]):
        found = tx.execute(tx.sql.COMPLETE_IN, (queue,)).fetchone()
        if found is None:
            continue
        tx.revision, limits, queue_id, ttl_ms = found
        if limits & COUNTING_LIMITS or ttl_ms is None:
            ended = complete_counted(tx, queue_id, limits, token, [*positions])
        else:
            text, ids = tx.listed(tx.sql.COMPLETE, tx.sql.COMPLETE_ONE, [*positions])
            ended = tx.execute(text, (ids, queue_id, token)).fetchall()
            if ended:
                counter = tx.sql.COMPLETED_IN_FLIGHT if limits & _IN_FLIGHT else tx.sql.COMPLETED
                tx.execute(counter, (len(ended), queue_id))
        keyed = []
        for message_id, key in ended:
            position = positions[message_id]
            outcomes[position] = done
            if key is not None and (key.isascii() or is_storable(key)):
                keyed.append((message_id, key, completions[position].result))
        if keyed and ttl_ms is not None:  # the keys of dead letters guard nothing
            _complete_keys(tx, _Source(queue, queue_id, ttl_ms), token, keyed)
    return [
        outcome or _judge_again(tx, completion)
        for outcome, completion in zip(outcomes, completions, strict=True)
    ]


def _complete_keys(
    tx: WriteTransaction, source: _Source, token: Token, ended: list[tuple[int, str, str | None]]
) -> None:
    """Complete the records of messages that have ended, and wake the messages behind them.

    Args:
        tx: the transaction.
        source: the queue.
        token: of their receipts.
        ended: id, key and result of each.
    """
    at = {"now_ms": tx.now_ms, "expires_ms": tx.now_ms + source.idempotency_ttl_ms}
    # JSON functions of SQLite before 3.46 end a text at a NUL.
    alike = [key for _, key, result in ended if result is None and "\0" not in key]
    completed = _complete_alike(tx, source, token, alike) if alike else 0
    if len(alike) < len(ended):
        of_receive = {"in_queue": source.id, "token": token, **at}
        by_row = [
            {"of": message_id, "of_key": key, "new_result": result, **of_receive}
            for message_id, key, result in ended
            if result is not None or "\0" in key
        ]
        completed += tx.run_many(tx.sql.COMPLETE_KEY_ROWS, by_row).rowcount
    if completed != len(ended):
        warn_lost(source.name, len(ended) - completed, len(ended))
    if tx.execute(tx.sql.HAS_DEFERRED, (source.id,)).fetchone() is not None:
        woken = [{"in_queue": source.id, "of_key": key, **at} for _, key, _ in ended]
        tx.run_many(tx.sql.WAKE_DEFERRED_ROWS, woken)


def warn_lost(queue: str, lost: int, number: int) -> None:
    """Log that completed messages had no records: other code than durableq has changed them."""
    log.warning(
        "%s of %s completed messages of %s had lost their records: duplicates of them will be "
        "delivered",
        lost,
        number,
        queue,
        extra=facts("record_lost", queue=queue),
    )


def _complete_alike(tx: WriteTransaction, source: _Source, token: Token, keys: list[str]) -> int:
    """Complete records of one receive that keep no result; return the number of them."""
    text, listed = tx.listed(tx.sql.COMPLETE_KEYS, tx.sql.COMPLETE_KEYS_ONE, keys)
    expires_ms = tx.now_ms + source.idempotency_ttl_ms
    number: int = tx.execute(text, (listed, source.id, token, tx.now_ms, expires_ms)).rowcount
    return number


def fail(
    tx: WriteTransaction, failures: Sequence[tuple[Receipt, Failure]], actor: str
) -> list[Outcome]:
    """Record failures, and retry or bury; see Queueing.fail."""
    outcomes, leased = [], find_leased(tx, [receipt for receipt, _ in failures])
    for receipt, failure in failures:
        found = leased.pop(receipt, None)
        if found is None:
            outcomes.append(refusal(tx, receipt))
        else:
            outcomes.append(fail_one(tx, *found, failure, actor))
    return outcomes


def fail_one(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    failure: Failure,
    actor: str,
    event: Event = Event.FAILED,
) -> Outcome:
    """Record one failure of a leased message, and retry, bury or expire it."""
    judged = breaker.judge_failure(tx, row, leased.id, failure) if row.limits & _BREAKER else None
    uncounted = judged is not None and judged.after.is_uncounted
    decision = after_failure(
        failure,
        leased.receive_count,
        row,
        tx.rng(),
        has_dead_letter_queue=row.dead_letter_queue_id is not None,
        is_uncounted=uncounted,
        expires_in_ms=leased.expires_at_ms - tx.now_ms,
    )
    cause = failure if decision == Bury(failure.reason) else MESSAGE_EXPIRED
    if isinstance(decision, Redeliver):
        due = tx.now_ms + decision.wait_ms if decision.wait_ms else None
        moved = put_back(tx, row, leased, State.DELAYED if due else State.READY, due, uncounted)
    elif isinstance(decision, Bury):
        moved = move_to_dead_letters(tx, row, leased, State.IN_FLIGHT, cause)
    else:
        moved = drop_expired(tx, row, leased)
    if not moved:
        return Outcome.STALE
    if judged is not None:
        breaker.store_failure(tx, row, leased.id, judged)
    event = Event.UNAVAILABLE if uncounted else event
    told = failure.history_fields
    tx.record(leased.id, row.id, event, actor=actor, traceback=failure.traceback, **told)
    if isinstance(decision, Redeliver):
        return Outcome.RETRY
    drop_key(tx, row, leased)
    end = Event.BURIED if isinstance(decision, Bury) else Event.EXPIRED
    tx.record(leased.id, row.id, end, actor=actor, **cause.history_fields)
    return Outcome.BURIED if cause is failure else Outcome.EXPIRED


def drop_expired(tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage) -> bool:
    """Remove a leased message that has expired; return False if its lease was no longer there."""
    dropped = left(tx, tx.run(tx.sql.DISCARD, of=leased.id, in_queue=row.id, token=leased.token))
    tx.count(row.id, tx.sql.EXPIRED, len(dropped))
    count_leases(tx, row.id, row.limits, -len(dropped))
    return bool(dropped)


def move_to_dead_letters(
    tx: WriteTransaction,
    row: StoredQueue,
    message: LeasedMessage,
    state: State,
    cause: Failure,
) -> bool:
    """Move a message as `bury` does, and leave the event to the caller."""
    to_queue = row.dead_letter_queue_id
    if to_queue is None:
        raise Conflict(f"Queue {row.name!r} has no dead-letter queue: nothing is buried from it.")
    limits = row.dead_letter_limits or 0
    buried = tx.run(
        tx.sql.BURY,
        of=message.id,
        token=message.token,
        from_state=state.value,
        from_queue=row.id,
        to_queue=to_queue,
        reason=cause.reason.value,
        fingerprint=cause.fingerprint,
        now_ms=tx.now_ms,
        keeps_age=int(row.limits & KEEPS_AGE == _BURY_AT_RECEIVE),
        **(_entrance(tx, to_queue, limits, message.group) if limits else _PLAIN_ENTRANCE),
    )
    moved = buried.fetchall()
    if not moved:
        return False
    if row.limits and state is State.IN_FLIGHT:
        count_leases(tx, row.id, row.limits, -1)
    body_bytes, group = moved[0]
    if row.limits & COUNTING_LIMITS or message.source_queue_id is not None:
        at = state.value, message.source_queue_id
        left(tx, [Left(message.id, row.id, body_bytes, *at, group)], is_buried=True)
    if limits:
        come(tx, to_queue, body_bytes)
        groups.sent_back(tx, None, to_queue, group)
    tx.count(row.id, tx.sql.MOVED_OUT)
    tx.count(to_queue, tx.sql.MOVED_IN)
    return True


def _entrance(
    tx: WriteTransaction, to_queue: int, limits: int, group: str | None
) -> dict[str, int | None]:
    """Return the values of sql.BURY for the place in a dead-letter queue that has limits."""
    tx.known["limits", to_queue] = limits
    terms = send_terms(tx, to_queue, limits).of_redriven(tx.now_ms)
    place = groups.entrance(tx, to_queue, group, State.READY)
    return place | {"base": terms["base"], "weight": terms["weight"]}


def put_back(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    state: State,
    until_ms: int | None,
    uncounted: int = 0,
) -> bool:
    """End a lease and keep the message; return False if the lease was no longer there.

    Args:
        tx: the transaction.
        row: the queue of the message.
        leased: the leased message.
        state: READY or DELAYED.
        until_ms: the new due time; None keeps the old one.
        uncounted: number of receives that do not count.
    """
    group = leased.group
    if group is not None and row.limits & groups.GROUPS:
        state = State.BLOCKED  # until its group makes the first of its messages active
    else:
        group = None
    ended = tx.run(
        tx.sql.PUT_BACK,
        of=leased.id,
        in_queue=row.id,
        token=leased.token,
        to_state=state.value,
        until=until_ms,
        uncounted=uncounted,
    )
    if ended.rowcount != 1:
        return False
    if row.limits:
        count_leases(tx, row.id, row.limits, -1)
    drop_key(tx, row, leased)
    if group is not None:
        groups.change(tx, row.id, {group: groups.ONE_LEFT})
    return True


def drop_key(tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage) -> None:
    """Free the key of a message that did not succeed, and let those behind it try."""
    key = leased.key
    if key is None or leased.source_queue_id is not None:
        return
    if not (key.isascii() or is_storable(key)):  # damaged: it cannot be bound, and has no record
        return
    of = {"in_queue": row.id, "of_key": key, "of": leased.id, "token": leased.token}
    if tx.run(tx.sql.DROP_KEY, **of).rowcount:  # otherwise another message has it
        tx.run(tx.sql.WAKE_DEFERRED, in_queue=row.id, of_key=key, now_ms=tx.now_ms)


def by_receive(receipts: Sequence[Receipt]) -> list[tuple[str, Token, dict[int, int]]]:
    """Group receipts by the receive that gave them, for each is one statement.

    Returns:
        Queue, token, and where in `receipts` each message id first stands.
    """
    found: list[tuple[str, Token, dict[int, int]]] = []
    groups: dict[tuple[str, str], dict[int, int]] = {}
    positions, last = {}, ("", "")
    for position, (queue, message_id, token) in enumerate(receipts):
        if (queue, token) != last:  # most are of one receive
            last = queue, token
            positions = groups.get(last, {})
            if not positions:
                groups[last] = positions
                try:
                    found.append((queue, bytearray.fromhex(token), positions))
                except ValueError:  # no receive gave it
                    continue
        positions.setdefault(row_id(message_id), position)
    return found


def fence_of(tx: WriteTransaction, queue: str, token: str) -> tuple[StoredQueue, Token] | None:
    """Return a receipt's queue and token; None if it can name nothing here."""
    row = tx.find_queue(queue)
    try:
        return None if row is None else (row, bytearray.fromhex(token))
    except ValueError:
        return None


def find_leased(
    tx: WriteTransaction, receipts: Sequence[Receipt]
) -> dict[Receipt, tuple[StoredQueue, LeasedMessage]]:
    """Return queue and leased message of each receipt whose lease is not gone."""
    found = {}
    for queue, token, positions in by_receive(receipts):
        row = tx.find_queue(queue)
        if row is None:
            continue
        text, ids = tx.listed(tx.sql.LEASED, tx.sql.LEASED_ONE, [*positions])
        for leased in tx.run(text, ids=ids, in_queue=row.id, token=token).fetchall():
            message_id, key, receive_count, group, *rest = leased
            message = LeasedMessage(message_id, key, receive_count, group, token, *rest)
            found[receipts[positions[message_id]]] = row, message
    return found


def refusal(tx: WriteTransaction, receipt: Receipt) -> Outcome:
    """Name why a receipt moved nothing."""
    there = tx.run(tx.sql.EXISTS, of=row_id(receipt.message_id)).fetchone()
    return Outcome.GONE if there is None else Outcome.STALE


def _judge_again(tx: WriteTransaction, completion: Completion) -> Outcome:
    """Answer a completion that ended nothing: DONE if this very one was applied before."""
    receipt, _, key = completion
    answer = refusal(tx, receipt)
    fence = fence_of(tx, receipt.queue, receipt.token)
    if answer is Outcome.STALE or key is None or fence is None:
        return answer
    row, token = fence
    owned = tx.run(
        tx.sql.COMPLETED_BY, in_queue=row.id, of_key=key, of=row_id(receipt.message_id), token=token
    )
    return Outcome.GONE if owned.fetchone() is None else Outcome.DONE
