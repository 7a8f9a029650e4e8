"""The progress of messages in flight: reported, read, pruned."""

from __future__ import annotations

from sqlalchemy import and_, cast, delete, literal_column, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import leased_under_receipt
from durableq.engines.sql.definitions.tables import message, progress, queue

_p, _m, _g, _q = parameter, message.c, progress.c, queue.c
_report = insert(progress).from_select(
    ["message_id", "receipt", "fraction", "text", "at_ms"],
    select(
        _m.id,
        _m.receipt,
        cast(_p("fraction"), _g.fraction.type),
        _p("new_text"),
        _p("now_ms", _g.at_ms),
    ).where(_m.id == _p("of"), *leased_under_receipt),
)
_new = _report.excluded
# The clause is the same for both databases. A late report of an older receipt meets no row of a
# newer one: each lease has its own.
REPORT_PROGRESS = Statement(
    _report.on_conflict_do_update(
        index_elements=[_g.message_id, _g.receipt],
        set_={"fraction": _new.fraction, "text": _new.text, "at_ms": _new.at_ms},
    )
)
# The end of a lease gives its message another receipt, or removes the message.
_is_leased = (_m.id == _g.message_id, _m.receipt == _g.receipt)
_reported = (
    select(_g.message_id, _q.name, _g.fraction, _g.text, _g.at_ms)
    .select_from(progress)
    .join(message, and_(*_is_leased))
    .join(queue, _q.id == _m.queue_id)
    .order_by(_g.message_id)
)
PROGRESS_OF = Statement(_reported.where(in_list(_g.message_id, "ids")))
# Queue 0 stands for all of them.
PROGRESS_IN = Statement(
    _reported.where(
        or_(_m.queue_id == _p("in_queue"), _p("in_queue", _m.queue_id) == literal_column("0"))
    ).limit(_p("limit"))
)
_left_over = (
    select(_g.message_id, _g.receipt)
    .where(~select(_m.id).where(*_is_leased).exists())
    .limit(_p("limit"))
)
PRUNE_PROGRESS = Statement(
    delete(progress).where(tuple_(_g.message_id, _g.receipt).in_(_left_over))
)
