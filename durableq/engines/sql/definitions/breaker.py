"""Circuit breakers of queues: their state, the messages that failed, and the probes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select, text, tuple_, update

from durableq.engines.sql.definitions import messages
from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.tables import (
    counters,
    failure,
    flow,
    is_state,
    message,
    queue,
)
from durableq.model.message import State

_m, _q, _w, _f, _c = message.c, queue.c, flow.c, failure.c, counters.c
_p = parameter

# In the order of `breaker.StoredBreaker`.
BREAKER = Statement(
    select(
        _w.breaker_phase,
        _w.breaker_since_ms,
        _w.breaker_until_ms,
        _w.breaker_trips,
        _w.breaker_died,
        _w.breaker_judged,
        _w.breaker_completed,
        _w.breaker_reason,
        _c.completed,
        _q.breaker_share,
        _q.breaker_minimum,
        _q.breaker_window_ms,
        _q.breaker_open_ms,
        _q.breaker_open_max_ms,
        _q.breaker_probes,
    )
    .select_from(
        queue.join(flow, _w.queue_id == _q.id).join(counters, _c.queue_id == _q.id),
    )
    .where(_q.id == _p("in_queue")),
    order=("in_queue",),
)
# It names the state that it changes: another process may have changed it first.
SET_BREAKER = Statement(
    update(flow)
    .where(
        _w.queue_id == _p("in_queue"),
        _w.breaker_phase == _p("seen_phase"),
        _w.breaker_since_ms == _p("seen_since_ms"),
        _w.breaker_died == _p("seen_died"),
    )
    .values(
        breaker_phase=_p("phase"),
        breaker_since_ms=_p("since_ms"),
        breaker_until_ms=_p("until_ms"),
        breaker_trips=_p("trips"),
        breaker_died=_p("died"),
        breaker_judged=_p("judged"),
        breaker_completed=_p("completed"),
        breaker_reason=_p("reason"),
    )
)
_leases = (
    select(_m.id)
    .where(_m.queue_id == _p("in_queue"), is_state(State.IN_FLIGHT))
    .limit(_p("limit"))
    .subquery()
)
COUNT_LEASES = Statement(select(func.count()).select_from(_leases))

# ---- messages that failed

FAILURE_OF = Statement(
    select(_f.at_ms, _f.unavailable, _f.completed).where(
        _f.queue_id == _p("in_queue"), _f.message_id == _p("of")
    )
)
PUT_FAILURE = Statement(
    text(
        """\
INSERT INTO durableq_failure (queue_id, message_id, at_ms, unavailable, completed)
VALUES (:in_queue, :of, :at_ms, :uncounted, :completed)
ON CONFLICT (queue_id, message_id) DO UPDATE SET
    at_ms = excluded.at_ms, unavailable = excluded.unavailable, completed = excluded.completed"""
    )
)
# A window of the table, and whether a row is of no use any more: its message has left the queue,
# or it has no uncounted receive and is from before the window of the breaker.
_now_in = select(_m.queue_id).where(_m.id == _f.message_id).scalar_subquery()
_has_left = func.coalesce(_now_in, zero) != _f.queue_id
_is_old = (_f.unavailable == zero) & (_f.at_ms < _p("lease_now") - _q.breaker_window_ms)
FAILURE_WINDOW = Statement(
    select(_f.queue_id, _f.message_id, _has_left | _is_old)
    .join(queue, _q.id == _f.queue_id)
    .where(tuple_(_f.queue_id, _f.message_id) > tuple_(_p("after_queue"), _p("after")))
    .order_by(_f.queue_id, _f.message_id)
    .limit(_p("window"))
)
DROP_FAILURE = Statement(
    delete(failure).where(_f.queue_id == _p("in_queue"), _f.message_id == _p("of")),
    for_rows=True,
)

# ---- probes

_of_message = (_f.queue_id == _m.queue_id, _f.message_id == _m.id, _f.unavailable > zero)
_ready: Any = messages.READY.construct
# Ready messages that have not raised Unavailable.
READY_FRESH = Statement(
    _ready.where(~select(_f.message_id).where(*_of_message).exists()), order=messages.READY.order
)
# Those that have: the one that raised it longest ago is first.
READY_RETURNED = Statement(
    _ready.where(select(_f.message_id).where(*_of_message).exists())
    .order_by(None)
    .order_by(select(_f.at_ms).where(*_of_message).scalar_subquery(), _m.rank, _m.id),
    order=messages.READY.order,
)
