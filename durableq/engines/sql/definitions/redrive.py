"""Redrive tasks, and the messages that a task means."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, delete, func, or_, select, text, union_all, update

from durableq.engines.sql.definitions.dead_letters import (
    dead,
    died,
    matching,
    select_dead_letters,
    text_literal,
)
from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.queries import STATES, ids_in_queue, source
from durableq.engines.sql.definitions.redrive_tables import redrive_task
from durableq.engines.sql.definitions.tables import history, is_state, message, queue
from durableq.model.dead_letters import RedriveState
from durableq.model.message import Event, State

_c = redrive_task.c
_d = dead.c
#: The columns of `redrive_steps.Found`.
_found = (
    *(_d.id, _d.queue_id, _d.state, _d.recovery_count, _d.source_queue_id),
    *(source.c.id, _d.group_id, _d.rank),
)


# ---- dead letters


def _select_meant(*columns: Any) -> Select[Any]:
    """Return a query of the dead letters that a task has still to decide about."""
    return select_dead_letters(*columns).where(
        *matching(died.c.error_type),
        func.coalesce(died.c.id, zero) <= parameter("last_event"),
    )


DEAD_LETTERS_MEANT = Statement(_select_meant(*_found).order_by(_d.id).limit(parameter("limit")))
COUNT_MEANT = Statement(_select_meant(func.count(), func.max(case((source.c.id.is_(None), _d.id)))))

# ---- all messages of a queue

#: The last event with which a message came to a queue; one that was sent to it has none.
_arrival = (
    select(func.max(history.c.id))
    .where(
        history.c.message_id == _d.id,
        or_(
            *(
                history.c.event == text_literal(event)
                for event in (Event.BURIED, Event.RETRIED, Event.REQUEUED)
            )
        ),
    )
    .correlate(dead)
    .scalar_subquery()
)
_was_there = (
    _d.id <= parameter("last_message"),
    func.coalesce(_arrival, zero) <= parameter("last_event"),
)


def _select_waiting(state: State) -> Select[Any]:
    """Return a query of messages of a queue that were there when a task began, and have not ended.

    Those that have expired are left to maintenance.
    """
    return (
        select(*_found)
        .select_from(dead.outerjoin(source, source.c.id == _d.source_queue_id))
        .where(
            _d.queue_id == parameter("in_queue"),
            is_state(state, _d.state),
            *_was_there,
            _d.retention_from_ms > parameter("oldest_ms"),
            _d.expires_at_ms > parameter("now_ms"),
        )
        .limit(parameter("limit"))
    )


def _first_ready(*position: Any) -> Any:
    """Return the first ready messages at a position."""
    return _select_waiting(State.READY).where(*position).order_by(_d.rank, _d.id).subquery()


# In the order of receiving, behind a position. Each part is a range of an index; SQLite makes none
# of `(rank, id) > (?, ?)` here, and would read all that were passed over again.
_behind = union_all(
    select(_first_ready(_d.rank == parameter("at_rank"), _d.id > parameter("after_id"))),
    select(_first_ready(_d.rank > parameter("at_rank"))),
).subquery("behind")
READY_MEANT = Statement(
    select(_behind).order_by(_behind.c.rank, _behind.c.id).limit(parameter("limit"))
)
DELAYED_MEANT = Statement(_select_waiting(State.DELAYED).order_by(_d.delayed_until_ms, _d.id))
COUNT_IN_QUEUE = Statement(
    select(func.count()).select_from(
        union_all(*(ids_in_queue(state) for state in STATES)).subquery("present")
    )
)
# In flight, or behind such a message in its group.
COUNT_PASSED_OVER = Statement(
    select(func.count())
    .select_from(dead)
    .where(
        _d.id.in_(union_all(ids_in_queue(State.IN_FLIGHT), ids_in_queue(State.BLOCKED))),
        *_was_there,
    )
)

# ---- tasks

_last_event_id: Any = select(func.coalesce(func.max(history.c.id), zero))
_last_message_id: Any = select(func.coalesce(func.max(message.c.id), zero))
LAST_IDS = Statement(select(_last_event_id.scalar_subquery(), _last_message_id.scalar_subquery()))
_names = [c.name for c in _c if c.name != "id"]
# Of a queue of which a task runs nothing is started.
START_REDRIVE = Statement(
    text(
        f"INSERT INTO {redrive_task.name} ({', '.join(_names)})\n"
        f"VALUES ({', '.join(f':{name}' for name in _names)})\n"
        "ON CONFLICT DO NOTHING RETURNING id"
    )
)
_with_queue = select(redrive_task, queue.c.name.label("queue_name")).select_from(
    redrive_task.outerjoin(queue, queue.c.id == _c.queue_id)
)
REDRIVE_TASK = Statement(_with_queue.where(_c.id == parameter("of")))
REDRIVE_TASKS = Statement(_with_queue.order_by(_c.id.desc()))
# Only as it was read: where rows are locked, another process may have continued it since.
_as_read = (
    _c.id == parameter("of"),
    _c.state == text_literal(RedriveState.RUNNING),
    _c.cursor == parameter("cursor"),
    _c.moved == parameter("moved"),
    _c.tat_ns == parameter("tat_ns"),
)
UPDATE_REDRIVE = Statement(
    update(redrive_task)
    .where(*_as_read)
    .values(
        state=parameter("new_state"),
        failure=parameter("new_failure"),
        cursor=parameter("new_cursor"),
        cursor_rank=parameter("new_cursor_rank"),
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
DROP_REDRIVES = Statement(delete(redrive_task).where(_c.queue_id == parameter("in_queue")))
