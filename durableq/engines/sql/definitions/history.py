"""The history of a message: events, and the name of the worker that caused one."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.tables import history, worker
from durableq.model.limits import MAX_HISTORY

_p, _h = parameter, history.c

RECORD_EVENT = Statement(
    insert(history).values(
        {c.name: _p(c.name) for c in history.columns if c.name not in {"id", "detail"}}
        | {"detail": _p("detail")}
    )
)
_newest = (
    select(_h.id)
    .where(_h.message_id == _p("of"))
    .order_by(_h.id.desc())
    .limit(1)
    .offset(MAX_HISTORY)
    .scalar_subquery()
)
TRIM_HISTORY = Statement(delete(history).where(_h.message_id == _p("of"), _h.id <= _newest))
WORKER_NAME = Statement(select(worker.c.name).where(worker.c.id == _p("of")))
