"""Dead letters: decisions, history, groups by cause of death, and the fate of those sent back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from durableq.engines.sql import backlog, groups
from durableq.engines.sql.admission import ID, Row, choose
from durableq.engines.sql.flow import count_leases
from durableq.engines.sql.leaving import come, left
from durableq.engines.sql.queries import as_message, find_queue
from durableq.engines.sql.receiving import deliver, promote, terms_of
from durableq.engines.sql.reclaiming import reclaim_expired
from durableq.engines.sql.send_terms import send_terms
from durableq.engines.sql.settling import LeasedMessage, find_leased, put_back, refusal
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
    row_id,
)
from durableq.model import codec
from durableq.model.arguments import check_page_start
from durableq.model.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    DecisionCount,
    Recovered,
    RecoveredFate,
    RecoveryDecisions,
)
from durableq.model.decisions import Decision, Discard, Hold, Release, Requeue, Retry
from durableq.model.errors import Conflict, InvalidBody
from durableq.model.limits import MAX_RECEIVE_BATCH, SEARCHED
from durableq.model.message import (
    FOREVER_MS,
    DeadLetter,
    Event,
    HistoryEvent,
    Message,
    Outcome,
    Reason,
    Receipt,
    State,
)
from durableq.model.settings import Limits
from durableq.model.units import check_whole
from durableq.runtime.clock import shift
from durableq.store.capabilities import DeadLetters

#: By stored value: to call the enum takes fifty times as long, for each of thousands of rows.
_EVENTS: Final = {event.value: event for event in Event}
#: Larger than each row number.
_BEHIND_ALL: Final = (1 << 63) - 1
_REASONS: Final = {reason.value: reason for reason in Reason}


class SQLDeadLetters(Operations, DeadLetters):
    """The capability of dead letters, in SQL."""

    def lease_dead_letters(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
    ) -> list[Message]:
        """Lease dead letters by id."""
        if not ids:
            return []
        with self._database.write() as tx:
            return tx.shown(lease_dead_letters(tx, queue, ids, visibility_ms, owner_id))

    def decide(
        self, decisions: Sequence[tuple[Receipt, Decision | Release]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to leased dead letters."""
        with self._database.write() as tx:
            return _decide(tx, decisions, actor)

    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision | Release, *, actor: str = ""
    ) -> list[str]:
        """Apply one decision to these letters."""
        if not ids:
            return []
        with self._database.write() as tx:
            leased = lease_dead_letters(tx, queue, ids, None, 0)
            receipts = [message.receipt for message in leased if message.receipt is not None]
            outcomes = _decide(tx, [(receipt, decision) for receipt in receipts], actor)
            return [
                receipt.message_id
                for receipt, outcome in zip(receipts, outcomes, strict=True)
                if outcome is Outcome.DONE
            ]

    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """Return a dead letter with its history."""
        with self._database.read() as tx:
            found = tx.run(tx.sql.DEAD_LETTER, of=row_id(message_id)).fetchall()
            return tx.shown(next(iter(_dead_letters(tx, found)), None))

    def dead_letters(
        self,
        wanted: DeadLetterFilter,
        limit: int,
        after_id: str | None = None,
        *,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return dead letters that match a filter, with their histories, in order of id."""
        cursor = check_page_start(after_id)
        if newest_first and after_id is None:
            cursor = _BEHIND_ALL
        with self._database.read() as tx:
            meant = meant_by(shift(wanted, -tx.offset_ms), cursor)
            page = tx.sql.DEAD_LETTER_PAGE_BACK if newest_first else tx.sql.DEAD_LETTER_PAGE
            found = tx.run(page, limit=limit, **meant).fetchall()
            return tx.shown(_dead_letters(tx, found))

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Return the dead letters in groups by cause of death, the largest group first."""
        with self._database.read() as tx:
            of_queue = None if queue is None else find_queue(tx, queue).id
            found = tx.run(tx.sql.GROUPS, of_queue=of_queue).fetchall()
            return tx.shown([_group(row) for row in found])

    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return the exceptional events of a message."""
        with self._database.read() as tx:
            return tx.shown(histories(tx, [row_id(message_id)]).get(row_id(message_id), []))

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """Return the messages that recovery processes sent back to a queue, newest first."""
        with self._database.read() as tx:
            found = tx.run(
                tx.sql.RECOVERIES,
                in_queue=find_queue(tx, queue).dead_letter_queue_id,
                since_ms=since_ms - tx.offset_ms,
                limit=limit,
            )
            recovered = [
                Recovered(str(message_id), at_ms, _fate(died_again, is_there))
                for message_id, at_ms, died_again, is_there in found.fetchall()
            ]
            return tx.shown(recovered)

    def recovery_decisions(self, queue: str, since_ms: int, limit: int) -> RecoveryDecisions:
        """Count the decisions of recovery processes about dead letters of a queue."""
        with self._database.read() as tx:
            of = {
                "in_queue": find_queue(tx, queue).dead_letter_queue_id,
                "since_ms": since_ms - tx.offset_ms,
            }
            (number,) = tx.run(tx.sql.EVENTS_LOOKED_AT, window=SEARCHED + 1, **of).fetchone()
            rows = tx.run(tx.sql.DECISIONS, window=SEARCHED, limit=limit, **of).fetchall()
            counts = [DecisionCount(_EVENTS[event], *rest) for event, *rest in rows]
            return tx.shown(RecoveryDecisions(counts, number > SEARCHED))


def _decide(
    tx: WriteTransaction, decisions: Sequence[tuple[Receipt, Decision | Release]], actor: str
) -> list[Outcome]:
    """Apply decisions to leased dead letters; see DeadLetters.decide."""
    outcomes, leased = [], find_leased(tx, [receipt for receipt, _ in decisions])
    for receipt, decision in decisions:
        found = leased.pop(receipt, None)
        if found is None:
            outcomes.append(refusal(tx, receipt))
        else:
            outcomes.append(decide_one(tx, *found, decision, actor))
    return outcomes


def decide_one(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    decision: Decision | Release,
    actor: str,
) -> Outcome:
    """Apply a decision to a leased dead letter.

    Args:
        tx: the transaction.
        row: the dead-letter queue.
        leased: the dead letter.
        decision: the decision.
        actor: the person or process that decides.
    """
    source_queue_id = leased.source_queue_id
    if source_queue_id is None:
        raise Conflict(
            f"Message {leased.id} in queue {row.name!r} is not a dead letter: decisions are for "
            "those. Complete, fail or release it."
        )
    event, moved = Event.DISCARDED, False
    match decision:
        case Discard():
            ended = tx.run(tx.sql.DISCARD, of=leased.id, in_queue=row.id, token=leased.token)
            moved = bool(left(tx, ended.fetchall()))
            tx.count(row.id, tx.sql.DISCARDED, int(moved))
            count_leases(tx, row.id, row.limits, -int(moved))
        case Hold():
            event = Event.HELD
            moved = put_back(tx, row, leased, State.DELAYED, FOREVER_MS)
        case Release():
            event = Event.RELEASED
            moved = put_back(tx, row, leased, State.READY, tx.now_ms)  # retention counts anew
        case Retry() | Requeue():
            return send_back(tx, row, leased, tx.queue_by_id(source_queue_id), decision, actor)
    if not moved:
        return Outcome.STALE
    detail = {"recovery_count": leased.recovery_count}
    tx.record(leased.id, row.id, event, actor=actor, reason=decision.reason, detail=detail)
    return Outcome.DONE


def send_back(
    tx: WriteTransaction,
    row: StoredQueue,
    leased: LeasedMessage,
    target: StoredQueue,
    decision: Retry | Requeue,
    actor: str,
) -> Outcome:
    """Move a leased message to a queue: a dead letter, or one that was sent to its queue.

    Args:
        tx: the transaction.
        row: the queue of the message.
        leased: the message.
        target: the queue to which it goes.
        decision: the decision.
        actor: the person or process that decides.
    """
    if not _redrive(tx, row, leased, target, decision):
        return Outcome.STALE
    event = Event.RETRIED if isinstance(decision, Retry) else Event.REQUEUED
    detail: dict[str, Any] = {"recovery_count": leased.recovery_count + 1}
    if target.id != leased.source_queue_id:
        detail["to_queue"] = target.name
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
    if body is not None and codec.size(body) > target.max_body_bytes:
        raise InvalidBody(
            f"The changed body of message {leased.id} has {codec.size(body)} bytes; queue "
            f"{target.name!r} takes at most {target.max_body_bytes}."
        )
    due_ms = tx.now_ms + decision.delay_ms
    state = State.DELAYED if decision.delay_ms else State.READY
    sent_back = tx.run(
        tx.sql.REDRIVE,
        of=leased.id,
        in_queue=row.id,
        target=target.id,
        token=leased.token,
        **groups.entrance(tx, target.id, leased.group, state),
        until=due_ms if decision.delay_ms else 0,
        retention_from_ms=due_ms,
        **send_terms(tx, target.id, target.limits).of_redriven(due_ms),
        now_ms=tx.now_ms,
        new_body=body,
        new_body_bytes=None if body is None else codec.size(body),
    )
    moved = sent_back.fetchall()
    if not moved:
        return False
    come(tx, target.id, moved[0][0])
    groups.sent_back(tx, leased.source_queue_id, target.id, leased.group)
    tx.count(target.id, tx.sql.MOVED_IN)
    _moved_out(tx, row, leased.group)
    return True


def _moved_out(tx: WriteTransaction, row: StoredQueue, group: str | None) -> None:
    """Count a message that was leased, and has left its queue for another."""
    count_leases(tx, row.id, row.limits, -1)
    if row.limits & Limits.BACKLOG_BYTES:
        backlog.count_bytes(tx, row.id)
    if group is not None:
        groups.take_steps(tx, [(row.id, group, groups.ONE_LEFT)])
    tx.count(row.id, tx.sql.MOVED_OUT)


def meant_by(wanted: DeadLetterFilter, cursor: int) -> dict[str, Any]:
    """Return the parameters of a filter.

    Args:
        wanted: the filter.
        cursor: only dead letters after this id, or before it where the newest come first.
    """
    return {
        "cursor": cursor,
        "of_queue": wanted.queue,
        "of_reason": wanted.reason,
        "of_type": wanted.error_type,
        "of_fingerprint": wanted.fingerprint,
        "before_ms": wanted.died_before_ms,
    }


def _dead_letters(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[DeadLetter]:
    """Return the dead letters of rows of DEAD_LETTER, with their histories."""
    known, found = histories(tx, [row[0] for row in rows]), []
    for row in rows:
        *_, max_recoveries, reason, fingerprint = row
        message = as_message(row[:-3], tx)
        found.append(
            DeadLetter(
                message,
                message.source_queue or "",
                _REASONS[reason],
                message.enqueued_at_ms,
                tuple(known.get(row[0], ())),
                max_recoveries,
                fingerprint,
            )
        )
    return found


def histories(tx: Transaction, ids: Sequence[int]) -> dict[int, list[HistoryEvent]]:
    """Return the exceptional events of messages by message id, oldest first."""
    found: dict[int, list[HistoryEvent]] = {}
    for row in tx.run(tx.sql.HISTORY, ids=tx.list_of([*ids])).fetchall():
        found.setdefault(row[0], []).append(as_event(row))
    return found


def as_event(row: tuple[Any, ...]) -> HistoryEvent:
    """Return the event of a row of the history."""
    of, name, event, at_ms, actor, *texts, detail, fingerprint, place = row
    reason, error_type, error_message, trace = texts
    return HistoryEvent(
        str(of),
        name or "",
        _EVENTS[event],
        at_ms,
        actor,
        reason,
        error_type,
        error_message,
        trace,
        json.loads(detail) if detail else {},
        fingerprint,
        place,
    )


def _fate(died_again: int, is_there: int) -> RecoveredFate:
    if died_again:
        return RecoveredFate.DIED
    return RecoveredFate.PENDING if is_there else RecoveredFate.ENDED


def _group(row: tuple[Any, ...]) -> DeadLetterGroup:
    name, reason, fingerprint, error_type, error_message, place, *numbers, example = row
    count, first_died_ms, last_died_ms = numbers
    return DeadLetterGroup(
        name,
        Reason(reason),
        fingerprint,
        error_type,
        error_message,
        place,
        count,
        first_died_ms,
        last_died_ms,
        str(example),
    )


def lease_dead_letters(
    tx: WriteTransaction, queue: str, ids: Sequence[str], visibility_ms: int | None, owner_id: int
) -> list[Message]:
    """Lease dead letters by id; see DeadLetters.lease_dead_letters."""
    check_whole(len(ids), "The number of dead letters", 1, MAX_RECEIVE_BATCH)
    row = tx.queue(queue)
    of_queue = queue, row.id, row.limits
    terms = terms_of(tx, len(ids), of_queue, visibility_ms, row.visibility_timeout_ms, owner_id)
    promote(tx, row.id)
    reclaim_expired(tx, row)
    chosen = _chosen(tx, row.id, len(ids), ids)
    return deliver(tx, terms, chosen, {}) if chosen else []


def _chosen(tx: WriteTransaction, queue_id: int, limit: int, ids: Sequence[str]) -> list[Row]:
    """Return the chosen dead letters, and make them ready, also those on hold."""
    chosen = tx.list_of([row_id(message_id) for message_id in ids])
    found = tx.run(tx.sql.DEAD_LETTERS, ids=chosen, in_queue=queue_id, limit=limit).fetchall()
    choose(tx, queue_id, [dead_letter[ID] for dead_letter in found])
    rows: list[Row] = found
    return rows
