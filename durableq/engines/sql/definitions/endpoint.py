"""Columns of messages that the SQS endpoint alone writes and reads."""

from __future__ import annotations

from sqlalchemy import func, insert, select

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import flow_order, no_text, with_flow
from durableq.engines.sql.definitions.tables import message

_m, _p = message.c, parameter

_envelope = {
    "body_format": _p("body_format"),
    "system_attributes": func.nullif(_p("system_attributes", _m.system_attributes), no_text),
}
# Of a message that has more than a body and plain attributes.
INSERT_ENVELOPE = Statement(
    insert(message).values(**with_flow | _envelope), order=(*flow_order, *_envelope)
)
# Of messages that were just leased, by their ids: a receive of a worker reads no column more.
ENVELOPES = Statement(
    select(_m.id, _m.body_format, _m.system_attributes, _m.first_received_at_ms).where(
        in_list(_m.id, "ids")
    ),
    order=("ids",),
    for_one=True,
)
