"""The expiry and the ranks of messages: settings that a send needs, and what maintenance does."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.tables import is_state, message, queue
from durableq.model.message import FOREVER_MS, State

_m, _q = message.c, queue.c

# The settings that give a message its expiry and its rank, read where they are on.
AT_SEND = Statement(
    select(_q.expires_in_ms, _q.priority_aging_ms).where(_q.id == parameter("queue_id")),
    order=("queue_id",),
)
LAST_MESSAGE = Statement(select(func.coalesce(func.max(_m.id), zero)))
RANK_WINDOW = Statement(
    update(message)
    .where(
        _m.id > parameter("after"),
        _m.id <= parameter("to"),
        _m.queue_id + zero == parameter("in_queue"),
    )
    .values(rank=_m.retention_from_ms * parameter("per_ms") - _m.priority * parameter("weight"))
)
# The index wants its condition, an inequality: of two ranges the planner might search the other.
# Messages in flight are left to their receivers, and those of a queue that is not there to audit.
EXPIRED_MESSAGES = Statement(
    select(_m.id, _m.queue_id, _m.state)
    .join(queue, _q.id == _m.queue_id)
    .where(
        _m.expires_at_ms != literal_column(str(FOREVER_MS)),
        _m.expires_at_ms <= parameter("now_ms"),
        ~is_state(State.IN_FLIGHT),
    )
    .order_by(_m.expires_at_ms)
    .limit(parameter("limit"))
)
