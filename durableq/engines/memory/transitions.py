"""Transitions of single messages, shared by the operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from durableq.engines.memory.inspect import MemoryMonitor, mark
from durableq.engines.memory.tables import Record, Row
from durableq.model import codec
from durableq.model.decisions import Decision, Discard, Hold, Retry
from durableq.model.errors import Conflict, InvalidBody, InvalidInput
from durableq.model.lifecycle import Admission, Bury, KnownKey, admit, after_failure
from durableq.model.limits import (
    MAX_HISTORY,
    MAX_SEND_BATCH,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import (
    FOREVER_MS,
    Completion,
    Draft,
    Duplicate,
    Event,
    Failure,
    HistoryEvent,
    Message,
    Outcome,
    Reason,
    Receipt,
    Received,
    RecordStatus,
    State,
)
from durableq.model.units import check_whole
from durableq.runtime.clock import Clock


class Lease(NamedTuple):
    """The lease that one receive gives to all its messages."""

    token: str
    until_ms: int


class MemoryMoves(MemoryMonitor):
    """Transitions of single messages. The public operations make them transactions."""

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        super().__init__(clock)
        self._rng = rng
        self._last_id = 0
        self._last_burial = 0

    # ---- send and receive

    def _send(self, name: str, drafts: Sequence[Draft]) -> list[str]:
        if len(drafts) > MAX_SEND_BATCH:
            raise InvalidInput(f"A batch has at most {MAX_SEND_BATCH} messages, got {len(drafts)}.")
        if not drafts:
            return []
        queue, now_ms, ids = self._queue(name), self._clock.now_ms(), []
        if queue.dead_letter_queue is None:
            raise Conflict(f"{name!r} is a dead-letter queue: only failed messages come there.")
        for number, draft in enumerate(drafts, 1):
            size, most = codec.size(draft.body), queue.settings.max_body_bytes
            if size > most:
                raise InvalidBody(
                    f"Message {number} of this batch has a body of {size} bytes; queue {name!r} "
                    f"takes at most {most}. Nothing of the batch was sent."
                )
        for draft in drafts:
            self._last_id += 1
            delay_ms = queue.settings.delay_ms if draft.delay_ms is None else draft.delay_ms
            waiting = (State.DELAYED, now_ms + delay_ms) if delay_ms else (State.READY, 0)
            row = Row(str(self._last_id), name, draft, now_ms, now_ms, *waiting)
            self._tables.rows[row.id] = row
            ids.append(row.id)
        self._count(name, sent=len(ids))
        return ids

    def _promote(self, queue: str) -> int:
        now_ms = self._clock.now_ms()
        waiting = [row for row in self._tables.in_queue(queue) if row.state is State.DELAYED]
        due = [row for row in waiting if row.delayed_until_ms <= now_ms]
        due = sorted(due, key=lambda row: (row.delayed_until_ms, int(row.id)))[:PROMOTE_BATCH]
        for row in due:
            self._put(row, state=State.READY, deferred=False)
        return len(due)

    def _meet(self, row: Row, lease: Lease, received: Received) -> Received:
        """Apply the decision of `admit` to one ready message; return the messages so far."""
        messages, duplicates, set_aside = received[:3]
        record, owner_left_ms = self._known(row)
        retention_ms = self._queue(row.queue).settings.retention_ms
        now_ms = self._clock.now_ms()
        since_ms = max(row.enqueued_at_ms, row.delayed_until_ms)
        match admit(since_ms, row.draft.payload_hash, record, retention_ms, now_ms):
            case Admission.DELIVER:
                return received._replace(messages=[*messages, self._deliver(row, lease)])
            case Admission.DUPLICATE:
                self._end(row, "duplicates")
                return received._replace(duplicates=[*duplicates, self._duplicate(row)])
            case Admission.DEFER:
                self._wait(row, now_ms + max(1, owner_left_ms), deferred=True)
            case Admission.CONFLICT:
                conflict = Reason.IDEMPOTENCY_CONFLICT
                self._bury(row, Failure(conflict, "", conflict.sentence), actor="")
            case Admission.EXPIRE:
                self._expire(row)
        return received._replace(set_aside=set_aside + 1)

    def _known(self, row: Row) -> tuple[KnownKey | None, int]:
        """Return the record of a message's key, and the rest of its owner's lease in ms."""
        record = self._tables.records.get(row.guarded_key) if row.guarded_key else None
        if record is None:
            return None, 0
        owner = self._tables.rows.get(record.owner_id)
        holds = owner is not None and owner.state is State.IN_FLIGHT
        holds = holds and owner is not None and owner.token == record.owner_token
        left_ms = owner.lease_until_ms - self._clock.lease_ms() if owner is not None else 0
        mine = row.draft.payload_hash or b""
        same = codec.same_payload(record.payload_hash, mine, row.draft.body)
        known_hash = mine if same else record.payload_hash
        known = KnownKey(record.status, known_hash, record.expires_at_ms or 0, holds)
        return known, left_ms

    def _deliver(self, row: Row, lease: Lease) -> Message:
        is_chosen = row.state is State.DELAYED  # a letter that a person named
        leased = self._put(
            row,
            state=State.IN_FLIGHT,
            delayed_until_ms=0 if is_chosen else row.delayed_until_ms,
            receive_count=row.receive_count + 1,
            token=lease.token,
            lease_until_ms=lease.until_ms,
        )
        if row.guarded_key is not None and row.draft.payload_hash is not None:
            self._tables.records[row.guarded_key] = Record(
                RecordStatus.IN_PROGRESS,
                row.id,
                lease.token,
                row.draft.payload_hash,
                self._clock.now_ms(),
            )
        return self._as_message(leased, Receipt(row.queue, row.id, lease.token))

    def _duplicate(self, row: Row) -> Duplicate:
        key = row.draft.key or ""
        return Duplicate(row.id, row.queue, key, self._tables.records[row.queue, key].result)

    # ---- settle

    def _judge(self, receipt: Receipt) -> tuple[Row, Outcome] | tuple[None, Outcome]:
        """Return the message that a receipt is good for, and DONE; or None, and why not."""
        row = self._tables.rows.get(receipt.message_id)
        if row is None:
            return None, Outcome.GONE
        if row.state is State.IN_FLIGHT and (row.queue, row.id, row.token) == receipt:
            return row, Outcome.DONE
        return None, Outcome.STALE

    def _complete(self, completion: Completion) -> Outcome:
        receipt, result, key = completion
        if key is not None and self._completed_by(receipt, key) is not None:
            return Outcome.DONE
        row, outcome = self._judge(receipt)
        if row is None:
            return outcome
        self._end(row, "completed")
        if row.guarded_key is not None:
            now_ms, settings = self._clock.now_ms(), self._queue(row.queue).settings
            records = self._tables.records
            records[row.guarded_key] = records[row.guarded_key]._replace(
                status=RecordStatus.COMPLETED,
                result=result,
                completed_at_ms=now_ms,
                expires_at_ms=now_ms + settings.idempotency_ttl_ms,
            )
            self._wake_deferred(row.guarded_key)
        return Outcome.DONE

    def _completed_by(self, receipt: Receipt, key: str) -> Record | None:
        """Return the record of a key, if this receipt completed it."""
        record = self._tables.records.get((receipt.queue, key))
        if record is None or record.status is not RecordStatus.COMPLETED:
            return None
        owner = (record.owner_id, record.owner_token)
        return record if owner == (receipt.message_id, receipt.token) else None

    def _fail(self, receipt: Receipt, failure: Failure, actor: str) -> Outcome:
        row, outcome = self._judge(receipt)
        return outcome if row is None else self._fail_row(row, failure, actor, Event.FAILED)

    def _fail_row(self, row: Row, failure: Failure, actor: str, event: Event) -> Outcome:
        trace = failure.traceback
        self._record_event(row, event, actor=actor, traceback=trace, **failure.history_fields)
        settings, dead_letter_queue, _ = self._queue(row.queue)
        decision = after_failure(
            failure,
            row.receive_count,
            settings,
            self._rng(),
            has_dead_letter_queue=dead_letter_queue is not None,
        )
        if isinstance(decision, Bury):
            self._free_key(row)
            self._bury(row, failure, actor)
            return Outcome.BURIED
        wait_ms = decision.wait_ms
        self._put_back(row, self._clock.now_ms() + wait_ms if wait_ms else None)
        return Outcome.RETRY

    def _bury(self, row: Row, killed_by: Failure, actor: str) -> None:
        dead_letter_queue = self._queue(row.queue).dead_letter_queue
        if dead_letter_queue is None:
            raise Conflict(f"Queue {row.queue!r} has no dead-letter queue: nothing dies there.")
        self._last_burial += 1
        died = {"source_queue": row.queue, "burial": self._last_burial}
        self._move(row, dead_letter_queue, 0, **died)
        self._record_event(row, Event.BURIED, actor=actor, **killed_by.history_fields)

    def _decide(self, row: Row, decision: Decision, actor: str) -> None:
        if row.source_queue is None:
            raise Conflict(f"Message {row.id} in queue {row.queue!r} is not a dead letter.")
        recovery_count = row.recovery_count
        match decision:
            case Discard():
                event = Event.DISCARDED
                self._end(row, "discarded")
            case Hold():
                event = Event.HELD
                self._put_back(row, FOREVER_MS)
            case _:
                event = Event.RETRIED if isinstance(decision, Retry) else Event.REQUEUED
                recovery_count += 1
                delay_ms = decision.delay_ms
                draft = row.draft
                if isinstance(decision, Retry):
                    draft = draft._replace(body=self._changed_body(row.source_queue, decision))
                self._move(
                    row,
                    row.source_queue,
                    self._clock.now_ms() + delay_ms if delay_ms else 0,
                    source_queue=None,
                    burial=0,
                    recovery_count=recovery_count,
                    draft=draft,
                )
        detail = {"recovery_count": recovery_count}
        self._record_event(row, event, actor=actor, reason=decision.reason, detail=detail)

    def _changed_body(self, source_queue: str, decision: Retry) -> codec.Encoded:
        body, most = codec.encode(decision.body), self._queue(source_queue).settings.max_body_bytes
        if codec.size(body) > most:
            raise InvalidBody(
                f"The changed body has {codec.size(body)} bytes; queue {source_queue!r} takes at "
                f"most {most}."
            )
        return body

    # ---- leases whose owners are dead or late

    def _reclaim_expired(self, queue: str) -> int:
        now_ms = self._clock.lease_ms()
        leased = [row for row in self._tables.in_queue(queue) if row.state is State.IN_FLIGHT]
        expired = sorted((row for row in leased if row.lease_until_ms <= now_ms), key=_by_deadline)[
            :RECLAIM_BATCH
        ]
        return self._take_back(expired, Reason.LEASE_EXPIRED)

    def _reclaim_lost(self, owner_id: int) -> int:
        start = mark(owner_id)
        leased = [row for row in self._tables.rows.values() if row.state is State.IN_FLIGHT]
        lost = sorted((row for row in leased if row.token.startswith(start)), key=_by_deadline)
        return self._take_back(lost, Reason.WORKER_LOST)

    def _take_back(self, rows: list[Row], reason: Reason) -> int:
        for row in rows:
            worker = self._tables.workers.get(int(row.token[:8], 16))
            failure = Failure(reason, error_type="", error_message=reason.sentence)
            self._fail_row(row, failure, worker.name if worker else "", Event.LEASE_EXPIRED)
        return len(rows)

    # ---- the steps all of these are made of

    def _put(self, row: Row, **changes: Any) -> Row:
        changed = self._tables.rows[row.id] = row._replace(**changes)
        return changed

    def _wait(self, row: Row, until_ms: int, *, deferred: bool = False, **changes: Any) -> Row:
        """Make a message ready, or delayed until a time other than 0."""
        state = State.DELAYED if until_ms else State.READY
        return self._put(row, state=state, delayed_until_ms=until_ms, deferred=deferred, **changes)

    def _put_back(self, row: Row, until_ms: int | None, **changes: Any) -> None:
        """End a lease without an end of the message; None leaves it due since when it was."""
        state = State.READY if until_ms is None else State.DELAYED
        until_ms = row.delayed_until_ms if until_ms is None else until_ms
        self._put(
            row,
            state=state,
            delayed_until_ms=until_ms,
            deferred=False,
            token="",
            lease_until_ms=0,
            **changes,
        )
        self._free_key(row)

    def _move(self, row: Row, queue: str, until_ms: int, **changes: Any) -> None:
        """Move a message to another queue, where it starts anew."""
        now_ms = self._clock.now_ms()
        fresh: dict[str, Any] = {
            "receive_count": 0,
            "enqueued_at_ms": now_ms,
            "token": "",
            "lease_until_ms": 0,
        }
        self._wait(row, until_ms, queue=queue, **fresh, **changes)
        self._count(row.queue, moved_out=1)
        self._count(queue, moved_in=1)

    def _expire(self, row: Row) -> None:
        self._record_event(row, Event.EXPIRED, reason=Reason.EXPIRED)
        self._end(row, "expired")

    def _end(self, row: Row, total: str) -> None:
        del self._tables.rows[row.id]
        self._count(row.queue, **{total: 1})

    def _free_key(self, row: Row) -> None:
        """Drop the record of a message that did not succeed, and let those behind it try."""
        key = row.guarded_key
        record = self._tables.records.get(key) if key else None
        if key is None or record is None or record.status is not RecordStatus.IN_PROGRESS:
            return
        if (record.owner_id, record.owner_token) == (row.id, row.token):
            del self._tables.records[key]
            self._wake_deferred(key)

    def _wake_deferred(self, key: tuple[str, str]) -> None:
        for row in list(self._tables.rows.values()):
            if row.deferred and row.guarded_key == key:
                due_ms = self._clock.now_ms()
                self._put(row, state=State.READY, deferred=False, delayed_until_ms=due_ms)

    def _count(self, queue: str, **plus: int) -> None:
        found = self._queue(queue)
        counters = {name: getattr(found.counters, name) + number for name, number in plus.items()}
        counted = found._replace(counters=replace(found.counters, **counters))
        self._tables.queues[queue] = counted

    # ---- history

    def _record_event(self, row: Row, event: Event, *, actor: str = "", **texts: Any) -> None:
        at_ms = self._clock.now_ms()
        recorded = HistoryEvent(row.id, row.queue, event, at_ms, actor, **texts)
        before = self._tables.history.get(row.id, ())
        self._tables.history[row.id] = (*before, recorded)[-MAX_HISTORY:]

    def _all_history(self) -> list[HistoryEvent]:
        return [event for events in self._tables.history.values() for event in events]

    def _drop_history(self, dropped: Iterable[HistoryEvent]) -> None:
        gone = {id(event) for event in dropped}
        for message_id, events in list(self._tables.history.items()):
            kept = tuple(event for event in events if id(event) not in gone)
            self._tables.history[message_id] = kept

    def _lease_until(self, visibility_ms: int) -> int:
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
        return self._clock.lease_ms() + visibility_ms


def _by_deadline(row: Row) -> tuple[int, int]:
    return row.lease_until_ms, int(row.id)
