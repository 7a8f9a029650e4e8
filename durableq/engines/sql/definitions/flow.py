"""Limits of queues: read with their state, paid for, and counted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, literal_column, select, update

from durableq.engines.sql.columns import FLOW_COLUMNS, PACE_COLUMNS, PREPAID_COLUMNS
from durableq.engines.sql.definitions import messages
from durableq.engines.sql.definitions.elements import Statement, has_state, in_list, parameter
from durableq.engines.sql.definitions.messages import ready, zero
from durableq.engines.sql.definitions.queues import few_in_flight, flow_column
from durableq.engines.sql.definitions.tables import (
    counters,
    flow,
    is_state,
    message,
    queue,
)
from durableq.model.message import OVER_BUDGET_MS, State

_q, _c, _m = queue.c, counters.c, message.c
_p = parameter

# The columns of model.flow.capacity.FlowState; the last one, of a queue with a breaker.
*_of_all, _closed_at_ms = (flow_column(name) for name in FLOW_COLUMNS)
_limited = (
    select(*_of_all, zero).join(counters, _c.queue_id == _q.id).where(_q.id == _p("of_queue"))
)
# RECEIVE_FROM with those of a rate and of messages in flight: one statement less for a queue that
# is known to have no other limits. Not all of them: each costs the driver a third of a microsecond.
# NULL stands for a row of counters that is missing.
_receive_from: Any = messages.RECEIVE_FROM.construct
RECEIVE_LIMITED = Statement(
    _receive_from.add_columns(*map(flow_column, PACE_COLUMNS)).outerjoin(
        counters, _c.queue_id == _q.id
    ),
    order=messages.RECEIVE_FROM.order,
)
# RECEIVE_FROM for a queue with a rate whose tokens are paid for, if it is still the same.
RECEIVE_PREPAID = Statement(
    _receive_from.add_columns(*map(flow_column, PREPAID_COLUMNS)), order=messages.RECEIVE_FROM.order
)
# RECEIVE_FROM for a queue whose only limit is a few messages in flight, with its free places.
RECEIVE_FEW = Statement(
    _receive_from.add_columns(_q.max_in_flight - few_in_flight), order=messages.RECEIVE_FROM.order
)
FLOW = Statement(_limited, order=("of_queue",))
FLOW_OF_BREAKER = Statement(
    _limited.with_only_columns(*_of_all, _closed_at_ms).join(flow, flow.c.queue_id == _q.id),
    order=("of_queue",),
)
_is_over_budget = (
    is_state(State.DELAYED),
    _m.delayed_until_ms == literal_column(str(OVER_BUDGET_MS)),
)
# Retries that the budget does not cover make room for the messages behind them.
HOLD_BACK = Statement(
    update(message)
    .where(in_list(_m.id, "ids"), has_state(_m.state, State.READY))
    .values(
        state=literal_column(str(int(State.DELAYED))),
        delayed_until_ms=literal_column(str(OVER_BUDGET_MS)),
    ),
    order=("ids",),
)
_oldest_over_budget = (
    select(_m.id)
    .where(_m.queue_id == _p("in_queue"), *_is_over_budget)
    .order_by(_m.id)
    .limit(_p("limit"))
)
LET_THROUGH = Statement(
    update(message)
    .where(_m.id.in_(_oldest_over_budget), *_is_over_budget)
    .values(state=ready, delayed_until_ms=zero),
    order=("in_queue", "limit"),
)
HAS_OVER_BUDGET = Statement(
    select(_m.id).where(_m.queue_id == _p("in_queue"), *_is_over_budget).limit(1),
    order=("in_queue",),
)
# The messages in flight are added where they are counted.
_charge = (
    update(counters)
    .where(_c.queue_id == _p("of_queue"))
    .values(tat_ns=_p("tat_ns"), in_flight=_c.in_flight + _p("number"))
)
CHARGE_RATE = Statement(_charge, order=("tat_ns", "number", "of_queue"))
CHARGE = Statement(
    _charge.values(retry_credit=_p("retry_credit"), delivered_at_ms=_p("delivered_at_ms")),
    order=("tat_ns", "retry_credit", "delivered_at_ms", "number", "of_queue"),
)
IN_FLIGHT = Statement(
    update(counters)
    .where(_c.queue_id == _p("of_queue"))
    .values(in_flight=_c.in_flight + _p("number")),
    order=("number", "of_queue"),
)
# COMPLETED, where messages in flight are counted.
COMPLETED_IN_FLIGHT = Statement(
    update(counters)
    .where(_c.queue_id == _p("of_queue"))
    .values(completed=_c.completed + _p("number"), in_flight=_c.in_flight - _p("number")),
    order=("number", "of_queue"),
)
_leased = (
    select(func.count())
    .where(_m.queue_id == _p("of_queue"), is_state(State.IN_FLIGHT))
    .scalar_subquery()
)
COUNT_IN_FLIGHT = Statement(
    update(counters).where(_c.queue_id == _p("of_queue")).values(in_flight=_leased),
    order=("of_queue",),
)
