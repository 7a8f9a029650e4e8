"""Idempotency records, shown, counted and dropped."""

from __future__ import annotations

from sqlalchemy import case, delete, func, select, true

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import status_is
from durableq.engines.sql.definitions.tables import idempotency, is_state, message
from durableq.model.message import RecordStatus, State

_p, _m, _r = parameter, message.c, idempotency.c
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
RECORDS = Statement(
    select(idempotency)
    .where(_r.queue_id == _p("in_queue"), _r.key > _p("after"), _live)
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
