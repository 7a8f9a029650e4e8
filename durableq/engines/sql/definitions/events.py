"""The history of all messages, in the order in which it was written: by keyset of its ids."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from durableq.engines.sql.definitions.dead_letters import event_columns
from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.tables import history, queue

_p, _h = parameter, history.c
#: What decides whether an event is wanted. A row has it before its long texts, which are not read.
_heads: tuple[Any, ...] = (_h.id, _h.at_ms, _h.message_id, _h.queue_id, _h.event)

EVENTS_AFTER = Statement(
    select(*_heads).where(_h.id > _p("after")).order_by(_h.id).limit(_p("window"))
)
EVENTS_BEFORE = Statement(
    select(*_heads).where(_h.id < _p("before")).order_by(_h.id.desc()).limit(_p("window"))
)
EVENTS = Statement(
    select(*event_columns)
    .outerjoin(queue, queue.c.id == _h.queue_id)
    .where(in_list(_h.id, "ids"))
    .order_by(_h.id)
)
EVENT_HEAD = Statement(select(*_heads).where(_h.id == _p("of")))
# The last event that is older than one that is gone.
EVENT_BEFORE_GONE = Statement(
    select(func.max(_h.id)).where(_h.id < _p("gone"), _h.at_ms < _p("at_ms"))
)
# By the index of each queue; the sum keeps a database from reading the table in order of id.
_first_of_queue = (
    select(func.min(_h.id + zero))
    .where(_h.queue_id == queue.c.id, _h.at_ms >= _p("since_ms"))
    .scalar_subquery()
)
FIRST_EVENT_SINCE = Statement(select(func.min(_first_of_queue)).select_from(queue))
