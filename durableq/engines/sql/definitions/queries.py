"""Queries for people: short reads, paged by key, that never write."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, func, literal_column, select, union_all

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import revision, zero
from durableq.engines.sql.definitions.tables import is_state, message, queue
from durableq.model.message import State

_m = message.c
_own, source = queue.alias("own"), queue.alias("source")


def select_messages(*more: Any, of: Any = message) -> Select[Any]:
    """Return a query of messages with the names of their queues, and more columns behind.

    Args:
        more: the columns behind.
        of: the table of messages, or an alias of it.
    """
    return (
        select(
            of.c.id,
            _own.c.name,
            of.c.body,
            of.c.key,
            of.c.attributes,
            of.c.priority,
            of.c.state,
            of.c.receive_count,
            of.c.recovery_count,
            of.c.sent_at_ms,
            of.c.enqueued_at_ms,
            of.c.delayed_until_ms,
            of.c.lease_until_ms,
            source.c.name,
            of.c.group_id,
            of.c.expires_at_ms,
            of.c.receipt,
            *more,
        )
        .join(_own, _own.c.id == of.c.queue_id)
        .outerjoin(source, source.c.id == of.c.source_queue_id)
    )


MESSAGE = Statement(select_messages().where(_m.id == parameter("of")))
MESSAGES = Statement(select_messages().where(in_list(_m.id, "ids")).order_by(_m.id))
#: The index of the messages in each state, by queue.
_INDEX_OF: Final = {
    State.READY: "durableq_message_ready",
    State.DELAYED: "durableq_message_delayed",
    State.IN_FLIGHT: "durableq_message_leased",
    State.BLOCKED: "durableq_message_blocked",
}
#: The states of messages.
STATES: Final = tuple(_INDEX_OF)


def ids_in_queue(state: State) -> Select[Any]:
    """Return a query for the ids of a queue's messages in a state.

    It names the index: to have them in order of id, SQLite would read those of all queues.
    """
    return (
        select(_m.id)
        .where(_m.queue_id == parameter("in_queue"), is_state(state))
        .with_hint(message, _INDEX_OF[state], "sqlite")
    )


# The next rows of all queues in order of id, and those among them that are of the queue.
_near = (
    select(_m.id, _m.queue_id)
    .where(_m.id > parameter("after"))
    .order_by(_m.id)
    .limit(parameter("window"))
    .subquery("near")
)
PEEK_NEAR = Statement(
    select(_near.c.id)
    .where(_near.c.queue_id == parameter("in_queue"))
    .order_by(_near.c.id)
    .limit(parameter("limit"))
)
# The next messages of the queue in each state, sorted: no index has them in order of id. The sums
# keep PostgreSQL from reading those of all queues in that order.
PEEK_FAR = Statement(
    union_all(
        *(
            select(
                ids_in_queue(state)
                .where(_m.id + zero > parameter("after"))
                .order_by(_m.id + zero)
                .limit(parameter("limit"))
                .subquery(state.label)
            )
            for state in STATES
        )
    )
)
# The sum keeps the plan from reading every message in order of id: few are in flight.
LEASED_BY = Statement(
    select_messages()
    .where(is_state(State.IN_FLIGHT), _m.owner_id == parameter("owner"))
    .order_by(_m.id + zero)
)
_of_each = _m.queue_id == queue.c.id


def _first(state: State, since: Any, *conditions: Any) -> Any:
    """Return a query for a state, the number of its first messages, and since when they count."""
    rows = (
        select(since.label("since"))
        .where(_m.queue_id == parameter("in_queue"), is_state(state), *conditions)
        .limit(parameter("limit"))
        .subquery("first")
    )
    return select(literal_column(str(int(state))), func.count(), func.min(rows.c.since))


# Ready messages, due ones, and ended leases.
COUNT_GATHERED = Statement(
    union_all(
        _first(State.READY, _m.retention_from_ms),
        _first(State.DELAYED, _m.delayed_until_ms, _m.delayed_until_ms <= parameter("now_ms")),
        _first(State.IN_FLIGHT, _m.lease_until_ms, _m.lease_until_ms <= parameter("lease_now")),
    )
)
READY_IN = Statement(
    select(
        queue.c.name,
        revision,
        queue.c.paused,
        queue.c.id,
        queue.c.limits,
        select(_m.id).where(_of_each, is_state(State.READY)).exists(),
        select(func.min(_m.delayed_until_ms))
        .where(_of_each, is_state(State.DELAYED))
        .scalar_subquery(),
        select(func.min(_m.lease_until_ms))
        .where(_of_each, is_state(State.IN_FLIGHT))
        .scalar_subquery(),
    ).where(in_list(queue.c.name, "names"))
)
