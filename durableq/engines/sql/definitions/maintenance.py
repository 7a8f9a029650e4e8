"""The removal of expired rows: all at once, or in windows of a table."""

from __future__ import annotations

from sqlalchemy import delete, func, select, tuple_

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import left, past_retention, status_is
from durableq.engines.sql.definitions.tables import (
    history,
    idempotency,
    is_state,
    message,
    queue,
)
from durableq.model.message import RecordStatus, State

_q, _m, _h, _r = queue.c, message.c, history.c, idempotency.c
_rows = (
    select(_m.id, _m.queue_id, _m.state, _m.retention_from_ms)
    .where(_m.id > parameter("after"))
    .order_by(_m.id)
    .limit(parameter("window"))
    .subquery()
)
_events = (
    select(_h.id, _h.queue_id, _h.message_id, _h.at_ms)
    .where(_h.id > parameter("after"))
    .order_by(_h.id)
    .limit(parameter("window"))
    .subquery()
)
MESSAGE_WINDOW = Statement(select(func.count(), func.max(_rows.c.id)))
EVENT_WINDOW = Statement(select(func.count(), func.max(_events.c.id)))
OVERDUE = Statement(
    select(_rows.c.id, _rows.c.queue_id)
    .join(queue, _q.id == _rows.c.queue_id)
    .where(
        ~is_state(State.IN_FLIGHT, _rows.c.state),
        past_retention(_rows.c.retention_from_ms, _q.retention_ms),
    )
    .order_by(_rows.c.id)
    .limit(parameter("limit"))
)
OLD_EVENTS = Statement(
    select(_events.c.id)
    .join(queue, _q.id == _events.c.queue_id)
    .where(
        _events.c.at_ms <= parameter("now_ms") - _q.retention_ms,
        ~select(_m.id).where(_m.id == _events.c.message_id).exists(),
    )
    .order_by(_events.c.id)
    .limit(parameter("limit"))
)
DROP_EVENTS = Statement(delete(history).where(in_list(_h.id, "ids")))
ALL_OVERDUE = Statement(
    select(_m.id, _m.queue_id)
    .join(queue, _q.id == _m.queue_id)
    .where(
        ~is_state(State.IN_FLIGHT),
        past_retention(_m.retention_from_ms, _q.retention_ms),
    )
    .order_by(_m.id)
    .limit(parameter("limit"))
)
END_WAITING = Statement(
    delete(message).where(in_list(_m.id, "ids"), ~is_state(State.IN_FLIGHT)).returning(*left)
)
_expired_keys = (
    select(_r.queue_id, _r.key)
    .where(status_is(RecordStatus.COMPLETED), _r.expires_at_ms <= parameter("now_ms"))
    .limit(parameter("limit"))
)
PRUNE_KEYS = Statement(delete(idempotency).where(tuple_(_r.queue_id, _r.key).in_(_expired_keys)))
_old_events = (
    select(_h.id)
    .select_from(queue.join(history, _h.queue_id == _q.id))
    .where(
        _h.at_ms <= parameter("now_ms") - _q.retention_ms,
        ~select(_m.id).where(_m.id == _h.message_id).exists(),
    )
    .limit(parameter("limit"))
)
PRUNE_HISTORY = Statement(delete(history).where(_h.id.in_(_old_events)))
