"""Bugs to plant in schedules."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import schedules
from durableq.model import slots
from durableq.model.flow.sending import UNLIMITED, Backlog
from durableq.model.schedules import draft_of
from durableq.model.slots import Fired, ScheduleState
from durableq.runtime import cron

_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_RULES = "tests/unit/test_schedule_rules.py::"
_module: Any = schedules


def stay_at_the_slot_that_was_sent() -> None:
    """A slot is sent again and again."""
    _module._save = lambda *_: None


def move_on_without_a_send() -> None:
    _module.send = lambda _tx, _queue, drafts: ["1"] * len(drafts)


def send_and_move_on_in_two_transactions() -> None:
    """A process that is killed between the two, or meets another one, sends a slot twice."""

    def fire(self: Any, name: str) -> Fired:
        with self._database.read() as tx:
            found, now = _module._find(tx, name), _module._now(tx, self._database.boot_id)
        if found is None or found[1].wait_ms(now) != 0:
            return Fired()
        schedule, state = found
        timing = cron.timing_of(schedule.timing, schedule.tz)
        step = slots.decide(schedule, state, timing, now, UNLIMITED)
        ids = self.send(schedule.queue, [draft_of(schedule, slot) for slot in step.fired.slots])
        state, fired = slots.counted(step, ids)
        self._database.run(_module._save, schedule, state)
        return fired

    _module.SQLSchedules.fire_schedule = fire


def fire_paused_schedules() -> None:
    wait_ms, state = ScheduleState.wait_ms, ScheduleState
    vars_of: Any = state
    vars_of.wait_ms = lambda self, now: wait_ms(self._replace(paused=False), now)


def take_every_jump_for_a_silence() -> None:
    """The slots of a day are sent when the clock jumps ahead by a day."""
    state: Any = ScheduleState
    state.has_jumped = lambda *_: False


def forget_the_decided_slots_at_a_jump() -> None:
    """A clock that is set back meets the same slots again."""
    followed, rules = slots._followed, slots
    module: Any = rules

    def forgotten(state: ScheduleState, now: Any) -> Any:
        return ((now.wall_ms, now.wall_ms),) if state.has_jumped(now) else followed(state, now)

    module._followed = forgotten


def catch_all_slots_up_whatever_the_policy() -> None:
    module: Any = slots
    module._chosen = lambda _, due, *__: due


def fire_more_slots_than_the_queue_can_hold() -> None:
    """The send is refused each time, with one slot more than before."""
    of: Any = Backlog
    of.most_at_once = lambda *_: 1_000


def count_shed_messages_as_sent() -> None:
    module: Any = slots
    module.SHED = None


def count_another_timing_from_the_last_slot() -> None:
    """A new expression sends the slots that have passed already."""
    module: Any = slots
    module.retimed = lambda state, timing, now: slots._counted_on(state.periods, timing, state, now)


def take_the_first_hour_for_the_second() -> None:
    """The next slot lies in the past while clocks show an hour for the second time."""
    module: Any = cron

    def all_after(self: Any, wall_ms: int) -> Any:
        local = module.datetime.fromtimestamp(wall_ms // 1000, self._zone)
        for slot in module.CronSim(self._expression, local):
            yield round(slot.timestamp()) * 1000

    module.CronTiming._all_after = all_after


BUGS = (
    stay_at_the_slot_that_was_sent,
    move_on_without_a_send,
    send_and_move_on_in_two_transactions,
    fire_paused_schedules,
    take_every_jump_for_a_silence,
    forget_the_decided_slots_at_a_jump,
    catch_all_slots_up_whatever_the_policy,
    fire_more_slots_than_the_queue_can_hold,
    count_shed_messages_as_sent,
    count_another_timing_from_the_last_slot,
    take_the_first_hour_for_the_second,
)
SEEN_BY = [
    ("stay_at_the_slot_that_was_sent", _CONTRACT + "test_a_slot_is_sent_once_when_it_is_due"),
    ("move_on_without_a_send", _CONTRACT + "test_a_slot_is_sent_once_when_it_is_due"),
    (
        "send_and_move_on_in_two_transactions",
        "tests/process/test_schedules.py::test_each_slot_is_one_message_where_workers_are_killed_"
        "while_they_fire[sqlite]",
    ),
    (
        "fire_paused_schedules",
        _CONTRACT + "test_a_paused_schedule_sends_nothing_and_catches_nothing_up",
    ),
    (
        "take_every_jump_for_a_silence",
        _CONTRACT + "test_a_clock_that_jumps_ahead_by_a_day_sends_nothing_of_the_day[all]",
    ),
    (
        "forget_the_decided_slots_at_a_jump",
        _CONTRACT + "test_a_clock_that_goes_back_sends_no_slot_again",
    ),
    (
        "catch_all_slots_up_whatever_the_policy",
        _RULES + "test_the_slots_sent_are_those_of_the_model",
    ),
    (
        "fire_more_slots_than_the_queue_can_hold",
        _CONTRACT + "test_of_more_slots_than_the_queue_can_hold_the_newest_are_sent[limits0-10]",
    ),
    (
        "count_shed_messages_as_sent",
        _CONTRACT + "test_a_slot_whose_message_is_shed_counts_as_skipped",
    ),
    (
        "count_another_timing_from_the_last_slot",
        _CONTRACT + "test_another_timing_counts_from_now",
    ),
    (
        "take_the_first_hour_for_the_second",
        _RULES + "test_within_the_second_hour_the_slot_of_the_first_has_passed",
    ),
]
