"""One write transaction: its connection, the moment it happens at, the books it will balance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from durableq.engines.sql import statements as sql
from durableq.engines.sql.tables import LEASE_EPOCH_MS, queue
from durableq.model.errors import UnknownQueue
from durableq.model.message import Event
from durableq.model.queues import BOUNDS, Counters, QueueSettings
from durableq.runtime.steady_clock import SteadyClock

_COLUMN = {column.name: position for position, column in enumerate(queue.columns)}
_SETTINGS = [(name, _COLUMN[name]) for name in BOUNDS]
_TOTALS = [(name, _COLUMN[name]) for name in sql.COUNTERS]


class QueueRow:
    """A queue as a transaction sees it."""

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
        """All its settings."""
        return QueueSettings(**{name: self._row[at] for name, at in _SETTINGS})

    @property
    def counters(self) -> Counters:
        """Its running totals."""
        return Counters(**{name: self._row[at] for name, at in _TOTALS})


class WriteTransaction:
    """What the verbs share while their one transaction is open.

    Totals are collected and written once, at the end, by `close_books`.
    """

    __slots__ = ("_counts", "_queues", "lease_now_ms", "now_ms", "raw", "rng")

    def __init__(self, raw: Any, clock: SteadyClock, rng: Callable[[], float]) -> None:
        self.raw = raw
        self.now_ms = clock.now_ms()
        self.lease_now_ms = clock.lease_ms() + LEASE_EPOCH_MS
        self.rng = rng
        self._counts: dict[int, Counter[str]] = {}
        self._queues: dict[str | int, QueueRow] = {}

    def queue(self, name: str) -> QueueRow:
        """Return a queue by name.

        Raises:
            UnknownQueue: there is none.
        """
        found = self.find_queue(name)
        if found is None:
            raise UnknownQueue(name)
        return found

    def find_queue(self, name: str) -> QueueRow | None:
        """Return a queue by name, or None."""
        found = self._queues.get(name)
        if found is None:
            row = sql.QUEUE(self.raw, queue=name).fetchone()
            if row is None:
                return None
            found = self._queues[name] = QueueRow(row)
        return found

    def queue_by_id(self, queue_id: int) -> QueueRow:
        """Return a queue that a message stands in."""
        found = self._queues.get(queue_id)
        if found is None:
            row = sql.QUEUE_BY_ID(self.raw, queue_id=queue_id).fetchone()
            found = self._queues[queue_id] = QueueRow(row)
        return found

    def count(self, queue_id: int, total: str, number: int = 1) -> None:
        """Add to a queue's running total."""
        self._counts.setdefault(queue_id, Counter())[total] += number

    def write_counters(self) -> None:
        """Write the totals collected so far."""
        for queue_id, changes in self._counts.items():
            plus = {f"plus_{name}": changes[name] for name in sql.COUNTERS}
            sql.COUNT(self.raw, queue_id=queue_id, **plus)
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
        sql.RECORD_EVENT(
            self.raw,
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
        sql.TRIM_HISTORY(self.raw, of=message_id)


def row_id(message_id: str) -> int:
    """Return a message's id as its row's, or -1, which no row has, for what cannot be one."""
    number = int(message_id) if message_id.isdecimal() and len(message_id) < 20 else -1
    return number if str(number) == message_id and number < 1 << 63 else -1


def ids_json(ids: Any) -> str:
    """Return ids as the JSON array that `among` takes."""
    return "[" + ",".join(map(str, ids)) + "]"
