"""Dead letters: history, decisions, and the view of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from durableq.engines.memory.base import operation, query
from durableq.engines.memory.queueing import MemoryQueueing
from durableq.engines.memory.tables import Row
from durableq.model import codec
from durableq.model.arguments import check_page_start
from durableq.model.dead_letters import (
    DECISION_EVENTS,
    RECOVERY_ACTOR,
    DeadLetterFilter,
    DeadLetterGroup,
    DecisionCount,
    Recovered,
    RecoveredFate,
    RecoveryDecisions,
)
from durableq.model.decisions import Decision, Discard, Hold, Release, Retry
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
from durableq.model.units import check_whole
from durableq.store.capabilities import DeadLetters


class MemoryDeadLetters(MemoryQueueing, DeadLetters):
    """Operations on dead letters."""

    @operation
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
        check_whole(len(ids), "The number of dead letters", 1, MAX_RECEIVE_BATCH)
        lease = self._lease(queue, len(ids), visibility_ms, owner_id)
        self._promote(queue)
        self._reclaim_expired(queue)
        dead = [row for row in self._tables.in_queue(queue) if row.source_queue is not None]
        free = [row for row in dead if row.id in set(ids) and row.state is not State.IN_FLIGHT]
        return [self._deliver(row, lease) for row in free]

    @operation
    def decide(
        self, decisions: Sequence[tuple[Receipt, Decision | Release]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to leased dead letters."""
        step = partial(self._decide, actor=actor)
        return [self._settle(receipt, partial(step, decision=one)) for receipt, one in decisions]

    @operation
    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision | Release, *, actor: str = ""
    ) -> list[str]:
        """Apply one decision to dead letters by id."""
        leased = self.lease_dead_letters(queue, ids)
        self.decide([(m.receipt, decision) for m in leased if m.receipt], actor=actor)
        return [message.id for message in leased]

    def _decide(self, row: Row, decision: Decision | Release, actor: str) -> Outcome:
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
            case Release():
                event = Event.RELEASED
                self._put_back(row, 0)
                self._put(self._tables.rows[row.id], delayed_until_ms=self._clock.now_ms())
            case _:
                event = Event.RETRIED if isinstance(decision, Retry) else Event.REQUEUED
                recovery_count += 1
                draft, delay_ms = row.draft, decision.delay_ms
                if isinstance(decision, Retry):
                    draft = draft._replace(body=self._changed_body(row.source_queue, decision))
                due_ms = self._clock.now_ms() + delay_ms
                expires_in_ms = self._queue(row.source_queue).settings.expires_in_ms
                self._move(
                    row,
                    row.source_queue,
                    due_ms if delay_ms else 0,
                    source_queue=None,
                    killed_by=None,
                    recovery_count=recovery_count,
                    first_received_at_ms=FOREVER_MS,
                    draft=draft,
                    expires_at_ms=due_ms + expires_in_ms if expires_in_ms else FOREVER_MS,
                )
        detail = {"recovery_count": recovery_count}
        self._record(row, event, actor=actor, reason=decision.reason, detail=detail)
        return Outcome.DONE

    def _changed_body(self, source_queue: str, decision: Retry) -> codec.Encoded:
        body, most = codec.encode(decision.body), self._queue(source_queue).settings.max_body_bytes
        if codec.size(body) > most:
            raise InvalidBody(
                f"The changed body has {codec.size(body)} bytes; queue {source_queue!r} takes at "
                f"most {most}."
            )
        return body

    @query
    def history(self, message_id: str) -> list[HistoryEvent]:
        """Return the exceptional events of a message."""
        return list(self._tables.history.get(message_id, ()))

    @query
    def dead_letter(self, message_id: str) -> DeadLetter | None:
        """Return a dead letter with its history."""
        row = self._tables.rows.get(message_id)
        return None if row is None else self._dead_letter(row)

    @query
    def dead_letters(
        self,
        wanted: DeadLetterFilter,
        limit: int,
        after_id: str | None = None,
        *,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return dead letters that match a filter, with their histories, in order of id."""
        after, before_ms = check_page_start(after_id), wanted.died_before_ms
        if before_ms is not None:
            wanted = replace(wanted, died_before_ms=self._clock.of_wall(before_ms))
        rows = sorted(self._tables.rows.values(), key=lambda row: int(row.id))
        if newest_first:
            rows = [row for row in rows[::-1] if after_id is None or int(row.id) < after]
        else:
            rows = [row for row in rows if int(row.id) > after]
        found = [self._dead_letter(row) for row in rows]
        return [one for one in found if one is not None and wanted.fits(one)][:limit]

    def _dead_letter(self, row: Row) -> DeadLetter | None:
        if row.source_queue is None or row.killed_by is None:
            return None
        return DeadLetter(
            self._as_message(row),
            row.source_queue,
            row.killed_by.reason,
            row.enqueued_at_ms,
            self._tables.history.get(row.id, ()),
            self._queue(row.source_queue).settings.max_recoveries,
            row.killed_by.fingerprint,
        )

    @query
    def dead_letter_groups(self, queue: str | None = None) -> list[DeadLetterGroup]:
        """Group the dead letters by queue, reason and fingerprint."""
        if queue is not None:
            self._queue(queue)
        groups: dict[tuple[str, Reason, str], list[DeadLetter]] = {}
        for dead_letter in filter(None, map(self._dead_letter, self._tables.rows.values())):
            if queue in {None, dead_letter.source_queue}:
                group = dead_letter.source_queue, dead_letter.reason, dead_letter.fingerprint
                groups.setdefault(group, []).append(dead_letter)
        found = [_as_group(dead_letters) for dead_letters in groups.values()]
        return sorted(found, key=lambda g: (-g.count, -g.last_died_ms, -int(g.example_id)))

    @query
    def recoveries(self, queue: str, since_ms: int, limit: int) -> list[Recovered]:
        """Return the messages that recovery processes sent back to this queue."""
        dead_letter_queue = self._queue(queue).dead_letter_queue
        since_ms, found = self._clock.of_wall(since_ms), []
        for message_id, events in self._tables.history.items():
            ours = [e for e in events if e.queue == dead_letter_queue and _is_recovery(e)]
            if ours and ours[-1].at_ms >= since_ms:
                since = events[events.index(ours[-1]) :]
                found.append(Recovered(message_id, ours[-1].at_ms, self._fate(since)))
        found.sort(key=lambda recovered: (recovered.at_ms, int(recovered.message_id)))
        return found[::-1][:limit]

    @query
    def recovery_decisions(self, queue: str, since_ms: int, limit: int) -> RecoveryDecisions:
        """Count the decisions of recovery processes about dead letters of a queue."""
        dead_letter_queue = self._queue(queue).dead_letter_queue
        since_ms = self._clock.of_wall(since_ms)
        events = [
            event
            for events in self._tables.history.values()
            for event in events
            if event.queue == dead_letter_queue and event.at_ms >= since_ms
        ]
        events.sort(key=lambda event: event.at_ms, reverse=True)
        times: dict[tuple[Event, str], list[int]] = {}
        for event in events[:SEARCHED]:
            if event.event in DECISION_EVENTS and event.actor.startswith(RECOVERY_ACTOR):
                times.setdefault((event.event, event.reason), []).append(event.at_ms)
        counts = [DecisionCount(*kind, len(at_ms), max(at_ms)) for kind, at_ms in times.items()]
        counts.sort(key=lambda each: (-each.number, each.event, each.reason))
        return RecoveryDecisions(counts[:limit], len(events) > SEARCHED)

    def _fate(self, since: Sequence[HistoryEvent]) -> RecoveredFate:
        if any(event.event is Event.BURIED for event in since):
            return RecoveredFate.DIED
        there = since[0].message_id in self._tables.rows
        return RecoveredFate.PENDING if there else RecoveredFate.ENDED


def _is_recovery(event: HistoryEvent) -> bool:
    back = event.event in {Event.RETRIED, Event.REQUEUED}
    return back and event.actor.startswith(RECOVERY_ACTOR)


def _as_group(dead_letters: list[DeadLetter]) -> DeadLetterGroup:
    """Return the group of dead letters, which are in order of id."""
    example = max(reversed(dead_letters), key=lambda dead_letter: dead_letter.died_at_ms)
    died_ms = [dead_letter.died_at_ms for dead_letter in dead_letters]
    burial = example.burial
    return DeadLetterGroup(
        example.source_queue,
        example.reason,
        example.fingerprint,
        burial.error_type if burial else "",
        burial.error_message if burial else "",
        burial.place if burial else "",
        len(dead_letters),
        min(died_ms),
        max(died_ms),
        example.id,
    )
