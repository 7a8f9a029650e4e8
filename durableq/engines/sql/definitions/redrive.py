"""Redrive tasks, and the dead letters that a task means."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, delete, func, insert, select, update

from durableq.engines.sql.definitions.dead_letters import (
    dead,
    died,
    matching,
    select_dead_letters,
    text_literal,
)
from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.queries import source
from durableq.engines.sql.definitions.tables import history, redrive_task
from durableq.model.dead_letters import RedriveState

_c = redrive_task.c
_d = dead.c


def _select_meant(*columns: Any) -> Select[Any]:
    """Return a query of the dead letters that a task has still to decide about."""
    return select_dead_letters(*columns).where(
        *matching(died.c.error_type),
        func.coalesce(died.c.id, zero) <= parameter("last_event"),
    )


DEAD_LETTERS_MEANT = Statement(
    _select_meant(
        _d.id,
        _d.queue_id,
        _d.state,
        _d.recovery_count,
        _d.source_queue_id,
        source.c.id,
        _d.group_id,
    )
    .order_by(_d.id)
    .limit(parameter("limit"))
)
COUNT_MEANT = Statement(_select_meant(func.count(), func.max(case((source.c.id.is_(None), _d.id)))))
_last_event_id: Any = select(func.coalesce(func.max(history.c.id), zero))
LAST_EVENT = Statement(_last_event_id)
START_REDRIVE = Statement(
    insert(redrive_task)
    .values({c.name: parameter(c.name) for c in _c if c.name != "id"})
    .returning(_c.id)
)
REDRIVE_TASK = Statement(select(redrive_task).where(_c.id == parameter("of")))
REDRIVE_TASKS = Statement(select(redrive_task).order_by(_c.id.desc()))
# Only as it was read: where rows are locked, another process may have continued it since.
_as_read = (
    _c.id == parameter("of"),
    _c.state == text_literal(RedriveState.RUNNING),
    _c.cursor == parameter("cursor"),
    _c.tat_ns == parameter("tat_ns"),
)
UPDATE_REDRIVE = Statement(
    update(redrive_task)
    .where(*_as_read)
    .values(
        state=parameter("new_state"),
        cursor=parameter("new_cursor"),
        moved=_c.moved + parameter("plus_moved"),
        skipped=_c.skipped + parameter("plus_skipped"),
        updated_at_ms=parameter("now_ms"),
        tat_ns=parameter("new_tat_ns"),
    )
)
SET_REDRIVE_RATE = Statement(
    update(redrive_task)
    .where(*_as_read)
    .values(rate=parameter("new_rate"), tat_ns=parameter("new_tat_ns"))
)
FORGET_REDRIVES = Statement(
    delete(redrive_task).where(
        _c.id.in_(
            select(_c.id)
            .where(_c.state != text_literal(RedriveState.RUNNING))
            .order_by(_c.id.desc())
            .offset(parameter("kept"))
        )
    )
)
CLAMP_REDRIVES = Statement(
    update(redrive_task)
    .where(
        _c.state == text_literal(RedriveState.RUNNING),
        _c.last_event > _last_event_id.scalar_subquery(),
    )
    .values(last_event=_last_event_id.scalar_subquery())
)
