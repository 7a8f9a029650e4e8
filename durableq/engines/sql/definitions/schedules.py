"""Schedules: stored, looked at, moved on, and removed."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.tables import queue, schedule

_p, _q, _s = parameter, queue.c, schedule.c
# The order of the fields of model.schedules.ScheduleState.
_state = (
    *(_s.next_ms, _s.periods, _s.offset_ms, _s.boot_id, _s.paused),
    *(_s.last_ms, _s.sent, _s.skipped),
)
_schedules = select(_s.name, _q.name, _s.definition, *_state).join(queue, _q.id == _s.queue_id)
SCHEDULE = Statement(_schedules.where(_s.name == _p("of")))
SCHEDULES = Statement(_schedules.order_by(_s.name))
# The states of those that are not paused.
SCHEDULE_STATES = Statement(
    select(_s.name, *_state).where(in_list(_s.name, "names"), _s.paused == zero), for_one=True
)
PUT_SCHEDULE = Statement(
    insert(schedule).values({column.name: _p(column.name) for column in schedule.columns})
)
SET_SCHEDULE = Statement(
    update(schedule)
    .where(_s.name == _p("of"))
    .values({c.name: _p(f"new_{c.name}") for c in schedule.columns if c.name != "name"})
)
DROP_SCHEDULE = Statement(delete(schedule).where(_s.name == _p("of")))
DROP_SCHEDULES = Statement(delete(schedule).where(_s.queue_id == _p("in_queue")))
