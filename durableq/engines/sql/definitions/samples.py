"""Samples of queues: taken by maintenance, read for charts, pruned after a day."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, select

from durableq.engines.sql.columns import COUNTERS, COUNTS
from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.queues import numbers_waiting
from durableq.engines.sql.definitions.tables import counters, queue, sample

_p, _q, _s = parameter, queue.c, sample.c
_figures = (*COUNTERS, *COUNTS)

_last, _newest = sample.alias("last"), sample.alias("newest")
_last_at_ms = select(func.max(_newest.c.at_ms)).where(_newest.c.queue_id == _q.id).scalar_subquery()
_first = sample.alias("first")
_second_at_ms = (
    select(_first.c.at_ms)
    .where(_first.c.queue_id == _q.id)
    .order_by(_first.c.at_ms)
    .limit(1)
    .offset(1)
    .scalar_subquery()
)
# Each queue as it stands, without the number of ready messages, which the counters tell; the time
# of its second sample, and its last one.
STANDING = Statement(
    select(
        _q.id,
        *(counters.c[name] for name in COUNTERS),
        *numbers_waiting(),
        _second_at_ms,
        _last.c.at_ms,
        *(_last.c[name] for name in _figures),
    )
    .outerjoin(counters, counters.c.queue_id == _q.id)
    .outerjoin(_last, (_last.c.queue_id == _q.id) & (_last.c.at_ms == _last_at_ms))
)
# The queue may have been deleted since it was read.
KEEP_SAMPLE = Statement(
    insert(sample).from_select(
        ["queue_id", "at_ms", *_figures],
        select(_q.id, _p("at_ms", _s.at_ms), *(_p(name, _s[name]) for name in _figures)).where(
            _q.id == _p("of_queue"),
            ~select(_s.at_ms).where(_s.queue_id == _q.id, _s.at_ms == _p("at_ms")).exists(),
        ),
    ),
    for_rows=True,
)


def _last_until(until: str) -> Any:
    """Return the time of the last sample of a queue until a time."""
    is_before = (_newest.c.queue_id == _p("of_queue"), _newest.c.at_ms <= _p(until))
    return select(func.max(_newest.c.at_ms)).where(*is_before).scalar_subquery()


_old = sample.alias("old")
_old_times = (
    select(_old.c.at_ms)
    .where(_old.c.queue_id == _p("of_queue"), _old.c.at_ms < _last_until("until_ms"))
    .order_by(_old.c.at_ms)
    .limit(_p("limit"))
)
# The last one from before stays: it tells how the queue stood then.
PRUNE_SAMPLES = Statement(
    delete(sample).where(_s.queue_id == _p("of_queue"), _s.at_ms.in_(_old_times)), for_rows=True
)
SAMPLES = Statement(
    select(_s.at_ms, *(_s[name] for name in _figures))
    .where(
        _s.queue_id == _p("of_queue"),
        _s.at_ms >= func.coalesce(_last_until("since_ms"), _p("since_ms")),
    )
    .order_by(_s.at_ms)
)
DROP_SAMPLES = Statement(delete(sample).where(_s.queue_id == _p("in_queue")))
