"""Groups: their counts, and the messages that become the next of theirs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, delete, func, literal_column, select, text, tuple_, union_all, update

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import (
    delayed,
    in_flight,
    ready,
    zero,
)
from durableq.engines.sql.definitions.queries import STATES, ids_in_queue
from durableq.engines.sql.definitions.tables import flow, group, is_state, message, queue
from durableq.model.flow.groups import GroupSettings
from durableq.model.message import State

_m, _g, _q, _p = message.c, group.c, queue.c, parameter
blocked: Any = literal_column(str(int(State.BLOCKED)))
_of_queue = _g.queue_id == _p("in_queue")
_counts = (_g.group_id, _g.live, _g.active, _g.holding, _g.sequence, _g.tat_ns)

GROUP_SETTINGS = Statement(
    select(*(_q[name] for name in GroupSettings._fields)).where(_q.id == _p("in_queue")),
    order=("in_queue",),
)
GROUPS_NAMED = Statement(
    select(*_counts).where(_of_queue, in_list(_g.group_id, "names")),
    order=("in_queue", "names"),
    for_one=True,
)
STORE_GROUP = Statement(
    text(
        """\
INSERT INTO durableq_group (queue_id, group_id, live, active, holding, sequence, tat_ns)
VALUES (:in_queue, :name, :live, :active, :holding, :sequence, :tat_ns)
ON CONFLICT (queue_id, group_id) DO UPDATE SET
    live = excluded.live, active = excluded.active, holding = excluded.holding,
    sequence = excluded.sequence, tat_ns = excluded.tat_ns"""
    ),
    order=("in_queue", "name", "live", "active", "holding", "sequence", "tat_ns"),
)
DROP_GROUP = Statement(
    delete(group).where(_of_queue, _g.group_id == _p("name")), order=("in_queue", "name")
)
# A number that rises with each transaction that makes heads: their rank.
TAKE_TURN = Statement(
    update(flow)
    .where(flow.c.queue_id == _p("in_queue"))
    .values(turn=case((flow.c.turn < _p("least"), _p("least")), else_=flow.c.turn + 1))
    .returning(flow.c.turn),
    order=("in_queue", "least"),
)
_due_ms = case((_m.delayed_until_ms < _p("until"), _p("until")), else_=_m.delayed_until_ms)
_first_blocked = (
    select(_m.id)
    .where(_m.queue_id == _p("in_queue"), _m.group_id == _p("name"), is_state(State.BLOCKED))
    .order_by(_m.sequence, _m.id)
    .limit(_p("number"))
)
# The next messages of a group: ready, or delayed by their own delay or until the next token.
MAKE_ACTIVE = Statement(
    update(message)
    .where(_m.id.in_(_first_blocked))
    .values(
        state=case((_due_ms > _p("now_ms"), delayed), else_=ready),
        delayed_until_ms=_due_ms,
        retention_from_ms=case(
            (_m.retention_from_ms < _p("until"), _p("until")), else_=_m.retention_from_ms
        ),
        rank=_p("turn") - _m.priority * _p("weight"),
    ),
    order=("in_queue", "name", "number", "now_ms", "until", "turn", "weight"),
)
COUNT_GROUP = Statement(
    select(func.count(), func.count(case((~is_state(State.BLOCKED), _m.id)))).where(
        _m.id.in_(union_all(*map(ids_in_queue, STATES))), _m.group_id == _p("name")
    )
)
WAITING_GROUPS = Statement(
    select(_g.group_id).where(_of_queue, _g.live > _g.active).order_by(_g.group_id)
)
# After a purge. Of a group that is empty only dead letters and the rate's state are left.
EMPTY_GROUPS = Statement(update(group).where(_of_queue).values(live=zero, active=zero))
RELEASE_GROUPS = Statement(update(group).where(_of_queue).values(holding=zero))
CUT_DEBTS = Statement(
    update(group).where(_of_queue, _g.tat_ns > _p("most_ns")).values(tat_ns=_p("most_ns"))
)
_idle = (
    select(_g.queue_id, _g.group_id)
    .where(_g.live == zero, _g.holding == zero, _g.tat_ns <= _p("lease_now_ns"))
    .limit(_p("limit"))
)
PRUNE_GROUPS = Statement(delete(group).where(tuple_(_g.queue_id, _g.group_id).in_(_idle)))

# ---- a change of the setting

_in_queue = union_all(*map(ids_in_queue, STATES))
_place = (
    select(
        _m.id,
        _m.state,
        func.row_number()
        .over(
            partition_by=_m.group_id,
            order_by=(case((_m.state == in_flight, zero), else_=1), _m.sequence, _m.id),
        )
        .label("place"),
    )
    .where(_m.id.in_(_in_queue), _m.group_id.is_not(None))
    .subquery("placed")
)
BLOCK = Statement(
    update(message)
    .where(
        _m.id.in_(
            select(_place.c.id).where(
                _place.c.place > _p("concurrency"), _place.c.state != in_flight
            )
        )
    )
    .values(
        state=blocked,
        delayed_until_ms=case((_m.deferred != zero, zero), else_=_m.delayed_until_ms),
        deferred=zero,
    )
)
UNBLOCK = Statement(
    update(message)
    .where(_m.queue_id == _p("in_queue"), is_state(State.BLOCKED))
    .values(state=case((_m.delayed_until_ms > _p("now_ms"), delayed), else_=ready))
)
RANK_ALL = Statement(
    update(message)
    .where(_m.id.in_(_in_queue))
    .values(rank=_m.retention_from_ms * _p("per_ms") - _m.priority * _p("weight"))
)
_counted = (
    select(
        _m.group_id,
        func.count(),
        func.count(case((~is_state(State.BLOCKED), _m.id))),
        func.max(_m.sequence),
    )
    .where(_m.id.in_(_in_queue), _m.group_id.is_not(None))
    .group_by(_m.group_id)
)
COUNT_GROUPS = Statement(_counted)
COUNT_HOLDING = Statement(
    select(_m.group_id, func.count())
    .where(_m.source_queue_id == _p("in_queue"), _m.group_id.is_not(None))
    .group_by(_m.group_id)
)
