"""Control of single messages: found by id, cancelled, and rescheduled."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, or_, select, update

from durableq.engines.sql.definitions.elements import Statement, has_state, in_list, parameter
from durableq.engines.sql.definitions.messages import delayed, from_arrival_or, left, ready, zero
from durableq.engines.sql.definitions.tables import is_state, message
from durableq.model.message import State

_m = message.c
_until = parameter("until")
_is_alive = _m.source_queue_id.is_(None)
#: A message that no process holds, and that no decision is needed for.
_is_waiting: Any = (
    or_(has_state(_m.state, State.READY), has_state(_m.state, State.DELAYED)),
    _is_alive,
)
_named = in_list(_m.id, "ids")

NAMED = Statement(
    select(
        _m.id,
        _m.queue_id,
        _m.state,
        _m.source_queue_id,
        _m.delayed_until_ms,
        _m.deferred,
        _m.lease_until_ms,
        _m.expires_at_ms,
    ).where(_named)
)
CANCEL = Statement(
    delete(message).where(_named, ~is_state(State.IN_FLIGHT), _is_alive).returning(*left)
)
_is_due_at = {"delayed_until_ms": _until, "retention_from_ms": from_arrival_or(_until)}
DELAY = Statement(
    update(message)
    .where(_named, *_is_waiting)
    .values(state=delayed, deferred=zero, **_is_due_at)
    .returning(_m.id)
)
RUN_NOW = Statement(
    update(message)
    .where(_named, has_state(_m.state, State.DELAYED), _is_alive)
    .values(state=ready, deferred=zero, **_is_due_at)
    .returning(_m.id)
)
