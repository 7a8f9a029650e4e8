"""Queries for people: short reads, paged by key, that never write."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.tables import is_state, message, queue
from durableq.model.message import State

_m = message.c
_own, _source = queue.alias("own"), queue.alias("source")


def _messages() -> Select[Any]:
    return (
        select(
            _m.id,
            _own.c.name,
            _m.body,
            _m.key,
            _m.attributes,
            _m.priority,
            _m.state,
            _m.receive_count,
            _m.recovery_count,
            _m.sent_at_ms,
            _m.enqueued_at_ms,
            _m.delayed_until_ms,
            _m.lease_until_ms,
            _source.c.name,
            _m.receipt,
        )
        .join(_own, _own.c.id == _m.queue_id)
        .outerjoin(_source, _source.c.id == _m.source_queue_id)
    )


MESSAGE = Statement(_messages().where(_m.id == parameter("of")))
PEEK = Statement(
    _messages()
    .where(_m.queue_id == parameter("in_queue"), _m.id > parameter("after"))
    .order_by(_m.id)
    .limit(parameter("limit"))
)
# The sum keeps the plan from reading every message in order of id: few are in flight.
LEASED_BY = Statement(
    _messages()
    .where(is_state(State.IN_FLIGHT), _m.owner_id == parameter("owner"))
    .order_by(_m.id + zero)
)
_of_each = _m.queue_id == queue.c.id
READY_IN = Statement(
    select(
        queue.c.name,
        queue.c.paused,
        select(_m.id).where(_of_each, is_state(State.READY)).exists(),
        select(func.min(_m.delayed_until_ms))
        .where(_of_each, is_state(State.DELAYED))
        .scalar_subquery(),
        select(func.min(_m.lease_until_ms))
        .where(_of_each, is_state(State.IN_FLIGHT))
        .scalar_subquery(),
    ).where(in_list(queue.c.name, "names"))
)
