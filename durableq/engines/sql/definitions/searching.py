"""The search for messages of a queue, newest first: a bounded number of rows is looked at."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, literal_column, or_, select, union_all

from durableq.engines.sql.definitions.elements import Statement, has_text, parameter
from durableq.engines.sql.definitions.messages import zero
from durableq.engines.sql.definitions.queries import STATES, ids_in_queue
from durableq.engines.sql.definitions.tables import message
from durableq.model.message import State

_p, _m, _b = parameter, message.c, message.alias("read").c
#: In place of a state: all of them.
_ALL: Any = literal_column("-1")


def _ids(state: State) -> Any:
    """Return a query for the older ids of a queue in a state, if that is wanted."""
    number: Any = literal_column(str(int(state)))
    wanted = or_(_p("only", _m.state) == _ALL, _p("only", _m.state) == number)
    return ids_in_queue(state).where(wanted, _m.id + zero < _p("before"))


def _matches(row: Any) -> tuple[Any, ...]:
    """Return the conditions of a search: a body is read last, and only if a text is wanted.

    It is a value of a row: for EXISTS, PostgreSQL may look for the text in all bodies first.
    """
    has_body: Any = select(has_text(_b.body, "words")).where(_b.id == row.id).scalar_subquery()
    return (
        or_(_p("of_key", _m.key).is_(None), row.key == _p("of_key", _m.key)),
        or_(_p("words", _m.key).is_(None), has_body),
    )


# At most so many messages that a search may look at.
COUNT_CANDIDATES = Statement(
    select(func.count()).select_from(
        union_all(*map(_ids, STATES)).limit(_p("limit")).subquery("some")
    )
)
# Of a queue that has few: all of them.
SEARCH_QUEUE = Statement(
    select(_m.id)
    .where(_m.id.in_(union_all(*map(_ids, STATES))), *_matches(_m))
    .order_by(_m.id.desc())
    .limit(_p("limit"))
)
_window = (
    select(_m.id, _m.queue_id, _m.state, _m.key)
    .where(_m.id < _p("before"))
    .order_by(_m.id.desc())
    .limit(_p("window"))
    .subquery("near")
)
# Of another: the next rows of all queues.
SEARCH_WINDOW = Statement(
    select(_window.c.id)
    .where(
        _window.c.queue_id == _p("in_queue"),
        or_(_p("only", _m.state) == _ALL, _window.c.state == _p("only", _m.state)),
        *_matches(_window.c),
    )
    .order_by(_window.c.id.desc())
    .limit(_p("limit"))
)
LOOKED_AT = Statement(select(func.count(), func.min(_window.c.id)))
