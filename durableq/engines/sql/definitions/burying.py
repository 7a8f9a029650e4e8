"""Messages that go to a dead-letter queue, and come back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, func, literal_column, null, select, update

from durableq.engines.sql.definitions.elements import Statement, has_state, in_list, parameter
from durableq.engines.sql.definitions.messages import (
    available,
    leased_under_receipt,
    ready,
    zero,
)
from durableq.engines.sql.definitions.tables import message
from durableq.model.message import FOREVER_MS, State

_m, _p = message.c, parameter
_forever: Any = literal_column(str(FOREVER_MS))

BURY = Statement(
    update(message)
    .where(_m.id == _p("of"), _m.receipt == _p("token"), _m.state == _p("from_state"))
    .values(
        queue_id=_p("to_queue"),
        source_queue_id=_p("from_queue"),
        burial_reason=_p("reason"),
        burial_fingerprint=_p("fingerprint"),
        state=_p("to_state"),
        rank=_p("base") - _m.priority * _p("weight"),
        sequence=func.coalesce(_p("new_sequence"), _m.sequence),
        deferred=zero,
        receive_count=zero,
        expires_at_ms=_forever,
        enqueued_at_ms=_p("now_ms"),
        delayed_until_ms=zero,
        # In SQS a standard queue's message keeps its age.
        retention_from_ms=case((_p("keeps_age") != zero, _m.sent_at_ms), else_=_p("now_ms")),
        **available,
    )
    .returning(_m.body_bytes, _m.group_id)
)
REDRIVE = Statement(
    update(message)
    .where(_m.id == _p("of"), *leased_under_receipt)
    .values(
        queue_id=_p("target"),
        source_queue_id=null(),
        burial_reason=null(),
        burial_fingerprint=null(),
        state=_p("to_state"),
        rank=_p("base") - _m.priority * _p("weight"),
        sequence=func.coalesce(_p("new_sequence"), _m.sequence),
        delayed_until_ms=_p("until"),
        # Only a message that did not die has a time that its sender gave it.
        expires_at_ms=case(
            (_m.expires_at_ms != _forever, _m.expires_at_ms), else_=_p("expires_at_ms")
        ),
        receive_count=zero,
        recovery_count=_m.recovery_count + 1,
        enqueued_at_ms=_p("now_ms"),
        retention_from_ms=_p("retention_from_ms"),
        first_received_at_ms=_forever,
        body=func.coalesce(_p("new_body"), _m.body),
        body_bytes=func.coalesce(_p("new_body_bytes"), _m.body_bytes),
        **available,
    )
    .returning(_m.body_bytes)
)
CHOOSE_BLOCKED = Statement(
    update(message)
    .where(in_list(_m.id, "ids"), has_state(_m.state, State.BLOCKED))
    .values(state=ready, delayed_until_ms=zero, retention_from_ms=_m.enqueued_at_ms)
    .returning(_m.group_id)
)
GROUP_OF = Statement(select(_m.group_id).where(_m.id == _p("of")))
