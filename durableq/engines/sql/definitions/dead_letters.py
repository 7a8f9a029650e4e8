"""Dead letters: groups by cause of death, history, and the fate of those sent back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, literal_column, or_, select

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.tables import history, message, queue
from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.message import Event, Reason

dead = message.alias("m")
source = queue.alias("source")
died = history.alias("died")


def text_literal(value: str) -> Any:
    """Return a constant of this package as literal SQL, so that the statement's text is whole."""
    return literal_column(f"'{value}'")


def select_dead_letters(*columns: Any) -> Select[Any]:
    """Return a query of dead letters with their source and their last burial.

    The history of a message is bounded, so it may have lost the burial.
    """
    last_burial = (
        select(func.max(history.c.id))
        .where(history.c.message_id == dead.c.id, history.c.event == text_literal(Event.BURIED))
        .correlate(dead)
        .scalar_subquery()
    )
    return (
        select(*columns)
        .select_from(
            dead.outerjoin(source, source.c.id == dead.c.source_queue_id).outerjoin(
                died, died.c.id == last_burial
            )
        )
        .where(dead.c.source_queue_id.is_not(None))
        # An index to read: SQLite would read all messages in order of id.
        .with_hint(dead, "durableq_message_dead")
    )


reason: Any = func.coalesce(died.c.reason, text_literal(Reason.HANDLER_ERROR))
empty: Any = literal_column("''")
_of_queue = parameter("of_queue", source.c.name)
_kind = (
    select_dead_letters(
        source.c.name.label("queue"),
        reason.label("reason"),
        func.coalesce(died.c.fingerprint, empty).label("fingerprint"),
        func.count().label("number"),
        func.min(dead.c.enqueued_at_ms).label("first_died_ms"),
        func.max(dead.c.enqueued_at_ms).label("last_died_ms"),
        func.coalesce(func.max(died.c.id), literal_column("0")).label("newest"),
        func.max(dead.c.id).label("some_id"),
    )
    .where(or_(_of_queue.is_(None), source.c.name == _of_queue))
    .group_by(literal_column("1"), literal_column("2"), literal_column("3"))
    .subquery("kind")
)
_example = history.alias("example")
GROUPS = Statement(
    select(
        _kind.c.queue,
        _kind.c.reason,
        _kind.c.fingerprint,
        func.coalesce(_example.c.error_type, empty),
        func.coalesce(_example.c.error_message, empty),
        func.coalesce(_example.c.place, empty),
        _kind.c.number,
        _kind.c.first_died_ms,
        _kind.c.last_died_ms,
        func.coalesce(_example.c.message_id, _kind.c.some_id),
    )
    .select_from(_kind.outerjoin(_example, _example.c.id == _kind.c.newest))
    .order_by(_kind.c.number.desc(), _kind.c.newest.desc())
)
_back, _later = history.alias("back"), history.alias("later")


def _sent_back(event: Any) -> tuple[Any, ...]:
    """Return the conditions for an event in which recovery sent a message back."""
    actor = func.substr(
        event.c.actor, literal_column("1"), literal_column(str(len(RECOVERY_ACTOR)))
    )
    return (
        event.c.queue_id == parameter("in_queue"),
        or_(
            event.c.event == text_literal(Event.RETRIED),
            event.c.event == text_literal(Event.REQUEUED),
        ),
        actor == text_literal(RECOVERY_ACTOR),
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
HISTORY = Statement(
    select(history, queue.c.name)
    .outerjoin(queue, queue.c.id == history.c.queue_id)
    .where(in_list(history.c.message_id, "ids"))
    .order_by(history.c.message_id, history.c.id)
)
