"""Schedules: stored, decided about, and changed by hand."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from durableq.engines.sql.backlog import read_backlog
from durableq.engines.sql.sending import send
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model import slots as rules
from durableq.model.flow.sending import SHED, UNLIMITED
from durableq.model.message import Event
from durableq.model.schedules import (
    Schedule,
    draft_of,
    event_of,
    not_for_dead_letters,
    run_draft,
    unknown_schedule,
)
from durableq.model.settings import SEND_LIMITS
from durableq.model.slots import Fired, Now, ScheduleInfo, ScheduleState
from durableq.runtime.cron import timing_of
from durableq.store.schedules import Schedules


class SQLSchedules(Operations, Schedules):
    """The capability of schedules, in SQL."""

    def declare_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Store schedules that are new or have changed; to find out takes no write lock."""
        with self._database.read() as tx:
            known = [_find(tx, schedule.name) for schedule in schedules]
        pairs = zip(schedules, known, strict=True)
        if new := [one for one, found in pairs if found is None or found[0] != one]:
            self._database.run(_declare, new, self._database.boot_id)

    def schedules(self) -> list[ScheduleInfo]:
        """Return all schedules, by name."""
        with self._database.read() as tx:
            return all_schedules(tx)

    def schedule(self, name: str) -> ScheduleInfo:
        """Return one schedule."""
        with self._database.read() as tx:
            return ScheduleInfo.of(*_known(tx, name), tx.now_ms + tx.offset_ms)

    def next_slots_in_ms(self, names: Sequence[str]) -> dict[str, int]:
        """Return the time until a decision about each of these is due."""
        if not names:
            return {}
        with self._database.read() as tx:
            now, sql = _now(tx, self._database.boot_id), tx.sql
            text, listed = tx.listed(sql.SCHEDULE_STATES, sql.SCHEDULE_STATES_ONE, list(names))
            rows = tx.run(text, names=listed).fetchall()
            waits = {name: _state(state).wait_ms(now) for name, *state in rows}
            return {name: wait_ms for name, wait_ms in waits.items() if wait_ms is not None}

    def fire_schedule(self, name: str) -> Fired:
        """Decide about the slots that are due, and send their messages."""
        return self._database.run(_fire, name, self._database.boot_id)

    def pause_schedule(self, name: str, *, paused: bool, actor: str = "") -> ScheduleInfo:
        """Pause a schedule, or let it go on."""
        return self._database.run(_pause, name, paused, actor, self._database.boot_id)

    def run_schedule(self, name: str, *, actor: str = "") -> str:
        """Send one message of a schedule now."""
        return self._database.run(_run, name, actor)

    def remove_schedule(self, name: str, *, actor: str = "") -> None:
        """Remove a schedule."""
        self._database.run(_remove, name, actor)


def all_schedules(tx: Transaction) -> list[ScheduleInfo]:
    """Return all schedules, by name."""
    rows, wall_ms = tx.run(tx.sql.SCHEDULES).fetchall(), tx.now_ms + tx.offset_ms
    return [ScheduleInfo.of(*_of_row(row), wall_ms) for row in rows]


def _declare(tx: WriteTransaction, schedules: Sequence[Schedule], boot_id: str) -> None:
    now = _now(tx, boot_id)
    for schedule in schedules:
        timing, found = timing_of(schedule.timing, schedule.tz), _find(tx, schedule.name)
        if found is None:
            values = _values(tx, schedule, rules.begin(timing, now))
            tx.run(tx.sql.PUT_SCHEDULE, name=schedule.name, **values)
            _record(tx, schedule, "added")
        elif found[0] != schedule:
            _save(tx, schedule, rules.with_definition(found[0], schedule, found[1], timing, now))
            _record(tx, schedule, "changed")


def _fire(tx: WriteTransaction, name: str, boot_id: str) -> Fired:
    found, now = _find(tx, name), _now(tx, boot_id)
    if found is None or found[1].wait_ms(now) != 0:
        return Fired()
    schedule, state = found
    timing = timing_of(schedule.timing, schedule.tz)
    queue = tx.queue(schedule.queue)
    backlog = read_backlog(tx, queue.id)[0] if queue.limits & SEND_LIMITS else UNLIMITED
    step = rules.decide(schedule, state, timing, now, backlog)
    ids = send(tx, schedule.queue, [draft_of(schedule, slot) for slot in step.fired.slots])
    state, fired = rules.counted(step, ids)
    _save(tx, schedule, state)
    if fired.skipped:
        _record(tx, schedule, "skipped", number=fired.skipped)
    return fired


def _pause(
    tx: WriteTransaction, name: str, is_paused: bool, actor: str, boot_id: str
) -> ScheduleInfo:
    (schedule, before), now = _known(tx, name), _now(tx, boot_id)
    timing = timing_of(schedule.timing, schedule.tz)
    state = rules.paused(before, is_paused=is_paused, timing=timing, now=now)
    if state.paused != before.paused:
        _save(tx, schedule, state)
        _record(tx, schedule, "paused" if is_paused else "resumed", actor)
    return ScheduleInfo.of(schedule, state, now.wall_ms)


def _run(tx: WriteTransaction, name: str, actor: str) -> str:
    schedule, _ = _known(tx, name)
    (message_id,) = send(tx, schedule.queue, [run_draft(schedule, secrets.token_hex(8))])
    if message_id != SHED:
        _record(tx, schedule, "run", actor)
    return message_id


def _remove(tx: WriteTransaction, name: str, actor: str) -> None:
    schedule, _ = _known(tx, name)
    _record(tx, schedule, "removed", actor)
    tx.run(tx.sql.DROP_SCHEDULE, of=name)


def _record(
    tx: WriteTransaction, schedule: Schedule, action: str, actor: str = "", number: int = 0
) -> None:
    """Write an event into the history of the queue."""
    detail, queue_id = event_of(schedule.name, action, number), tx.queue(schedule.queue).id
    tx.record(-queue_id, queue_id, Event.SCHEDULE, actor=actor, detail=detail)


def _save(tx: WriteTransaction, schedule: Schedule, state: ScheduleState) -> None:
    values = {f"new_{name}": value for name, value in _values(tx, schedule, state).items()}
    tx.run(tx.sql.SET_SCHEDULE, of=schedule.name, **values)


def _values(tx: WriteTransaction, schedule: Schedule, state: ScheduleState) -> dict[str, Any]:
    """Return the values of a row without its name."""
    queue = tx.queue(schedule.queue)
    if queue.dead_letter_queue_id is None:
        raise not_for_dead_letters(queue.name)
    stored = {"periods": json.dumps(state.periods), "paused": int(state.paused)}
    of = {"queue_id": queue.id, "definition": schedule.to_json()}
    return state._asdict() | stored | of


def _known(tx: Transaction, name: str) -> tuple[Schedule, ScheduleState]:
    found = _find(tx, name)
    if found is None:
        raise unknown_schedule(name)
    return found


def _find(tx: Transaction, name: str) -> tuple[Schedule, ScheduleState] | None:
    row = tx.run(tx.sql.SCHEDULE, of=name).fetchone()
    return None if row is None else _of_row(row)


def _of_row(row: Sequence[Any]) -> tuple[Schedule, ScheduleState]:
    name, queue, definition, *state = row
    return Schedule.from_json(name, queue, definition), _state(state)


def _state(row: Sequence[Any]) -> ScheduleState:
    next_ms, periods, offset_ms, boot_id, paused, *counted = row
    decided = tuple((start, end) for start, end in json.loads(periods))
    return ScheduleState(next_ms, decided, offset_ms, boot_id, bool(paused), *counted)


def _now(tx: Transaction, boot_id: str) -> Now:
    return Now(tx.now_ms + tx.offset_ms, tx.offset_ms, boot_id)
