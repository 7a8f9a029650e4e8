"""Schedules: stored, decided about, and changed by hand."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from durableq.engines.memory.base import operation, query
from durableq.engines.memory.breaker import subject
from durableq.engines.memory.queueing import MemoryQueueing
from durableq.model import slots as rules
from durableq.model.flow.sending import SHED
from durableq.model.message import Event
from durableq.model.schedules import (
    Schedule,
    draft_of,
    event_of,
    not_for_dead_letters,
    run_draft,
    unknown_schedule,
)
from durableq.model.slots import Fired, Now, ScheduleInfo, ScheduleState
from durableq.runtime.cron import timing_of
from durableq.store.schedules import Schedules


class MemorySchedules(MemoryQueueing, Schedules):
    """Operations on schedules."""

    @operation
    def declare_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Store schedules that are new or have changed."""
        for schedule in schedules:
            if self._queue(schedule.queue).dead_letter_queue is None:
                raise not_for_dead_letters(schedule.queue)
            timing, now = timing_of(schedule.timing, schedule.tz), self._schedule_now()
            stored = self._tables.schedules.get(schedule.name)
            if stored is None:
                self._put_schedule(schedule, rules.begin(timing, now), "added")
            elif stored[0] != schedule:
                state = rules.with_definition(stored[0], schedule, stored[1], timing, now)
                self._put_schedule(schedule, state, "changed")

    @query
    def schedules(self) -> list[ScheduleInfo]:
        """Return all schedules, by name."""
        wall_ms = self._schedule_now().wall_ms
        stored = sorted(self._tables.schedules.items())
        return [ScheduleInfo.of(*schedule, wall_ms) for _, schedule in stored]

    @query
    def schedule(self, name: str) -> ScheduleInfo:
        """Return one schedule."""
        return ScheduleInfo.of(*self._schedule(name), self._schedule_now().wall_ms)

    @query
    def next_slots_in_ms(self, names: Sequence[str]) -> dict[str, int]:
        """Return the time until a decision about each of these is due."""
        now, stored = self._schedule_now(), self._tables.schedules
        waits = {name: stored[name][1].wait_ms(now) for name in names if name in stored}
        return {name: wait_ms for name, wait_ms in waits.items() if wait_ms is not None}

    @operation
    def fire_schedule(self, name: str) -> Fired:
        """Decide about the slots that are due, and send their messages."""
        now = self._schedule_now()
        if name not in self._tables.schedules:
            return Fired()
        schedule, state = self._tables.schedules[name]
        if state.wait_ms(now) != 0:
            return Fired()
        timing = timing_of(schedule.timing, schedule.tz)
        step = rules.decide(schedule, state, timing, now, self._backlog(schedule.queue))
        drafts = [draft_of(schedule, slot) for slot in step.fired.slots]
        state, fired = rules.counted(step, self.send_now(schedule.queue, drafts))
        self._put_schedule(schedule, state, "skipped" if fired.skipped else "", fired.skipped)
        return fired

    @operation
    def pause_schedule(self, name: str, *, paused: bool, actor: str = "") -> ScheduleInfo:
        """Pause a schedule, or let it go on."""
        schedule, before = self._schedule(name)
        timing, now = timing_of(schedule.timing, schedule.tz), self._schedule_now()
        state = rules.paused(before, is_paused=paused, timing=timing, now=now)
        if state.paused != before.paused:
            self._put_schedule(schedule, state, "paused" if paused else "resumed", actor=actor)
        return self.schedule(name)

    @operation
    def run_schedule(self, name: str, *, actor: str = "") -> str:
        """Send one message of a schedule now."""
        schedule, _ = self._schedule(name)
        (message_id,) = self.send_now(schedule.queue, [run_draft(schedule, secrets.token_hex(8))])
        if message_id != SHED:
            self._note_schedule(schedule, "run", actor=actor)
        return message_id

    @operation
    def remove_schedule(self, name: str, *, actor: str = "") -> None:
        """Remove a schedule."""
        schedule, _ = self._schedule(name)
        del self._tables.schedules[name]
        self._note_schedule(schedule, "removed", actor=actor)

    def _schedule_now(self) -> Now:
        moment = self._clock.moment()
        return Now(moment.now_ms + moment.offset_ms, moment.offset_ms, self._clock.boot_id())

    def _schedule(self, name: str) -> tuple[Schedule, ScheduleState]:
        if name not in self._tables.schedules:
            raise unknown_schedule(name)
        return self._tables.schedules[name]

    def _put_schedule(
        self,
        schedule: Schedule,
        state: ScheduleState,
        action: str,
        number: int = 0,
        actor: str = "",
    ) -> None:
        self._tables.schedules[schedule.name] = schedule, state
        if action:
            self._note_schedule(schedule, action, number, actor)

    def _note_schedule(
        self, schedule: Schedule, action: str, number: int = 0, actor: str = ""
    ) -> None:
        detail = event_of(schedule.name, action, number)
        queue = schedule.queue
        self._note(subject(queue), queue, Event.SCHEDULE, actor=actor, detail=detail)
