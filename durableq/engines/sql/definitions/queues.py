"""Queues: created, changed, counted, emptied and deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    case,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    union_all,
    update,
)

from durableq.engines.sql.columns import COUNTERS, FEW_IN_FLIGHT, FLOW_STATE
from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import status_is, stored, zero
from durableq.engines.sql.definitions.queries import STATES, ids_in_queue
from durableq.engines.sql.definitions.tables import (
    counters,
    deduplication,
    failure,
    flow,
    group,
    history,
    idempotency,
    is_state,
    message,
    queue,
)
from durableq.model.message import FOREVER_MS, RecordStatus, State
from durableq.model.settings import SETTINGS, Limits

_m, _r, _q, _h = message.c, idempotency.c, queue.c, history.c

QUEUE_BY_ID = Statement(select(*stored).where(_q.id == parameter("queue_id")))
QUEUES = Statement(select(*stored).order_by(_q.name))
SETTINGS_OF = Statement(
    select(*(_q[name] for name in SETTINGS)).where(_q.name == parameter("queue"))
)


def _add_to(counter: str) -> Statement:
    """Return the statement that adds to a running counter of a queue."""
    added = update(counters).values({counter: counters.c[counter] + parameter("number")})
    return Statement(
        added.where(counters.c.queue_id == parameter("of_queue")), order=("number", "of_queue")
    )


SENT = _add_to("sent")
MOVED_IN = _add_to("moved_in")
MOVED_OUT = _add_to("moved_out")
COMPLETED = _add_to("completed")
DUPLICATES = _add_to("duplicates")
DISCARDED = _add_to("discarded")
EXPIRED = _add_to("expired")
PURGED = _add_to("purged")
CANCELLED = _add_to("cancelled")
REPLACED = _add_to("replaced")
SHED_UNSTORED = _add_to("shed")
DEDUPLICATED = _add_to("deduplicated")
BACKLOG_BYTES = _add_to("backlog_bytes")

CREATE_QUEUE = Statement(
    insert(queue)
    .values(
        {
            name: parameter(name)
            for name in ("name", "dead_letter_queue_id", "created_at_ms", "limits", *SETTINGS)
        }
    )
    .returning(_q.id)
)
CREATE_COUNTERS = Statement(insert(counters).values(queue_id=parameter("of_queue")))
CREATE_FLOW = Statement(insert(flow).values(queue_id=parameter("of_queue")))
CHANGE_QUEUE = Statement(
    update(queue)
    .where(_q.id == parameter("queue_id"))
    .values({name: parameter(f"new_{name}") for name in ("limits", *SETTINGS)})
)
QUEUE_NAMES = Statement(select(_q.name).order_by(_q.name))
POINT = Statement(
    update(queue)
    .where(_q.id == parameter("queue_id"))
    .values(dead_letter_queue_id=parameter("to_queue"))
)
# A queue that others name, and that is no private dead-letter queue, has the bit SERVES.
_bit = parameter("serves", _q.limits)
SERVE = Statement(
    update(queue)
    .where(
        _q.id == parameter("queue_id"),
        _q.dead_letter_queue_id.is_not(None),
        _q.limits.op("&")(_bit) == zero,
    )
    .values(limits=_q.limits + _bit)
)
# The queues whose dead letters come to a queue.
SERVED_BY = Statement(
    select(_q.name).where(_q.dead_letter_queue_id == parameter("queue_id")).order_by(_q.name)
)
# The queues of which a queue has dead letters, some of which may hold groups there.
SOURCES_IN = Statement(
    select(_m.source_queue_id)
    .where(_m.queue_id + zero == parameter("in_queue"), _m.source_queue_id.is_not(None))
    .distinct()
)
# The dead letters of a deleted queue stay where they are, as messages of that queue.
FORGET_SOURCE = Statement(
    update(message)
    .where(_m.source_queue_id == parameter("in_queue"))
    .values(source_queue_id=null(), burial_reason=null(), burial_fingerprint=null())
)
_in_any_state = union_all(*map(ids_in_queue, STATES))
IN_QUEUE = Statement(_in_any_state.limit(1))
PURGE = Statement(delete(message).where(_m.id.in_(_in_any_state)))
DROP_KEYS_IN_PROGRESS = Statement(
    delete(idempotency).where(
        _r.queue_id == parameter("in_queue"), status_is(RecordStatus.IN_PROGRESS)
    )
)
DROP_KEYS = Statement(delete(idempotency).where(_r.queue_id == parameter("in_queue")))
DROP_HISTORY = Statement(delete(history).where(_h.queue_id == parameter("in_queue")))
DROP_COUNTERS = Statement(delete(counters).where(counters.c.queue_id == parameter("in_queue")))
DROP_FLOW = Statement(delete(flow).where(flow.c.queue_id == parameter("in_queue")))
DROP_GROUPS = Statement(delete(group).where(group.c.queue_id == parameter("in_queue")))
DROP_DEDUPLICATION = Statement(
    delete(deduplication).where(deduplication.c.queue_id == parameter("in_queue"))
)
DROP_FAILURES = Statement(delete(failure).where(failure.c.queue_id == parameter("in_queue")))
DROP_QUEUE = Statement(delete(queue).where(_q.id == parameter("queue_id")))
_pair = queue.alias("pair")
_of_each = _m.queue_id == _q.id
_is_held = _m.delayed_until_ms >= literal_column(str(FOREVER_MS))


def _number_of(state: State, *conditions: Any) -> Any:
    """Return the number of a queue's messages in a state, as a column of a query of queues."""
    counted = select(func.count()).where(_of_each, is_state(state), *conditions)
    return counted.scalar_subquery()


def numbers_waiting() -> tuple[Any, ...]:
    """Return the numbers of a queue's messages that are not ready: COUNTS without its first.

    Ready messages are not counted: there may be millions, and the counters tell their number.
    """
    return (
        _number_of(State.DELAYED, ~_is_held),
        _number_of(State.IN_FLIGHT),
        _number_of(State.DELAYED, _is_held),
        _number_of(State.BLOCKED),
    )


_are_few = _q.limits.op("&")(literal_column(str(int(Limits.FEW_IN_FLIGHT)))) != zero
# More than the limit can be, and no more: it may have been lowered below what is in flight.
_few_leases = (
    select(_m.id)
    .where(_of_each, is_state(State.IN_FLIGHT))
    .limit(literal_column(str(FEW_IN_FLIGHT + 1)))
    .correlate(queue)
    .subquery("leases")
)
few_in_flight = select(func.count()).select_from(_few_leases).scalar_subquery()


def flow_column(name: str) -> Any:
    """Return a column of FLOW_COLUMNS, of the queue and its rows of flow and counters."""
    if name == "closed_at_ms":
        is_closed = (_q.breaker != zero) & (flow.c.breaker_phase == zero)
        return case((is_closed, flow.c.breaker_since_ms), else_=zero)
    if name == "in_flight":
        return case((_are_few, few_in_flight), else_=counters.c.in_flight)
    return next(table.c[name] for table in (queue, counters) if name in table.c)


_all_in_flight = case((_are_few, _number_of(State.IN_FLIGHT)), else_=counters.c.in_flight)
_infos = (
    select(
        _q.id,
        _q.name,
        _q.dead_letter_queue_id,
        *(_q[name] for name in SETTINGS),
        _pair.c.name,
        _pair.c.dead_letter_queue_id,
        *numbers_waiting(),
        select(_m.id).where(_of_each, is_state(State.READY)).exists(),
        *(_all_in_flight if name == "in_flight" else flow_column(name) for name in FLOW_STATE),
        *(counters.c[name] for name in COUNTERS),
    )
    .outerjoin(flow, flow.c.queue_id == _q.id)
    .outerjoin(counters, counters.c.queue_id == _q.id)
    .outerjoin(_pair, _pair.c.id == _q.dead_letter_queue_id)
)
_later = _m.delayed_until_ms > parameter("now_ms")
APPROXIMATE = Statement(
    select(
        _number_of(State.IN_FLIGHT, _m.lease_until_ms > parameter("lease_now")),
        _number_of(State.DELAYED, _later) + _number_of(State.BLOCKED, _later),
        *(counters.c[name] for name in COUNTERS),
    )
    .join_from(queue, counters, counters.c.queue_id == _q.id)
    .where(_q.name == parameter("queue"))
)
INFO = Statement(_infos.where(_q.name == parameter("queue")))
INFOS = Statement(_infos.order_by(_q.name))
# The dead letters of queues whose dead-letter queue is not private.
SHARED_DEAD_LETTERS = Statement(
    select(_m.source_queue_id, _m.state, _is_held, func.count())
    .where(
        _m.source_queue_id.in_(
            select(_q.id)
            .join(_pair, _pair.c.id == _q.dead_letter_queue_id)
            .where(_pair.c.dead_letter_queue_id.is_not(None))
        )
    )
    .group_by(_m.source_queue_id, _m.state, _is_held)
)
_is_ready = (_m.queue_id == parameter("in_queue"), is_state(State.READY))
COUNT_READY = Statement(select(func.count()).where(*_is_ready))
NEXT_RANK = Statement(select(func.min(_m.rank)).where(*_is_ready, _m.rank > parameter("rank")))
_first = (
    select(_m.enqueued_at_ms)
    .where(*_is_ready, _m.rank >= parameter("start"), _m.rank < parameter("end"))
    .order_by(_m.rank, _m.id)
    .limit(parameter("first"))
    .subquery("first")
)
OLDEST_OF_LEVEL = Statement(select(func.min(_first.c.enqueued_at_ms)))
