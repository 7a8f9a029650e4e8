"""Groups: their counts, and the messages that become the next of theirs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter, take_id
from durableq.engines.sql.definitions.messages import (
    delayed,
    in_flight,
    is_plain,
    ready,
    ready_columns,
    with_record,
    zero,
)
from durableq.engines.sql.definitions.queries import STATES, ids_in_queue, select_messages
from durableq.engines.sql.definitions.tables import counters, group, is_state, message, queue
from durableq.model.flow.groups import GroupSettings
from durableq.model.message import OVER_BUDGET_MS, State

_m, _g, _q, _c, _p = message.c, group.c, queue.c, counters.c, parameter
blocked: Any = literal_column(str(int(State.BLOCKED)))
_of_queue = _g.queue_id == _p("in_queue")
_counts = (_g.group_id, _g.active, _g.holding, _g.tat_ns)

# The place at the end of a group of a message that is not sent, but sent back.
TAKE_LAST_PLACE = Statement(take_id(message))
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
INSERT INTO durableq_group (queue_id, group_id, active, holding, tat_ns)
VALUES (:in_queue, :name, :active, :holding, :tat_ns)
ON CONFLICT (queue_id, group_id) DO UPDATE SET
    active = excluded.active, holding = excluded.holding, tat_ns = excluded.tat_ns"""
    ),
    order=("in_queue", "name", "active", "holding", "tat_ns"),
)
DROP_GROUP = Statement(
    delete(group).where(_of_queue, _g.group_id == _p("name")), order=("in_queue", "name")
)
# A number that rises with each transaction that makes heads: their rank.
_next_turn = case((_c.turn < _p("least"), _p("least")), else_=_c.turn + 1)
_takes_turn = update(counters).where(_c.queue_id == _p("in_queue"))
TAKE_TURN = Statement(_takes_turn.values(turn=_next_turn), order=("in_queue", "least"))
# Both in one: COMPLETED is part of the way of a message that succeeds.
COMPLETED_AND_TURN = Statement(
    _takes_turn.values(completed=_c.completed + _p("number"), turn=_next_turn),
    order=("number", "in_queue", "least"),
)
_turn = select(_c.turn).where(_c.queue_id == _p("in_queue")).scalar_subquery()
_due_ms = case((_m.delayed_until_ms < _p("until"), _p("until")), else_=_m.delayed_until_ms)
_first_blocked = (
    select(_m.id)
    .where(_m.queue_id == _p("in_queue"), _m.group_id == _p("name"), is_state(State.BLOCKED))
    .order_by(_m.sequence, _m.id)
    .limit(_p("number"))
)
# The first that waits, and those in flight: whether it is before them all.
FIRST_BLOCKED = Statement(
    select(_m.sequence, _m.receive_count)
    .where(_m.queue_id == _p("in_queue"), _m.group_id == _p("name"), is_state(State.BLOCKED))
    .order_by(_m.sequence, _m.id)
    .limit(1),
    order=("in_queue", "name"),
)
_leased = message.alias("leased")
_is_leased = (
    _leased.c.queue_id == _p("in_queue"),
    is_state(State.IN_FLIGHT, _leased.c.state),
    _leased.c.group_id == _p("name"),
)
GROUP_IN_FLIGHT = Statement(
    select(func.count(), func.min(_leased.c.sequence)).where(*_is_leased),
    order=("in_queue", "name"),
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
        rank=_turn - _m.priority * _p("weight"),
    ),
    order=("in_queue", "name", "number", "now_ms", "until", "weight"),
)

# ---- on the way of a message that succeeds, where nothing but places limits its group

_named = (_of_queue, _g.group_id == _p("name"))
_has_place = (
    select(_g.group_id)
    .join(queue, _q.id == _g.queue_id)
    .where(
        *_named,
        _g.active <= _q.group_concurrency,
        or_(_q.group_on_dead == zero, _g.holding == zero),
    )
    .exists()
)
_next = message.alias("next")
_next_id = (
    select(_next.c.id)
    .where(
        _next.c.queue_id == _p("in_queue"),
        _next.c.group_id == _p("name"),
        is_state(State.BLOCKED, _next.c.state),
        _has_place,
    )
    .order_by(_next.c.sequence, _next.c.id)
    .limit(1)
    .scalar_subquery()
)
# The next message takes the place of one that has left, unless too many are active, or a dead
# letter holds the group. The counts stay as they are.
TAKE_PLACE = Statement(
    update(message)
    .where(_m.id == _next_id)
    .values(
        state=case((_m.delayed_until_ms > _p("now_ms"), delayed), else_=ready),
        rank=_turn - _m.priority * _p("weight"),
    ),
    order=("in_queue", "name", "now_ms", "weight"),
)
DROP_LAST = Statement(
    delete(group).where(
        *_named, _g.active == 1, _g.holding == zero, _g.tat_ns <= _p("lease_now_ns")
    ),
    order=("in_queue", "name", "lease_now_ns"),
)
LEAVE_PLACE = Statement(
    update(group).where(*_named).values(active=_g.active - 1), order=("in_queue", "name")
)

# ---- a whole queue

WAITING_GROUPS = Statement(
    select(_m.group_id)
    .where(_m.queue_id == _p("in_queue"), is_state(State.BLOCKED))
    .distinct()
    .order_by(_m.group_id)
)
# After a purge. Of a group that is empty only dead letters and the rate's state are left.
EMPTY_GROUPS = Statement(update(group).where(_of_queue).values(active=zero))
RELEASE_GROUPS = Statement(update(group).where(_of_queue).values(holding=zero))
CUT_DEBTS = Statement(
    update(group).where(_of_queue, _g.tat_ns > _p("most_ns")).values(tat_ns=_p("most_ns"))
)
_idle = (
    select(_g.queue_id, _g.group_id)
    .where(_g.active == zero, _g.holding == zero, _g.tat_ns <= _p("lease_now_ns"))
    .limit(_p("limit"))
)
PRUNE_GROUPS = Statement(delete(group).where(tuple_(_g.queue_id, _g.group_id).in_(_idle)))

# ---- for people

_own_active = [
    ids_in_queue(state).where(_m.group_id == _p("name"))
    for state in STATES
    if state is not State.BLOCKED
]
GROUP_ACTIVE = Statement(
    select_messages()
    .where(_m.id.in_(union_all(*_own_active)))
    .order_by(_m.sequence, _m.id)
    .limit(_p("limit"))
)
GROUP_DEAD = Statement(
    select_messages()
    .where(_m.source_queue_id == _p("in_queue"), _m.group_id == _p("name"))
    .order_by(_m.id)
    .limit(_p("limit"))
)

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
# Behind its key, or over the retry budget: once it is active, the receive decides again.
_waits_for_no_time = (_m.deferred != zero) | (
    _m.delayed_until_ms == literal_column(str(OVER_BUDGET_MS))
)
BLOCK = Statement(
    update(message)
    .where(
        _m.id.in_(
            select(_place.c.id).where(
                _place.c.place > _p("concurrency"), _place.c.state.not_in((in_flight, blocked))
            )
        )
    )
    .values(
        state=blocked,
        delayed_until_ms=case((_waits_for_no_time, zero), else_=_m.delayed_until_ms),
        deferred=zero,
    )
    .returning(_m.group_id)
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
        func.count(case((~is_state(State.BLOCKED), _m.id))),
    )
    .where(_m.id.in_(_in_queue), _m.group_id.is_not(None))
    .group_by(_m.group_id)
)
ADD_ACTIVE = Statement(
    update(group)
    .where(_of_queue, _g.group_id == _p("name"))
    .values(active=_g.active + _p("number")),
    order=("number", "in_queue", "name"),
)
PAY_TOKENS = Statement(
    update(group).where(_of_queue, _g.group_id == _p("name")).values(tat_ns=_p("tat_ns")),
    order=("tat_ns", "in_queue", "name"),
)
# The blocked messages of a group, in order; one that is not due yet is not plain.
_following = (
    select(*ready_columns, is_plain & (_m.delayed_until_ms <= _p("now_ms")))
    .select_from(with_record)
    .where(_m.queue_id == _p("in_queue"), _m.group_id == _p("name"), is_state(State.BLOCKED))
    .order_by(_m.sequence, _m.id)
    .limit(_p("limit"))
)
_following_order = ("in_queue", "name", "oldest_ms", "now_ms", "limit")
FOLLOWING = Statement(_following, order=_following_order)
# Up to the first that is in flight, where its head may have come back before that one.
_first_leased = select(func.min(_leased.c.sequence)).where(*_is_leased).scalar_subquery()
_number_active = select(_g.active).where(*_named).scalar_subquery()
_is_before_leased = or_(_number_active <= literal_column("1"), _m.sequence < _first_leased)
FOLLOWING_IN_ORDER = Statement(_following.where(_is_before_leased), order=_following_order)
COUNT_GROUPS = Statement(_counted)
COUNT_HOLDING = Statement(
    select(_m.group_id, func.count())
    .where(_m.source_queue_id == _p("in_queue"), _m.group_id.is_not(None))
    .group_by(_m.group_id)
)
