"""Messages that stand for others: deduplication ids, and messages that wait with a replace_key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, text, tuple_

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import left
from durableq.engines.sql.definitions.tables import deduplication, is_state, message
from durableq.model.message import State

_m, _d = message.c, deduplication.c
_p = parameter
_waits: Any = ~is_state(State.IN_FLIGHT)

SENT_BEFORE = Statement(
    select(_d.message_id).where(
        _d.queue_id == _p("queue_id"),
        _d.scope == _p("scope"),
        _d.deduplication_id == _p("deduplication_id"),
        _d.expires_at_ms > _p("now_ms"),
    ),
    order=("queue_id", "scope", "deduplication_id", "now_ms"),
)
# An id whose window is over is given to another message.
REMEMBER_SENT = Statement(
    text(
        """\
INSERT INTO durableq_deduplication
    (queue_id, scope, deduplication_id, message_id, expires_at_ms)
SELECT id, :scope, :deduplication_id, :message_id, :now_ms + deduplication_window_ms
FROM durableq_queue WHERE id = :queue_id
ON CONFLICT (queue_id, scope, deduplication_id) DO UPDATE SET
    message_id = excluded.message_id, expires_at_ms = excluded.expires_at_ms"""
    ),
    order=("scope", "deduplication_id", "message_id", "now_ms", "queue_id"),
)
WAITING = Statement(
    select(_m.id, _m.body_bytes, _m.debounce_until_ms)
    .where(
        _m.queue_id == _p("queue_id"),
        _m.replace_key == _p("replace_key"),
        _waits,
        _m.source_queue_id.is_(None),
    )
    .order_by(_m.id),
    order=("queue_id", "replace_key"),
)
END_REPLACED = Statement(delete(message).where(in_list(_m.id, "ids"), _waits).returning(*left))
_old = (
    select(_d.queue_id, _d.scope, _d.deduplication_id)
    .where(_d.expires_at_ms <= _p("now_ms"))
    .limit(_p("limit"))
)
PRUNE_DEDUPLICATION = Statement(
    delete(deduplication).where(tuple_(_d.queue_id, _d.scope, _d.deduplication_id).in_(_old))
)
