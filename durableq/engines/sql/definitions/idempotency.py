"""Idempotency records: completed and dropped with their messages, shown and counted."""

from __future__ import annotations

from sqlalchemy import case, delete, func, literal_column, select, true, update

from durableq.engines.sql.definitions.elements import Statement, has_state, in_list, parameter
from durableq.engines.sql.definitions.messages import from_arrival_or, ready, status_is, zero
from durableq.engines.sql.definitions.tables import idempotency, is_state, message
from durableq.model.message import RecordStatus, State

_p, _m, _r = parameter, message.c, idempotency.c

# ---- with their messages

_owned = (
    _r.queue_id == _p("in_queue"),
    _r.key == _p("of_key"),
    _r.owner_message_id == _p("of"),
    _r.owner_receipt == _p("token"),
)
OWNED_KEY = Statement(select(_r.key).where(*_owned))
_completed = {
    "status": literal_column(str(int(RecordStatus.COMPLETED))),
    "completed_at_ms": _p("now_ms"),
    "expires_at_ms": _p("expires_ms"),
}
COMPLETE_KEY = Statement(
    update(idempotency)
    .where(*_owned, status_is(RecordStatus.IN_PROGRESS))
    .values(result=_p("new_result"), **_completed),
    for_rows=True,
)
# Of one receive, whose messages have different keys: its receipt and a key name the message too.
COMPLETE_KEYS = Statement(
    update(idempotency)
    .where(
        _r.queue_id == _p("in_queue"),
        in_list(_r.key, "keys"),
        _r.owner_receipt == _p("token"),
        status_is(RecordStatus.IN_PROGRESS),
    )
    .values(**_completed),
    order=("keys", "in_queue", "token", "now_ms", "expires_ms"),
    for_one=True,
)
DROP_KEY = Statement(delete(idempotency).where(*_owned, status_is(RecordStatus.IN_PROGRESS)))
HAS_DEFERRED = Statement(
    select(_m.deferred)
    .where(_m.queue_id == _p("in_queue"), _m.deferred == literal_column("1"))
    .limit(1),
    order=("in_queue",),
)
WAKE_DEFERRED = Statement(
    update(message)
    .where(
        _m.queue_id == _p("in_queue"),
        _m.key == _p("of_key"),
        _m.deferred == literal_column("1"),
        has_state(_m.state, State.DELAYED),
    )
    .values(
        state=ready,
        deferred=zero,
        delayed_until_ms=_p("now_ms"),
        retention_from_ms=from_arrival_or(_p("now_ms")),
    ),
    for_rows=True,
)
RECORD = Statement(select(idempotency).where(_r.queue_id == _p("in_queue"), _r.key == _p("of_key")))
COMPLETED_BY = Statement(select(_r.key).where(*_owned, status_is(RecordStatus.COMPLETED)))
ATTACH_RESULT = Statement(
    update(idempotency)
    .where(*_owned, status_is(RecordStatus.COMPLETED))
    .values(result=_p("new_result"))
)

# ---- for people

KEYS_COMPLETED = Statement(
    select(func.count()).select_from(idempotency).where(status_is(RecordStatus.COMPLETED))
)
#: A key is in progress while its message is in flight: few rows, where records are many.
KEYS_IN_PROGRESS = Statement(
    select(func.count()).where(
        is_state(State.IN_FLIGHT), _m.key.is_not(None), _m.source_queue_id.is_(None)
    )
)
_live = case((_r.status == 1, _r.expires_at_ms > _p("now_ms")), else_=true())
_of_queue = _r.queue_id == _p("in_queue")
_counted = select(_r.key).where(_of_queue, _live).limit(_p("limit")).subquery("counted")
COUNT_RECORDS = Statement(select(func.count()).select_from(_counted))
RECORDS = Statement(
    select(idempotency)
    .where(_of_queue, _r.key > _p("after"), _live)
    .order_by(_r.key)
    .limit(_p("limit"))
)
DROP_RECORD = Statement(
    delete(idempotency).where(
        _r.queue_id == parameter("in_queue"),
        _r.key == parameter("of_key"),
        status_is(RecordStatus.COMPLETED),
        _r.expires_at_ms > parameter("now_ms"),
    )
)
