"""Dead letters: decisions, history, groups by cause of death, and the fate of those sent back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, literal_column, or_, select

from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement
from durableq.engines.sql.queries import find_queue, one_message
from durableq.engines.sql.receiving import lease_dead_letters
from durableq.engines.sql.settling import LeasedMessage, find_leased, put_back, refusal
from durableq.engines.sql.statements import parameter
from durableq.engines.sql.tables import history, message, queue
from durableq.engines.sql.transactions import (
    Operations,
    StoredQueue,
    Transaction,
    WriteTransaction,
    row_id,
)
from durableq.model import codec
from durableq.model.dead_letters import RECOVERY_ACTOR, DeadLetterGroup, Recovered, RecoveredFate
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import Conflict, InvalidBody
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
from durableq.store.capabilities import DeadLetters

dead = message.alias("m")
source = queue.alias("source")
died = history.alias("died")


def text_literal(value: str) -> Any:
    """Return a constant of this package as literal SQL, so that the statement's text is whole."""
    return literal_column(f"'{value}'")


def select_dead_letters(*columns: Any) -> Select[Any]:
    """Return a query of dead letters with their source and their last burial.

    The history of a message is bounded, so it may have lost the burial.
    """
    last_burial = (
        select(func.max(history.c.id))
        .where(history.c.message_id == dead.c.id, history.c.event == text_literal(Event.BURIED))
        .correlate(dead)
        .scalar_subquery()
    )
    return (
        select(*columns)
        .select_from(
            dead.outerjoin(source, source.c.id == dead.c.source_queue_id).outerjoin(
                died, died.c.id == last_burial
            )
        )
        .where(dead.c.source_queue_id.is_not(None))
        # An index to read: SQLite would read all messages in order of id.
        .with_hint(dead, "durableq_message_dead")
    )


reason: Any = func.coalesce(died.c.reason, text_literal(Reason.HANDLER_ERROR))
empty: Any = literal_column("''")
_of_queue = parameter("of_queue", source.c.name)
_kind = (
    select_dead_letters(
        source.c.name.label("queue"),
        reason.label("reason"),
        func.coalesce(died.c.fingerprint, empty).label("fingerprint"),
        func.count().label("number"),
        func.min(dead.c.enqueued_at_ms).label("first_died_ms"),
        func.max(dead.c.enqueued_at_ms).label("last_died_ms"),
        func.coalesce(func.max(died.c.id), literal_column("0")).label("newest"),
        func.max(dead.c.id).label("some_id"),
    )
    .where(or_(_of_queue.is_(None), source.c.name == _of_queue))
    .group_by(literal_column("1"), literal_column("2"), literal_column("3"))
    .subquery("kind")
)
_example = history.alias("example")
GROUPS = Statement(
    select(
        _kind.c.queue,
        _kind.c.reason,
        _kind.c.fingerprint,
        func.coalesce(_example.c.error_type, empty),
        func.coalesce(_example.c.error_message, empty),
        func.coalesce(_example.c.place, empty),
        _kind.c.number,
        _kind.c.first_died_ms,
        _kind.c.last_died_ms,
        func.coalesce(_example.c.message_id, _kind.c.some_id),
    )
    .select_from(_kind.outerjoin(_example, _example.c.id == _kind.c.newest))
    .order_by(_kind.c.number.desc(), _kind.c.newest.desc())
)
_back, _later = history.alias("back"), history.alias("later")


def _sent_back(event: Any) -> tuple[Any, ...]:
    """Return the conditions for an event in which recovery sent a message back."""
    actor = func.substr(
        event.c.actor, literal_column("1"), literal_column(str(len(RECOVERY_ACTOR)))
    )
    return (
        event.c.queue_id == parameter("in_queue"),
        or_(
            event.c.event == text_literal(Event.RETRIED),
            event.c.event == text_literal(Event.REQUEUED),
        ),
        actor == text_literal(RECOVERY_ACTOR),
    )


RECOVERIES = Statement(
    select(
        _back.c.message_id,
        _back.c.at_ms,
        select(died.c.id)
        .where(
            died.c.message_id == _back.c.message_id,
            died.c.id > _back.c.id,
            died.c.event == text_literal(Event.BURIED),
        )
        .exists(),
        select(dead.c.id).where(dead.c.id == _back.c.message_id).exists(),
    )
    .where(
        *_sent_back(_back),
        _back.c.at_ms >= parameter("since_ms"),
        ~select(_later.c.id)
        .where(
            _later.c.message_id == _back.c.message_id,
            _later.c.id > _back.c.id,
            *_sent_back(_later),
        )
        .exists(),
    )
    .order_by(_back.c.at_ms.desc(), _back.c.message_id.desc())
    .limit(parameter("limit"))
)
_HISTORY = Statement(
    select(history, queue.c.name)
    .outerjoin(queue, queue.c.id == history.c.queue_id)
    .where(history.c.message_id == parameter("of"))
    .order_by(history.c.id)
)


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
        self, decisions: Sequence[tuple[Receipt, Decision]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to leased dead letters."""
        with self._database.write() as tx:
            return _decide(tx, decisions, actor)

    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision, *, actor: str = ""
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
            return tx.shown(_dead_letter(tx, message_id))

    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Return the dead letters in groups by cause of death, the largest group first."""
        with self._database.read() as tx:
            if queue is not None:
                find_queue(tx, queue)
            return tx.shown([_group(row) for row in tx.run(GROUPS, of_queue=queue).fetchall()])

    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return the exceptional events of a message."""
        with self._database.read() as tx:
            return tx.shown(_history(tx, message_id))

    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """Return the messages that recovery processes sent back to a queue, newest first."""
        with self._database.read() as tx:
            found = tx.run(
                RECOVERIES,
                in_queue=find_queue(tx, queue).dead_letter_queue_id,
                since_ms=since_ms - tx.offset_ms,
                limit=limit,
            )
            recovered = [
                Recovered(str(message_id), at_ms, _fate(died_again, is_there))
                for message_id, at_ms, died_again, is_there in found.fetchall()
            ]
            return tx.shown(recovered)


def _decide(
    tx: WriteTransaction, decisions: Sequence[tuple[Receipt, Decision]], actor: str
) -> list[Outcome]:
    """Apply decisions to leased dead letters; see DeadLetters.decide."""
    outcomes = []
    for receipt, decision in decisions:
        found = find_leased(tx, receipt)
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
    if body is not None and codec.size(body) > target.max_body_bytes:
        raise InvalidBody(
            f"The changed body of message {leased.id} has {codec.size(body)} bytes; queue "
            f"{target.name!r} takes at most {target.max_body_bytes}."
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


def _dead_letter(tx: Transaction, message_id: str) -> DeadLetter | None:
    """Return a dead letter with its history."""
    found = one_message(tx, message_id)
    if found is None or found.source_queue is None:
        return None
    events = tuple(_history(tx, message_id))
    died = next((e for e in reversed(events) if e.event is Event.BURIED), None)
    reason = Reason(died.reason) if died else Reason.HANDLER_ERROR
    died_at_ms = died.at_ms if died else found.enqueued_at_ms
    limit = find_queue(tx, found.source_queue).max_recoveries
    fingerprint = died.fingerprint if died else ""
    return DeadLetter(found, found.source_queue, reason, died_at_ms, events, limit, fingerprint)


def _history(tx: Transaction, message_id: str) -> list[HistoryEvent]:
    """Return the exceptional events of a message, oldest first."""
    events = []
    for row in tx.run(_HISTORY, of=row_id(message_id)).fetchall():
        _, of, _, at_ms, event, *texts, detail, fingerprint, place, name = row
        reason, error_type, error_message, trace, actor = texts
        events.append(
            HistoryEvent(
                str(of),
                name or "",
                Event(event),
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
        )
    return events


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


def _fate(died_again: int, is_there: int) -> RecoveredFate:
    if died_again:
        return RecoveredFate.DIED
    return RecoveredFate.PENDING if is_there else RecoveredFate.ENDED
