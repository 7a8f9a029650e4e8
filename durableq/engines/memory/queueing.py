"""The core: the life of a message."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from durableq.engines.memory import breaker, groups
from durableq.engines.memory.base import operation, query
from durableq.engines.memory.queues import MemoryQueues
from durableq.engines.memory.tables import Lease, Record, Row
from durableq.engines.memory.waiting import MemoryWaiting
from durableq.model import codec
from durableq.model.drafts import DraftFlow, too_large, with_delays
from durableq.model.errors import (
    Conflict,
    DurableQError,
    InvalidInput,
    QueueFull,
    Unsupported,
)
from durableq.model.flow.breaker import Phase
from durableq.model.flow.sending import Incoming, plan
from durableq.model.info import check_owner
from durableq.model.lifecycle import (
    TOO_MANY_RECEIVES,
    Admission,
    KnownKey,
    admit,
    is_exhausted,
)
from durableq.model.limits import (
    MAX_RECEIVE,
    MAX_SEND_BATCH,
    MAX_SET_ASIDE,
    MAX_VISIBILITY_MS,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import (
    Completion,
    Draft,
    Duplicate,
    Event,
    Failure,
    Gather,
    Message,
    Outcome,
    Reason,
    Receipt,
    Received,
    RecordStatus,
    State,
)
from durableq.model.units import check_whole
from durableq.runtime.room import send_when_room, warn_shed
from durableq.store.core import (
    Answer,
    Call,
    Extend,
    Queueing,
    Receive,
    Release,
    Send,
    Settle,
    receive_or_wait,
)


class MemoryQueueing(MemoryQueues, MemoryWaiting, Queueing):
    """Operations of the core."""

    # ---- send

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or wait until the queue has room for it."""
        if connection is not None:
            raise Unsupported("A store in memory cannot join a database's transaction.")
        try:
            return self.send_now(queue, drafts)
        except QueueFull as full:
            if not full.block_ms:
                raise
            again = partial(self.send_now, queue, drafts)
            return send_when_room(self, again, full, self.has_room)

    @query
    def has_room(self, full: QueueFull) -> bool:
        """Return whether a send that was refused may fit now."""
        return self._backlog(full.queue).has_room(*full.needs)

    @operation
    def send_now(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Store a batch."""
        if len(drafts) > MAX_SEND_BATCH:
            raise InvalidInput(f"A batch has at most {MAX_SEND_BATCH} messages, got {len(drafts)}.")
        if not drafts:
            return []
        settings, dead_letter_queue, _ = self._queue(queue)
        if dead_letter_queue is None:
            raise Conflict(f"{queue!r} is a dead-letter queue: only failed messages come there.")
        for number, draft in enumerate(drafts, 1):
            size, most = codec.size(draft.body), settings.max_body_bytes
            if size > most:
                raise too_large(drafts, number, queue, most)
        moment = self._clock.moment()
        drafts = with_delays(drafts, moment.now_ms + moment.offset_ms)
        numbered = dict(enumerate(drafts, self._last_id + 1))
        flows = [draft.flow or DraftFlow() for draft in drafts]
        incoming = [
            Incoming(number, codec.size(draft.body), flow)
            for (number, draft), flow in zip(numbered.items(), flows, strict=True)
        ]
        made = plan(queue, incoming, self._send_facts(queue, flows))
        self._carry_out(queue, made)
        for number in made.new:
            due = made.debounced.get(number)
            self._store(queue, number, numbered[number], settings, due)
        if made.shed:
            warn_shed(queue, made.shed)
        return made.answer

    # ---- receive

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
    ) -> Received:
        """Lease ready messages, or wait for one."""
        receive = partial(self._receive, queue, limit, visibility_ms, owner_id, by_group, gather)
        return receive_or_wait(self, queue, wait_ms, receive)

    @operation
    def _receive(
        self,
        queue: str,
        limit: int,
        visibility_ms: int | None,
        owner_id: int,
        by_group: bool = False,
        gather: Gather | None = None,
    ) -> Received:
        lease = self._lease(queue, limit, visibility_ms, owner_id)
        promoted, reclaimed = self._promote(queue), self._reclaim_expired(queue)
        received = Received([], [], 0)
        if self._queue(queue).settings.paused:
            return received
        more = promoted == PROMOTE_BATCH or reclaimed == RECLAIM_BATCH
        if gather is not None and (left_ms := self._gathered_in_ms(queue, lease, gather)):
            return received._replace(more=more, wait_ms=left_ms)
        limit, retries, ready = self._admissible(queue, limit)
        if not limit:
            return received._replace(more=more)
        granted: Counter[str] = Counter()
        heads = 1 if by_group else limit
        with self._filling_later():
            received, is_full = self._admit_each(ready, lease, retries, heads, granted)
        more = more or is_full
        if by_group and received.messages:
            behind = self._following(received.messages[0], lease, limit - 1, granted)
            received = received._replace(messages=[*received.messages, *behind])
        self._charge(queue, received.messages)
        groups.charge(self._tables, queue, self._clock.lease_ms(), granted)
        return received._replace(more=more)

    def _admit_each(
        self, ready: list[Row], lease: Lease, retries: int | None, most: int, granted: Counter[str]
    ) -> tuple[Received, bool]:
        """Decide about ready messages in order; return the answer, and whether it is full."""
        received = Received([], [], 0)
        for row in ready:
            is_counted = retries is not None and row.receive_count > 0
            if is_counted and not retries:
                self._hold_back(row)
                received = received._replace(set_aside=received.set_aside + 1)
            else:
                retries = retries - 1 if is_counted and retries else retries
                received = self._admit(row, lease, received, granted)
            passed_over = len(received.duplicates) + received.set_aside
            if len(received.messages) == most or passed_over == MAX_SET_ASIDE:
                return received, True
        return received, False

    def _gathered_in_ms(self, queue: str, lease: Lease, gather: Gather) -> int:
        """Return the time until a batch may be leased; 0: now."""
        lease_ms = lease.until_ms - self._clock.lease_ms()
        return gather.left_ms(self.count_ready(queue, gather.least), lease_ms)

    def _admissible(self, queue: str, limit: int) -> tuple[int, int | None, list[Row]]:
        """Return how many messages, and how many retries, may be leased, and the ready ones.

        Probes of a breaker may all be retries.
        """
        has_breaker = self._queue(queue).settings.breaker
        if has_breaker:
            limit, _ = breaker.admitted(self._tables, queue, limit, [], self._now())
        if not limit:
            return 0, None, []
        limit, retries, _ = self._allowance(queue, limit)
        self._let_through(queue, retries or 0)
        ready = self._ready(queue)
        if not has_breaker or breaker.state_of(self._tables, queue).phase is Phase.CLOSED:
            return limit, retries, ready
        return limit, None, breaker.probes(self._tables, queue, ready)

    def _lease(self, queue: str, limit: int, visibility_ms: int | None, owner_id: int) -> Lease:
        if visibility_ms is None:
            visibility_ms = self._queue(queue).settings.visibility_timeout_ms
        check_whole(limit, "The limit of a receive", 1, MAX_RECEIVE)
        if owner_id:
            check_owner(owner_id)
        return Lease(secrets.token_hex(16), self._lease_until(visibility_ms), owner_id)

    def _lease_until(self, visibility_ms: int) -> int:
        check_whole(visibility_ms, "A visibility timeout in ms", 1, MAX_VISIBILITY_MS)
        return self._clock.lease_ms() + visibility_ms

    def _admit(self, row: Row, lease: Lease, received: Received, granted: Counter[str]) -> Received:
        """Apply the decision of `admit` to one ready message; return the messages so far."""
        messages, duplicates, set_aside = received[:3]
        record, owner_left_ms = self._known(row)
        retention_ms = self._queue(row.queue).settings.retention_ms
        now_ms = self._clock.now_ms()
        since_ms = max(row.enqueued_at_ms, row.delayed_until_ms)
        ends, mine = row.expires_at_ms, row.draft.payload_hash
        exhausted = self._is_exhausted(row)
        match admit(since_ms, mine, record, retention_ms, now_ms, ends, is_exhausted=exhausted):
            case Admission.DELIVER if wait_ms := self._token_wait_ms(row, granted):
                self._wait(row, now_ms + wait_ms)
            case Admission.DELIVER:
                return received._replace(messages=[*messages, self._deliver(row, lease)])
            case Admission.DUPLICATE:
                self._end(row, "duplicates")
                result = self._tables.records[row.queue, row.draft.key or ""].result
                duplicate = Duplicate(row.id, row.queue, row.draft.key or "", result)
                return received._replace(duplicates=[*duplicates, duplicate])
            case Admission.DEFER:
                until_ms = min(now_ms + max(1, owner_left_ms), ends)
                self._wait(row, until_ms, deferred=True)
            case Admission.CONFLICT:
                conflict = Reason.IDEMPOTENCY_CONFLICT
                self._bury(row, Failure(conflict, "", conflict.sentence), actor="")
            case Admission.EXHAUSTED:
                self._bury(row, TOO_MANY_RECEIVES, actor="", receives=row.receive_count)
            case Admission.EXPIRE:
                self._expire(row)
            case Admission.PAST_RETENTION:
                self._record(row, Event.EXPIRED, reason=Reason.EXPIRED)
                self._end(row, "expired")
        return received._replace(set_aside=set_aside + 1)

    def _is_exhausted(self, row: Row) -> bool:
        """Return whether a message has had all its receives, and is buried at this one."""
        settings, dead_letter_queue, _ = self._queue(row.queue)
        buries = bool(settings.bury_at) and dead_letter_queue is not None
        return buries and is_exhausted(row.receive_count, settings.max_receives)

    def _following(
        self, head: Message, lease: Lease, limit: int, granted: Counter[str]
    ) -> list[Message]:
        """Deliver the messages behind a head, up to the first that has to wait."""
        found: list[Message] = []
        if head.receive_count > 1:
            return found
        now_ms, settings = self._clock.now_ms(), self._queue(head.queue).settings
        for row in groups.members(self._tables, head.queue, head.group):
            if row.state is not State.BLOCKED:
                continue
            since_ms = max(row.enqueued_at_ms, row.delayed_until_ms)
            is_over = min(since_ms + settings.retention_ms, row.expires_at_ms) <= now_ms
            is_plain = self._known(row)[0] is None and not (is_over or row.receive_count)
            is_due = row.delayed_until_ms <= now_ms
            if len(found) >= limit or not (is_plain and is_due):
                break
            if self._token_wait_ms(row, granted):
                break
            found.append(self._deliver(row, lease))
        return found

    def _token_wait_ms(self, row: Row, granted: Counter[str]) -> int:
        return groups.token_wait_ms(self._tables, row, self._clock.lease_ms(), granted)

    def _known(self, row: Row) -> tuple[KnownKey | None, int]:
        """Return the record of a message's key, and the rest of its owner's lease in ms."""
        record = self._tables.records.get(row.guarded_key) if row.guarded_key else None
        if record is None:
            return None, 0
        owner = self._judge(record.owner)
        holds = not isinstance(owner, Outcome)
        left_ms = 0 if isinstance(owner, Outcome) else self._lease_left_ms(owner)
        mine = row.draft.payload_hash or b""
        same = codec.same_payload(record.payload_hash, mine, row.draft.body)
        known_hash = mine if same else record.payload_hash
        return KnownKey(record.status, known_hash, record.expires_at_ms or 0, holds), left_ms

    def _deliver(self, row: Row, lease: Lease) -> Message:
        by_id = row.state is State.DELAYED  # a dead letter that was not due
        leased = self._put(
            row,
            state=State.IN_FLIGHT,
            delayed_until_ms=0 if by_id else row.delayed_until_ms,
            receive_count=row.receive_count + 1,
            lease=lease,
        )
        receipt, now_ms = Receipt(row.queue, row.id, lease.token), self._clock.now_ms()
        if row.guarded_key is not None and row.draft.payload_hash is not None:
            record = Record(RecordStatus.IN_PROGRESS, receipt, row.draft.payload_hash, now_ms)
            self._tables.records[row.guarded_key] = record
        return self._as_message(leased)._replace(receipt=receipt)

    # ---- settle

    @operation
    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Let leases end later, sooner, or at once."""
        if visibility_ms == 0 and type(visibility_ms) is int:
            return [self._settle(receipt, self._give_back) for receipt in receipts]
        until_ms = self._lease_until(visibility_ms)

        def step(row: Row) -> Outcome:
            self._put(row, lease=row.lease and row.lease._replace(until_ms=until_ms))
            return Outcome.DONE

        return [self._settle(receipt, step) for receipt in receipts]

    @operation
    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        return list(map(self._complete, completions))

    def _complete(self, completion: Completion) -> Outcome:
        receipt, result, key = completion
        if key is not None and self._completed_by(receipt, key) is not None:
            return Outcome.DONE

        def step(row: Row) -> Outcome:
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

        return self._settle(receipt, step)

    @operation
    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record failures, and retry or bury."""
        step = partial(self._fail, actor=actor, event=Event.FAILED)
        return [self._settle(receipt, partial(step, failure=why)) for receipt, why in failures]

    @operation
    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in one transaction."""
        return self.complete(completions) + self.fail(failures, actor=actor)

    @operation
    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Return messages to their queues, uncounted."""

        def step(row: Row) -> Outcome:
            if row.expires_at_ms <= self._clock.now_ms():
                return self._expire(row)
            return self._put_back(row, receive_count=row.receive_count - 1)

        return [self._settle(receipt, step) for receipt in receipts]

    @operation
    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations in one transaction."""
        return list(map(self._call, calls))

    def _call(self, call: Call) -> Answer:
        """Run one operation of several; as one of its own, it is undone alone if it raises."""
        try:
            match call:
                case Send(queue, drafts):
                    return self.send_now(queue, drafts)
                case Receive(queue, limit, visibility_ms, owner_id, by_group, gather):
                    return self._receive(queue, limit, visibility_ms, owner_id, by_group, gather)
                case Extend(receipts, visibility_ms):
                    return self.extend(receipts, visibility_ms)
                case Settle(completions, failures, actor):
                    return self.settle(completions, failures, actor=actor)
                case Release(receipts):
                    return self.release(receipts)
        except DurableQError as error:
            return error
