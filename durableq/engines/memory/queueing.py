"""The core: the life of a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from durableq.engines.memory import groups
from durableq.engines.memory.base import operation, query
from durableq.engines.memory.delivering import MemoryDelivering
from durableq.engines.memory.queues import MemoryQueues
from durableq.engines.memory.tables import Lease, Row
from durableq.model import codec
from durableq.model.drafts import DraftFlow, size_as_sent, too_large, with_delays
from durableq.model.errors import (
    Conflict,
    DurableQError,
    InvalidInput,
    QueueFull,
    Unsupported,
)
from durableq.model.flow.sending import Incoming, plan
from durableq.model.lifecycle import (
    TOO_MANY_RECEIVES,
    Admission,
    admit,
    is_exhausted,
)
from durableq.model.limits import (
    MAX_SEND_BATCH,
    MAX_SET_ASIDE,
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
    Served,
    check_served,
)
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
)
from durableq.store.waiting import receive_or_wait


class MemoryQueueing(MemoryQueues, MemoryDelivering, Queueing):
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
            size, most = size_as_sent(draft), settings.max_body_bytes
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
        served: Served | None = None,
    ) -> Received:
        """Lease ready messages, or wait for one."""
        terms = visibility_ms, owner_id, by_group, gather
        receive = partial(self._receive, queue, limit, *terms)
        if served is not None:
            receive = partial(self._receive_served, queue, limit, *terms, served)
        return receive_or_wait(self, queue, wait_ms, receive)

    @operation
    def _receive_served(
        self,
        queue: str,
        limit: int,
        visibility_ms: int | None,
        owner_id: int,
        by_group: bool,
        gather: Gather | None,
        served: Served,
    ) -> Received:
        """Lease messages for the SQS endpoint."""
        check_served(served, by_group=by_group)
        attempt_id, again = served.attempt_id, None
        if attempt_id is not None:
            again = self._repeated(queue, attempt_id, visibility_ms)
        if again is not None:
            received = Received(again, [], 0)
        else:
            terms = visibility_ms, owner_id, by_group, gather, served.fill_groups
            received = self._receive(queue, limit, *terms)
            if attempt_id is not None and received.messages:
                self._keep_attempt(queue, attempt_id, received.messages)
        return received._replace(messages=[*map(self._with_envelope, received.messages)])

    @operation
    def _receive(
        self,
        queue: str,
        limit: int,
        visibility_ms: int | None,
        owner_id: int,
        by_group: bool = False,
        gather: Gather | None = None,
        fills: bool = False,
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
        is_free = retries is None and self._is_closed(queue)
        behind = partial(self._following, lease=lease, granted=granted, received_too=is_free)
        with self._filling_later():
            admitted = ready, lease, retries, heads, granted
            received, is_full = self._admit_each(*admitted, behind if fills else None)
            if by_group and received.messages:
                led = self._following(received.messages[0], limit - 1, lease, granted)
                received = received._replace(messages=[*received.messages, *led])
        more = more or is_full
        self._charge(queue, received.messages)
        groups.charge(self._tables, queue, self._clock.lease_ms(), granted)
        return received._replace(more=more)

    def _admit_each(
        self,
        ready: list[Row],
        lease: Lease,
        retries: int | None,
        most: int,
        granted: Counter[str],
        behind: Callable[[Message, int], list[Message]] | None = None,
    ) -> tuple[Received, bool]:
        """Decide about ready messages in order; return the answer, and whether it is full.

        `behind` delivers the messages behind one that was delivered.
        """
        received, led = Received([], [], 0), set[str | None]()
        for row in ready:
            is_counted = retries is not None and row.receive_count > 0
            if is_counted and not retries:
                self._hold_back(row)
                received = received._replace(set_aside=received.set_aside + 1)
            else:
                retries = retries - 1 if is_counted and retries else retries
                number = len(received.messages)
                received = self._admit(row, lease, received, granted)
                if behind is not None and number < len(received.messages) and row.group not in led:
                    led.add(row.group)
                    following = behind(received.messages[-1], most - len(received.messages))
                    received = received._replace(messages=[*received.messages, *following])
            passed_over = len(received.duplicates) + received.set_aside
            if len(received.messages) == most or passed_over == MAX_SET_ASIDE:
                return received, True
        return received, False

    def _admit(self, row: Row, lease: Lease, received: Received, granted: Counter[str]) -> Received:
        """Apply the decision of `admit` to one ready message; return the messages so far."""
        messages, duplicates, set_aside = received[:3]
        record, owner_left_ms = self._known(row)
        retention_ms = self._queue(row.queue).settings.retention_ms
        now_ms = self._clock.now_ms()
        since_ms = row.retained_from_ms
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
                case Receive(queue, limit, visibility_ms, owner_id, by_group, gather, served):
                    terms = visibility_ms, owner_id, by_group, gather
                    if served is not None:
                        return self._receive_served(queue, limit, *terms, served)
                    return self._receive(queue, limit, *terms)
                case Extend(receipts, visibility_ms):
                    return self.extend(receipts, visibility_ms)
                case Settle(completions, failures, actor):
                    return self.settle(completions, failures, actor=actor)
                case Release(receipts):
                    return self.release(receipts)
        except DurableQError as error:
            return error
