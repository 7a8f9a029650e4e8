"""Ending a lease: complete, fail, release, extend, decide. Each is fenced by the receipt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from durableq.engines.sql import statements as sql
from durableq.engines.sql.transactions import StoredQueue, WriteTransaction, row_id
from durableq.model import codec
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import Conflict, InvalidBody
from durableq.model.lifecycle import Bury, after_failure
from durableq.model.limits import MAX_VISIBILITY_MS
from durableq.model.message import FOREVER_MS, Completion, Event, Failure, Outcome, Receipt, State
from durableq.model.units import check_whole


class LeasedMessage(NamedTuple):
    """A leased message with the columns that settling needs."""

    id: int
    key: str | None
    receive_count: int
    token: bytes
    recovery_count: int = 0
    source_queue_id: int | None = None


def complete(tx: WriteTransaction, completions: Sequence[Completion]) -> list[Outcome]:
    """End messages in success; see Store.complete."""
    outcomes: list[Outcome | None] = [None] * len(completions)
    for row, token, positions in _by_lease(tx, [c.receipt for c in completions]):
        ids = tx.list_of(positions)
        ended = tx.run(sql.COMPLETE, ids=ids, in_queue=row.id, token=token).fetchall()
        tx.count(row.id, "completed", len(ended))
        for message_id, _ in ended:
            outcomes[positions[message_id]] = Outcome.DONE
        results = {
            (message_id, key): completions[positions[message_id]].result
            for message_id, key in ended
            if key is not None
        }
        if results:
            _complete_keys(tx, row, token, results)
    return [
        outcome or _judge_again(tx, completion)
        for outcome, completion in zip(outcomes, completions, strict=True)
    ]


def _complete_keys(
    tx: WriteTransaction, row: StoredQueue, token: bytes, results: dict[tuple[int, str], str | None]
) -> None:
    expires_ms = tx.now_ms + row.setting("idempotency_ttl_ms")
    keyed = [
        {
            "in_queue": row.id,
            "of_key": key,
            "of": message_id,
            "token": token,
            "new_result": result,
            "now_ms": tx.now_ms,
            "expires_ms": expires_ms,
        }
        for (message_id, key), result in results.items()
    ]
    tx.run_many(sql.COMPLETE_KEY, keyed)
    tx.run_many(sql.WAKE_DEFERRED, keyed)


def extend(tx: WriteTransaction, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
    """Prolong leases; see Store.extend."""
    check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
    until = tx.lease_now_ms + visibility_ms
    done: set[Receipt] = set()
    for row, token, positions in _by_lease(tx, receipts):
        ids = tx.list_of(positions)
        moved = tx.run(sql.EXTEND, ids=ids, in_queue=row.id, token=token, until=until)
        done.update(receipts[positions[message_id]] for (message_id,) in moved.fetchall())
    return [Outcome.DONE if r in done else refusal(tx, r) for r in receipts]


def release(tx: WriteTransaction, receipts: Sequence[Receipt]) -> list[Outcome]:
    """Give messages back uncounted; see Store.release."""
    outcomes = []
    for receipt in receipts:
        found = _find_leased(tx, receipt)
        if found is None:
            outcomes.append(refusal(tx, receipt))
        else:
            moved = put_back(tx, *found, State.READY, None, uncounted=1)
            outcomes.append(Outcome.DONE if moved else Outcome.STALE)
    return outcomes


def fail(
    tx: WriteTransaction, failures: Sequence[tuple[Receipt, Failure]], actor: str
) -> list[Outcome]:
    """Record failures, and retry or bury; see Store.fail."""
    outcomes = []
    for receipt, failure in failures:
        found = _find_leased(tx, receipt)
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
    """Record one failure of a leased message, and retry or bury it."""
    decision = after_failure(
        failure,
        leased.receive_count,
        row.settings,
        tx.rng(),
        has_dead_letter_queue=row.dead_letter_queue_id is not None,
    )
    if isinstance(decision, Bury):
        moved = _move_to_dead_letters(tx, row, leased.id, leased.token, State.IN_FLIGHT)
    else:
        state = State.DELAYED if decision.wait_ms else State.READY
        until = tx.now_ms + decision.wait_ms if decision.wait_ms else None
        moved = put_back(tx, row, leased, state, until)
    if not moved:
        return Outcome.STALE
    tx.record(
        leased.id, row.id, event, actor=actor, traceback=failure.traceback, **failure.history_fields
    )
    if not isinstance(decision, Bury):
        return Outcome.RETRY
    _drop_key(tx, row, leased)
    tx.record(leased.id, row.id, Event.BURIED, actor=actor, **failure.history_fields)
    return Outcome.BURIED


def bury(
    tx: WriteTransaction,
    row: StoredQueue,
    message_id: int,
    token: bytes,
    from_state: State,
    cause: Failure,
) -> bool:
    """Move a message to its queue's dead-letter queue and record the cause.

    Returns False if the message is no longer in that state under that receipt.
    """
    moved = _move_to_dead_letters(tx, row, message_id, token, from_state)
    if moved:
        tx.record(message_id, row.id, Event.BURIED, **cause.history_fields)
    return moved


def _move_to_dead_letters(
    tx: WriteTransaction, row: StoredQueue, message_id: int, token: bytes, from_state: State
) -> bool:
    to_queue = row.dead_letter_queue_id
    if to_queue is None:
        raise Conflict(f"Queue {row.name!r} has no dead-letter queue: nothing is buried from it.")
    buried = tx.run(
        sql.BURY,
        of=message_id,
        token=token,
        from_state=from_state.value,
        from_queue=row.id,
        to_queue=to_queue,
        now_ms=tx.now_ms,
    )
    if buried.rowcount != 1:
        return False
    tx.count(row.id, "moved_out")
    tx.count(to_queue, "moved_in")
    return True


def decide(
    tx: WriteTransaction, decisions: Sequence[tuple[Receipt, Decision]], actor: str
) -> list[Outcome]:
    """Apply decisions to leased dead letters; see DeadLetters.decide."""
    outcomes = []
    for receipt, decision in decisions:
        found = _find_leased(tx, receipt)
        if found is None:
            outcomes.append(refusal(tx, receipt))
        else:
            outcomes.append(decide_one(tx, *found, decision, actor))
    return outcomes


def decide_one(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    decision: Decision,
    actor: str,
    to_queue: StoredQueue | None = None,
) -> Outcome:
    """Apply a decision to a leased dead letter.

    Args:
        tx: the transaction.
        row: the dead-letter queue.
        leased: the dead letter.
        decision: the decision.
        actor: the person or process that decides.
        to_queue: the queue to send it to; None is the queue in which it died.
    """
    source_queue_id = leased.source_queue_id
    if source_queue_id is None:
        raise Conflict(
            f"Message {leased.id} in queue {row.name!r} is not a dead letter: decisions are for "
            "those. Complete, fail or release it."
        )
    recovery_count = leased.recovery_count
    event, moved = Event.DISCARDED, False
    match decision:
        case Discard():
            ended = tx.run(sql.DISCARD, of=leased.id, in_queue=row.id, token=leased.token)
            moved = ended.rowcount == 1
            tx.count(row.id, "discarded", int(moved))
        case Hold():
            event = Event.HELD
            moved = put_back(tx, row, leased, State.DELAYED, FOREVER_MS)
        case Retry() | Requeue():
            event = Event.RETRIED if isinstance(decision, Retry) else Event.REQUEUED
            target = to_queue or tx.queue_by_id(source_queue_id)
            moved = _redrive(tx, row, leased, target, decision)
            recovery_count += 1
    if not moved:
        return Outcome.STALE
    detail: dict[str, Any] = {"recovery_count": recovery_count}
    if to_queue is not None and to_queue.id != source_queue_id:
        detail["to_queue"] = to_queue.name
    tx.record(leased.id, row.id, event, actor=actor, reason=decision.reason, detail=detail)
    return Outcome.DONE


def _redrive(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    target: StoredQueue,
    decision: Retry | Requeue,
) -> bool:
    body = codec.encode(decision.body) if isinstance(decision, Retry) else None
    if body is not None and codec.size(body) > target.setting("max_body_bytes"):
        raise InvalidBody(
            f"The changed body of message {leased.id} has {codec.size(body)} bytes; queue "
            f"{target.name!r} takes at most {target.setting('max_body_bytes')}."
        )
    due_ms = tx.now_ms + decision.delay_ms
    sent_back = tx.run(
        sql.REDRIVE,
        of=leased.id,
        in_queue=row.id,
        target=target.id,
        token=leased.token,
        to_state=State.DELAYED.value if decision.delay_ms else State.READY.value,
        until=due_ms if decision.delay_ms else 0,
        retention_from_ms=due_ms,
        now_ms=tx.now_ms,
        new_body=body,
        new_body_bytes=None if body is None else codec.size(body),
    )
    if sent_back.rowcount != 1:
        return False
    tx.count(row.id, "moved_out")
    tx.count(target.id, "moved_in")
    return True


def attach_result(tx: WriteTransaction, receipt: Receipt, key: str, result: str) -> Outcome:
    """Add a result to a completed record; see Store.attach_result."""
    fence = _fence(tx, receipt.queue, receipt.token)
    if fence is None:
        return Outcome.GONE
    row, token = fence
    attached = tx.run(
        sql.ATTACH_RESULT,
        in_queue=row.id,
        of_key=key,
        of=row_id(receipt.message_id),
        token=token,
        new_result=result,
    )
    return Outcome.DONE if attached.rowcount == 1 else Outcome.GONE


def first_stale(tx: WriteTransaction, receipts: Iterable[Receipt]) -> Receipt | None:
    """Return the first receipt whose lease is gone, or None."""
    return next((r for r in receipts if _find_leased(tx, r) is None), None)


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
    ended = tx.run(
        sql.PUT_BACK,
        of=leased.id,
        in_queue=row.id,
        token=leased.token,
        to_state=state.value,
        until=until_ms,
        uncounted=uncounted,
    )
    if ended.rowcount != 1:
        return False
    _drop_key(tx, row, leased)
    return True


def _drop_key(tx: WriteTransaction, row: StoredQueue, leased: LeasedMessage) -> None:
    """Free the key of a message that did not succeed, and let those behind it try."""
    if leased.key is not None and leased.source_queue_id is None:
        tx.run(sql.DROP_KEY, in_queue=row.id, of_key=leased.key, of=leased.id, token=leased.token)
        tx.run(sql.WAKE_DEFERRED, in_queue=row.id, of_key=leased.key, now_ms=tx.now_ms)


def _by_lease(
    tx: WriteTransaction, receipts: Sequence[Receipt]
) -> Iterator[tuple[StoredQueue, bytes, dict[int, int]]]:
    """Group receipts by the receive that gave them, for each is one statement.

    Yields the queue, the token, and where in `receipts` each message id first stands.
    """
    groups: dict[tuple[str, str], dict[int, int]] = {}
    for position, (queue, message_id, token) in enumerate(receipts):
        groups.setdefault((queue, token), {}).setdefault(row_id(message_id), position)
    for (queue, token), positions in groups.items():
        fence = _fence(tx, queue, token)
        if fence is not None:
            yield *fence, positions


def _fence(tx: WriteTransaction, queue: str, token: str) -> tuple[StoredQueue, bytes] | None:
    """Return a receipt's queue and token; None if it can name nothing here."""
    row = tx.find_queue(queue)
    try:
        return None if row is None else (row, bytes.fromhex(token))
    except ValueError:
        return None


def _find_leased(
    tx: WriteTransaction, receipt: Receipt
) -> tuple[StoredQueue, LeasedMessage] | None:
    fence = _fence(tx, receipt.queue, receipt.token)
    if fence is None:
        return None
    row, token = fence
    found = tx.run(
        sql.LEASED, of=row_id(receipt.message_id), in_queue=row.id, token=token
    ).fetchone()
    if found is None:
        return None
    message_id, key, receive_count, recovery_count, source_queue_id = found
    return row, LeasedMessage(
        message_id, key, receive_count, token, recovery_count, source_queue_id
    )


def refusal(tx: WriteTransaction, receipt: Receipt) -> Outcome:
    """Name why a receipt moved nothing."""
    there = tx.run(sql.EXISTS, of=row_id(receipt.message_id)).fetchone()
    return Outcome.GONE if there is None else Outcome.STALE


def _judge_again(tx: WriteTransaction, completion: Completion) -> Outcome:
    """Answer a completion that ended nothing: DONE if this very one was applied before."""
    receipt, _, key = completion
    answer = refusal(tx, receipt)
    fence = _fence(tx, receipt.queue, receipt.token)
    if answer is Outcome.STALE or key is None or fence is None:
        return answer
    row, token = fence
    owned = tx.run(
        sql.COMPLETED_BY, in_queue=row.id, of_key=key, of=row_id(receipt.message_id), token=token
    )
    return Outcome.GONE if owned.fetchone() is None else Outcome.DONE
