"""Delivery: what a receive may lease, and the leases."""

from __future__ import annotations

import secrets
from collections import Counter

from durableq.engines.memory import breaker, groups
from durableq.engines.memory.tables import Attempt, Lease, Record, Row
from durableq.engines.memory.waiting import MemoryWaiting
from durableq.model import codec
from durableq.model.endpoint import ATTEMPT_MS
from durableq.model.flow.breaker import Phase
from durableq.model.info import check_owner
from durableq.model.lifecycle import KnownKey, is_exhausted
from durableq.model.limits import MAX_RECEIVE, MAX_VISIBILITY_MS
from durableq.model.message import (
    Gather,
    Message,
    Outcome,
    Receipt,
    RecordStatus,
    State,
)
from durableq.model.units import check_whole


class MemoryDelivering(MemoryWaiting):
    """The steps of a receive."""

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
        if self._is_closed(queue):
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

    def _following(
        self,
        head: Message,
        limit: int,
        lease: Lease,
        granted: Counter[str],
        *,
        received_too: bool = False,
    ) -> list[Message]:
        """Deliver the messages behind a head, up to the first that has to wait."""
        found: list[Message] = []
        if head.receive_count > 1 and not received_too:
            return found
        now_ms, settings = self._clock.now_ms(), self._queue(head.queue).settings
        for row in groups.members(self._tables, head.queue, head.group):
            if settings.bury_at and row.state is State.IN_FLIGHT and row.id != head.id:
                break  # its head has come back before this one
            if row.state is not State.BLOCKED:
                continue
            since_ms = row.retained_from_ms
            is_over = min(since_ms + settings.retention_ms, row.expires_at_ms) <= now_ms
            most = settings.max_receives if received_too else 1
            is_over = is_over or is_exhausted(row.receive_count, most)
            is_plain = self._known(row)[0] is None and not is_over
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
            keeps_age=row.keeps_age and not by_id,
            receive_count=row.receive_count + 1,
            first_received_at_ms=min(row.first_received_at_ms, self._clock.now_ms()),
            lease=lease,
        )
        receipt, now_ms = Receipt(row.queue, row.id, lease.token), self._clock.now_ms()
        if row.guarded_key is not None and row.draft.payload_hash is not None:
            record = Record(RecordStatus.IN_PROGRESS, receipt, row.draft.payload_hash, now_ms)
            self._tables.records[row.guarded_key] = record
        return self._as_message(leased)._replace(receipt=receipt)

    def _is_closed(self, queue: str) -> bool:
        """Return whether a queue has no circuit breaker, or a closed one."""
        has_breaker = self._queue(queue).settings.breaker
        return not has_breaker or breaker.state_of(self._tables, queue).phase is Phase.CLOSED

    def _with_envelope(self, message: Message) -> Message:
        return message._replace(envelope=self._tables.rows[message.id].envelope)

    def _repeated(
        self, queue: str, attempt_id: str, visibility_ms: int | None
    ) -> list[Message] | None:
        """Return the messages of an earlier receive again, if all have the lease that it gave."""
        lease = self._lease(queue, 1, visibility_ms, 0)
        attempt, rows = self._tables.attempts.get((queue, attempt_id)), self._tables.rows
        now_ms, lease_ms = self._clock.now_ms(), self._clock.lease_ms()
        if attempt is None or attempt.expires_at_ms <= now_ms or attempt.lease.until_ms <= lease_ms:
            return None
        held = [rows[name] for name in attempt.ids if name in rows]
        held = [row for row in held if row.lease and row.lease[:3] == attempt.lease[:3]]
        if len(held) < len(attempt.ids):
            return None
        again = attempt.lease._replace(until_ms=lease.until_ms)
        self._tables.attempts[queue, attempt_id] = attempt._replace(lease=again)
        for row in held:
            self._put(row, lease=again)
        found = [self._tables.rows[name] for name in attempt.ids]
        return [self._as_message(row)._replace(receipt=row.receipt) for row in found]

    def _keep_attempt(self, queue: str, attempt_id: str, found: list[Message]) -> None:
        """Remember the messages of a receive under its id."""
        ids, lease = tuple(one.id for one in found), self._tables.rows[found[0].id].lease
        if lease is None:
            raise AssertionError("Received messages have a lease.")
        expires_at_ms = self._clock.now_ms() + ATTEMPT_MS
        self._tables.attempts[queue, attempt_id] = Attempt(ids, lease, expires_at_ms)
