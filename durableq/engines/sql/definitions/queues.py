"""Queues: created, changed, counted, emptied and deleted."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, literal_column, select, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.messages import status_is
from durableq.engines.sql.definitions.tables import (
    counters,
    history,
    idempotency,
    is_state,
    message,
    queue,
)
from durableq.model.message import FOREVER_MS, RecordStatus, State
from durableq.model.queues import BOUNDS

_m, _r, _q, _h = message.c, idempotency.c, queue.c, history.c

CREATE_QUEUE = Statement(
    insert(queue)
    .values(
        {
            name: parameter(name)
            for name in ("name", "dead_letter_queue_id", "created_at_ms", *BOUNDS)
        }
    )
    .returning(_q.id)
)
CREATE_COUNTERS = Statement(insert(counters).values(queue_id=parameter("of_queue")))
CHANGE_QUEUE = Statement(
    update(queue)
    .where(_q.id == parameter("queue_id"))
    .values({name: parameter(f"new_{name}") for name in BOUNDS})
)
OWNER_OF_QUEUE = Statement(select(_q.name).where(_q.dead_letter_queue_id == parameter("queue_id")))
IN_QUEUE = Statement(select(_m.id).where(_m.queue_id == parameter("in_queue")).limit(1))
PURGE = Statement(delete(message).where(_m.queue_id == parameter("in_queue")))
DROP_KEYS_IN_PROGRESS = Statement(
    delete(idempotency).where(
        _r.queue_id == parameter("in_queue"), status_is(RecordStatus.IN_PROGRESS)
    )
)
DROP_KEYS = Statement(delete(idempotency).where(_r.queue_id == parameter("in_queue")))
DROP_HISTORY = Statement(delete(history).where(_h.queue_id == parameter("in_queue")))
DROP_COUNTERS = Statement(delete(counters).where(counters.c.queue_id == parameter("in_queue")))
DROP_QUEUE = Statement(delete(queue).where(_q.id == parameter("queue_id")))
_in_queue = _m.queue_id == parameter("in_queue")
COUNTS = Statement(
    select(
        *(
            select(func.count()).where(_in_queue, is_state(state)).scalar_subquery()
            for state in (State.READY, State.DELAYED, State.IN_FLIGHT)
        ),
        select(func.count())
        .where(
            _in_queue,
            is_state(State.DELAYED),
            _m.delayed_until_ms == literal_column(str(FOREVER_MS)),
        )
        .scalar_subquery(),
    )
)
OLDEST_READY = Statement(
    select(func.min(_m.enqueued_at_ms)).where(_in_queue, is_state(State.READY))
)
