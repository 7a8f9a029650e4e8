"""Open transactions: connection and statements, and for an operation its time and counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from durableq.engines.sql import statements as sql
from durableq.engines.sql.dialect import Statement, Statements
from durableq.engines.sql.tables import LEASE_EPOCH_MS, queue
from durableq.model.errors import UnknownQueue
from durableq.model.message import Event
from durableq.model.queues import BOUNDS, Counters, QueueSettings
from durableq.runtime.steady_clock import SteadyClock

_COLUMN = {column.name: position for position, column in enumerate(queue.columns)}
_SETTINGS = [(name, _COLUMN[name]) for name in BOUNDS]
_COUNTERS = [(name, _COLUMN[name]) for name in sql.COUNTERS]


class StoredQueue:
    """A row of the table of queues."""

    __slots__ = ("_row", "dead_letter_queue_id", "id", "name")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row = row
        self.id: int = row[_COLUMN["id"]]
        self.name: str = row[_COLUMN["name"]]
        self.dead_letter_queue_id: int | None = row[_COLUMN["dead_letter_queue_id"]]

    def setting(self, name: str) -> int:
        """Return one setting."""
        value: int = self._row[_COLUMN[name]]
        return value

    @property
    def settings(self) -> QueueSettings:
        """All settings."""
        return QueueSettings(**{name: self._row[at] for name, at in _SETTINGS})

    @property
    def counters(self) -> Counters:
        """The running totals."""
        return Counters(**{name: self._row[at] for name, at in _COUNTERS})


class Transaction:
    """An open transaction, for reading or for a few plain writes.

    Args:
        raw: the driver's connection.
        statements: the statements as compiled for its database.
    """

    __slots__ = ("raw", "statements")

    def __init__(self, raw: Any, statements: Statements) -> None:
        self.raw = raw
        self.statements = statements

    def run(self, statement: Statement, **values: Any) -> Any:
        """Run a statement and return the driver's cursor."""
        sql, pick, constants = self.statements[statement]
        if constants:
            values.update(constants)
        return self.raw.execute(sql, pick(values))

    def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]]) -> Any:
        """Run a statement once for each row of values and return the driver's cursor."""
        sql, pick, constants = self.statements[statement]
        if constants:
            rows = ({**row, **constants} for row in rows)
        return self.raw.executemany(sql, list(map(pick, rows)))

    def moved(self, statement: Statement, **values: Any) -> set[int]:
        """Run a transition and return the ids of the rows that it moved."""
        return {row[0] for row in self.run(statement, **values).fetchall()}

    def list_of(self, values: Iterable[int] | Iterable[str]) -> Any:
        """Return numbers or texts as the value of a parameter of `in_list`."""
        return self.statements.dialect.bind_list(values)


class Database(Protocol):
    """The part of an engine's database that shared code opens transactions with."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a read transaction."""

    def write(self, *, patient: bool = True) -> AbstractContextManager[Transaction]:
        """Open a write transaction; unless `patient`, raise Busy instead of waiting."""


class WriteTransaction(Transaction):
    """The write transaction of one operation of the store.

    Counters are collected and written once, at the end, by `write_counters`.

    Args:
        tx: the transaction.
        clock: steady time, read once: all of the operation happens at one moment.
        rng: numbers in [0, 1) for the backoff's jitter.
    """

    __slots__ = ("_counts", "_queues", "lease_now_ms", "now_ms", "rng")

    def __init__(self, tx: Transaction, clock: SteadyClock, rng: Callable[[], float]) -> None:
        super().__init__(tx.raw, tx.statements)
        self.now_ms = clock.now_ms()
        self.lease_now_ms = clock.lease_ms() + LEASE_EPOCH_MS
        self.rng = rng
        self._counts: dict[int, Counter[str]] = {}
        self._queues: dict[str | int, StoredQueue] = {}

    def queue(self, name: str) -> StoredQueue:
        """Return a queue by name.

        Raises:
            UnknownQueue: there is none.
        """
        found = self.find_queue(name)
        if found is None:
            raise UnknownQueue(name)
        return found

    def find_queue(self, name: str) -> StoredQueue | None:
        """Return a queue by name, or None."""
        found = self._queues.get(name)
        if found is None:
            row = self.run(sql.QUEUE, queue=name).fetchone()
            if row is None:
                return None
            found = self._queues[name] = StoredQueue(row)
        return found

    def queue_by_id(self, queue_id: int) -> StoredQueue:
        """Return the queue of a message."""
        found = self._queues.get(queue_id)
        if found is None:
            row = self.run(sql.QUEUE_BY_ID, queue_id=queue_id).fetchone()
            found = self._queues[queue_id] = StoredQueue(row)
        return found

    def count(self, queue_id: int, counter: str, number: int = 1) -> None:
        """Add to a queue's running counter."""
        self._counts.setdefault(queue_id, Counter())[counter] += number

    def write_counters(self) -> None:
        """Write the counters collected so far."""
        for queue_id, changes in self._counts.items():
            plus = {f"plus_{name}": changes[name] for name in sql.COUNTERS}
            self.run(sql.COUNT, queue_id=queue_id, **plus)
        self._counts.clear()

    def record(
        self,
        message_id: int,
        queue_id: int,
        event: Event,
        *,
        actor: str = "",
        detail: Mapping[str, Any] | None = None,
        **texts: str,
    ) -> None:
        """Write one event of a message's history, and drop the oldest beyond the limit."""
        self.run(
            sql.RECORD_EVENT,
            message_id=message_id,
            queue_id=queue_id,
            at_ms=self.now_ms,
            event=event.value,
            reason=texts.get("reason", ""),
            error_type=texts.get("error_type", ""),
            error_message=texts.get("error_message", ""),
            traceback=texts.get("traceback", ""),
            fingerprint=texts.get("fingerprint", ""),
            place=texts.get("place", ""),
            actor=actor,
            detail=json.dumps(detail) if detail else None,
        )
        self.run(sql.TRIM_HISTORY, of=message_id)


def row_id(message_id: str) -> int:
    """Return the row id of a message's id; -1, which no row has, if it is not one."""
    number = int(message_id) if message_id.isdecimal() and len(message_id) < 20 else -1
    return number if str(number) == message_id and number < 1 << 63 else -1
