"""Backlog limits: what a queue stores, from its counters, and the sum of its bodies."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import func, literal_column, select, union_all, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.queries import STATES
from durableq.engines.sql.definitions.tables import counters, is_state, message, queue
from durableq.model.queues import ENDS

_c, _q, _m = counters.c, queue.c, message.c
_came: Any = _c.sent + _c.moved_in
_gone: Any = reduce(add, (_c[name] for name in ("moved_out", *ENDS)))

# In the order of `flow.sending.Backlog`, and the free space that sends must leave.
BACKLOG = Statement(
    select(
        _came - _gone,
        _c.backlog_bytes,
        _q.max_backlog,
        _q.max_backlog_bytes,
        _q.on_full,
        _q.block_timeout_ms,
        _q.min_free_bytes,
    )
    .join(counters, _c.queue_id == _q.id)
    .where(_q.id == parameter("queue_id")),
    order=("queue_id",),
)
_bodies = union_all(
    *(
        select(_m.body_bytes).where(_m.queue_id == parameter("in_queue"), is_state(state))
        for state in STATES
    )
).subquery()
_stored_bytes = select(func.coalesce(func.sum(_bodies.c.body_bytes), literal_column("0")))
SUM_BACKLOG_BYTES = Statement(
    update(counters)
    .where(_c.queue_id == parameter("in_queue"))
    .values(backlog_bytes=_stored_bytes.scalar_subquery())
)
