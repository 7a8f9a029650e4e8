"""Dead letters: groups by cause of death, history, and the fate of those sent back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, literal_column, or_, select

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.queries import select_messages, source
from durableq.engines.sql.definitions.tables import history, message, queue
from durableq.model.dead_letters import DECISION_EVENTS, RECOVERY_ACTOR
from durableq.model.message import Event, Reason

dead = message.alias("m")
died = history.alias("died")


def text_literal(value: str) -> Any:
    """Return a constant of this package as literal SQL, so that the statement's text is whole."""
    return literal_column(f"'{value}'")


def last_burial_of(message_id: Any) -> Any:
    """Return the event of a message's last burial; a bounded history may have lost it."""
    return (
        select(func.max(history.c.id))
        .where(history.c.message_id == message_id, history.c.event == text_literal(Event.BURIED))
        .correlate_except(history)
        .scalar_subquery()
    )


def select_dead_letters(*columns: Any) -> Select[Any]:
    """Return a query of dead letters with their source and the event of their last burial."""
    return (
        select(*columns)
        .select_from(
            dead.outerjoin(source, source.c.id == dead.c.source_queue_id).outerjoin(
                died, died.c.id == last_burial_of(dead.c.id)
            )
        )
        .where(dead.c.source_queue_id.is_not(None))
        # An index to read: SQLite would read all messages in order of id.
        .with_hint(dead, "durableq_message_dead", "sqlite")
    )


empty: Any = literal_column("''")
# Each dead letter has both; a program other than durableq may have written one without.
_NO_REASON: Any = text_literal(Reason.HANDLER_ERROR)
reason: Any = func.coalesce(dead.c.burial_reason, _NO_REASON)
fingerprint: Any = func.coalesce(dead.c.burial_fingerprint, empty)


def _wanted_is(name: str, value: Any) -> Any:
    """Return the condition that a value is the wanted one, or that any is wanted."""
    wanted = parameter(name, value)
    return or_(wanted.is_(None), value == wanted)


def matching(error_type: Any, *, newest_first: bool = False) -> tuple[Any, ...]:
    """Return the conditions of a filter for dead letters behind a cursor.

    Args:
        error_type: of the last burial.
        newest_first: whether the order is that of falling ids.
    """
    cursor = parameter("cursor")
    before_ms = parameter("before_ms", dead.c.enqueued_at_ms)
    return (
        dead.c.id < cursor if newest_first else dead.c.id > cursor,
        _wanted_is("of_queue", source.c.name),
        _wanted_is("of_reason", reason),
        _wanted_is("of_type", func.coalesce(error_type, empty)),
        _wanted_is("of_fingerprint", fingerprint),
        or_(before_ms.is_(None), dead.c.enqueued_at_ms < before_ms),
    )


_any = select_messages(source.c.max_recoveries, reason, fingerprint, of=dead).where(
    dead.c.source_queue_id.is_not(None), source.c.id.is_not(None)
)
_rows = _any.order_by(dead.c.id)
# The history is read only where a filter names an error.
_error_type = (
    select(died.c.error_type).where(died.c.id == last_burial_of(dead.c.id)).scalar_subquery()
)
DEAD_LETTER = Statement(_rows.where(dead.c.id == parameter("of")))
DEAD_LETTER_PAGE = Statement(
    _rows.where(*matching(_error_type))
    .limit(parameter("limit"))
    .with_hint(dead, "durableq_message_dead", "sqlite")
)
DEAD_LETTER_PAGE_BACK = Statement(
    _any.where(*matching(_error_type, newest_first=True))
    .order_by(dead.c.id.desc())
    .limit(parameter("limit"))
    .with_hint(dead, "durableq_message_dead", "sqlite")
)
_of_queue = parameter("of_queue", dead.c.source_queue_id)
# An index has the dead letters in this order, with all that is counted.
_kind = (
    select(
        dead.c.source_queue_id,
        dead.c.burial_reason,
        dead.c.burial_fingerprint,
        func.count().label("number"),
        func.min(dead.c.enqueued_at_ms).label("first_died_ms"),
        func.max(dead.c.enqueued_at_ms).label("last_died_ms"),
    )
    .where(
        dead.c.source_queue_id.is_not(None),
        or_(_of_queue.is_(None), dead.c.source_queue_id == _of_queue),
    )
    .group_by(dead.c.source_queue_id, dead.c.burial_reason, dead.c.burial_fingerprint)
    .subquery("kind")
)
_newest = message.alias("newest")
_example_id = (
    select(func.max(_newest.c.id))
    .where(
        _newest.c.source_queue_id == _kind.c.source_queue_id,
        _newest.c.burial_reason.is_not_distinct_from(_kind.c.burial_reason),
        _newest.c.burial_fingerprint.is_not_distinct_from(_kind.c.burial_fingerprint),
        _newest.c.enqueued_at_ms == _kind.c.last_died_ms,
    )
    .scalar_subquery()
)
_group = select(_kind, _example_id.label("example_id")).subquery("of_kind")
GROUPS = Statement(
    select(
        source.c.name,
        func.coalesce(_group.c.burial_reason, _NO_REASON),
        func.coalesce(_group.c.burial_fingerprint, empty),
        func.coalesce(died.c.error_type, empty),
        func.coalesce(died.c.error_message, empty),
        func.coalesce(died.c.place, empty),
        _group.c.number,
        _group.c.first_died_ms,
        _group.c.last_died_ms,
        _group.c.example_id,
    )
    .select_from(
        _group.outerjoin(source, source.c.id == _group.c.source_queue_id).outerjoin(
            died, died.c.id == last_burial_of(_group.c.example_id)
        )
    )
    .order_by(_group.c.number.desc(), _group.c.last_died_ms.desc(), _group.c.example_id.desc())
)
_back, _later = history.alias("back"), history.alias("later")


def _is_recovery(actor: Any) -> Any:
    """Return the condition that an actor is a recovery process."""
    begins = func.substr(actor, literal_column("1"), literal_column(str(len(RECOVERY_ACTOR))))
    return begins == text_literal(RECOVERY_ACTOR)


def _sent_back(event: Any) -> tuple[Any, ...]:
    """Return the conditions for an event in which recovery sent a message back."""
    return (
        event.c.queue_id == parameter("in_queue"),
        or_(
            event.c.event == text_literal(Event.RETRIED),
            event.c.event == text_literal(Event.REQUEUED),
        ),
        _is_recovery(event.c.actor),
    )


RECOVERIES = Statement(
    select(
        _back.c.message_id,
        _back.c.at_ms,
        select(died.c.id)
        .where(
            died.c.message_id == _back.c.message_id,
            died.c.id > _back.c.id,
            died.c.event == text_literal(Event.BURIED),
        )
        .exists(),
        select(dead.c.id).where(dead.c.id == _back.c.message_id).exists(),
    )
    .where(
        *_sent_back(_back),
        _back.c.at_ms >= parameter("since_ms"),
        ~select(_later.c.id)
        .where(
            _later.c.message_id == _back.c.message_id,
            _later.c.id > _back.c.id,
            *_sent_back(_later),
        )
        .exists(),
    )
    .order_by(_back.c.at_ms.desc(), _back.c.message_id.desc())
    .limit(parameter("limit"))
)
# The newest events of a dead-letter queue.
_newest_events = (
    select(history.c.event, history.c.reason, history.c.actor, history.c.at_ms)
    .where(history.c.queue_id == parameter("in_queue"), history.c.at_ms >= parameter("since_ms"))
    .order_by(history.c.at_ms.desc())
    .limit(parameter("window"))
    .subquery("near")
)
_decided = _newest_events.c
_number = func.count().label("number")
DECISIONS = Statement(
    select(_decided.event, _decided.reason, _number, func.max(_decided.at_ms))
    .where(
        or_(*(_decided.event == text_literal(event) for event in DECISION_EVENTS)),
        _is_recovery(_decided.actor),
    )
    .group_by(_decided.event, _decided.reason)
    .order_by(_number.desc(), _decided.event, _decided.reason)
    .limit(parameter("limit"))
)
EVENTS_LOOKED_AT = Statement(select(func.count()).select_from(_newest_events))
event_columns: tuple[Any, ...] = (
    history.c.message_id,
    queue.c.name,
    history.c.event,
    history.c.at_ms,
    history.c.actor,
    history.c.reason,
    history.c.error_type,
    history.c.error_message,
    history.c.traceback,
    history.c.detail,
    history.c.fingerprint,
    history.c.place,
)
HISTORY = Statement(
    select(*event_columns)
    .outerjoin(queue, queue.c.id == history.c.queue_id)
    .where(in_list(history.c.message_id, "ids"))
    .order_by(history.c.message_id, history.c.id)
)
