"""The tables that a transfer copies, and the texts that read and write their rows.

All columns are copied, by the definitions of the tables. A test fails if a table is in neither of
the lists below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.sql.expression import ClauseElement

from durableq.engines.sql.definitions import endpoint_tables, item_tables, redrive_tables, tables
from durableq.engines.sql.maintenance import NOTE
from durableq.engines.sql.metadata import NOTE_PREFIX
from durableq.engines.sql.ranking import NOTE as RANK

COPIED: Final = (
    tables.queue,
    tables.counters,
    tables.flow,
    tables.failure,
    tables.group,
    tables.deduplication,
    tables.message,
    tables.idempotency,
    tables.history,
    redrive_tables.redrive_task,
    tables.once,
    tables.sample,
    tables.schedule,
    item_tables.item_table,
    item_tables.item,
    endpoint_tables.queue_document,
    endpoint_tables.deleted_queue,
    tables.meta,
)
#: The other tables, and why they are not copied.
NOT_COPIED: Final = {
    "durableq_counter_delta": "PostgreSQL's; its rows are added to the counters first",
    tables.worker.name: "workers of the target register themselves; those of the source have ended",
    endpoint_tables.receive_attempt.name: "its rows count during a lease, and none is left",
    tables.progress.name: "its rows count during a lease, and none is left",
}
#: Times on the lease clock; 0 is none. All others are in steady time, which the target takes over,
#: or on the wall clock (of schedules and items), or belong to a lease, and none is left.
LEASE_MS: Final = {
    tables.counters.c.delivered_at_ms,
    tables.flow.c.breaker_since_ms,
    tables.flow.c.breaker_until_ms,
    tables.failure.c.at_ms,
}
LEASE_NS: Final = {
    tables.counters.c.tat_ns,
    tables.group.c.tat_ns,
    redrive_tables.redrive_task.c.tat_ns,
}

#: Makes a text of a construct; its parameters have the numbers of these names.
Compile = Callable[[ClauseElement, Sequence[str]], str]


class CopiedTable(NamedTuple):
    """A table that is copied: its columns by position, and the texts for one database."""

    name: str
    columns: tuple[str, ...]
    #: The positions of the primary key.
    key: tuple[int, ...]
    #: Reads the first rows in order of the key, at most `limit`: its parameter.
    first: str
    #: Reads those after a key: its parameters, and `limit`.
    later: str
    #: Inserts a row.
    put: str
    #: Counts the rows, and removes them.
    counted: str
    cleared: str
    #: Positions of times on the lease clock, in milliseconds and in nanoseconds.
    lease_ms: tuple[int, ...]
    lease_ns: tuple[int, ...]
    #: The columns of text.
    texts: tuple[str, ...]
    #: Whether it has a column of ids that are counted up.
    has_ids: bool


def copied_tables(compiled: Compile) -> list[CopiedTable]:
    """Return the tables in the order in which they are copied."""
    return [_copied(table, compiled) for table in COPIED]


def tables_with_ids() -> list[str]:
    """Return the names of all tables whose ids are counted up."""
    return [table.name for table in tables.metadata.sorted_tables if _has_ids(table)]


def _copied(table: Table, compiled: Compile) -> CopiedTable:
    columns = [*table.c]
    key = [*table.primary_key]
    page = _of_ours(table, select(*columns)).order_by(*key).limit(bindparam("limit"))
    after = [f"after_{number}" for number in range(len(key))]
    values = [f"value_{number}" for number in range(len(columns))]
    named: Any = dict(zip((c.name for c in columns), map(bindparam, values), strict=True))

    def positions(wanted: set[Column[Any]]) -> tuple[int, ...]:
        return tuple(number for number, column in enumerate(columns) if column in wanted)

    return CopiedTable(
        table.name,
        tuple(column.name for column in columns),
        positions({*key}),
        compiled(page, ["limit"]),
        compiled(page.where(_is_after(key, after)), [*after, "limit"]),
        compiled(insert(table).values(named), values),
        compiled(_of_ours(table, select(func.count()).select_from(table)), []),
        compiled(_of_ours(table, delete(table)), []),
        positions(LEASE_MS),
        positions(LEASE_NS),
        tuple(column.name for column in columns if isinstance(column.type, Text)),
        _has_ids(table),
    )


def _of_ours(table: Table, query: Any) -> Any:
    """Limit a statement about metadata to that of queues: not of hosts, or maintenance."""
    if table is not tables.meta:
        return query
    name = table.c.name
    is_of_queues = _begins(name, NOTE_PREFIX) | _begins(name, RANK)
    return query.where(is_of_queues, name != _literal(NOTE_PREFIX + NOTE))


def _begins(column: Column[Any], start: str) -> Any:
    return func.substr(column, 1, len(start)) == _literal(start)


def _literal(text: str) -> Any:
    return literal_column(f"'{text}'")


def _is_after(key: list[Column[Any]], names: list[str]) -> Any:
    if len(key) == 1:
        return key[0] > bindparam(names[0])
    return tuple_(*key) > tuple_(*map(bindparam, names))


def _has_ids(table: Table) -> bool:
    return table.autoincrement_column is not None
