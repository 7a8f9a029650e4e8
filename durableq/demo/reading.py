"""The final file as a plain SQLite connection sees it: durableq does not vouch for itself.

The driver is durableq's own: a second SQLite library in one process would lose the locks of both.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from durableq.engines.sqlite.driver import driver

# The first column of each row is the name of the queue, if it belongs to one.
_COUNTERS: Final = """
SELECT name, max_receives, sent, moved_in, moved_out, completed, duplicates, discarded, expired,
       purged, cancelled, (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id)
FROM durableq_queue AS q JOIN durableq_counters ON queue_id = id ORDER BY name"""
_LEFT: Final = """
SELECT q.name, CAST(m.id AS TEXT), m.state, m.receive_count, m.source_queue_id IS NOT NULL
FROM durableq_message AS m LEFT JOIN durableq_queue AS q ON q.id = m.queue_id ORDER BY m.id"""
_RECORDS: Final = """
SELECT q.name, r.key, r.status = 1, CAST(r.owner_message_id AS TEXT), lower(hex(r.owner_receipt)),
       r.result
FROM durableq_idempotency AS r LEFT JOIN durableq_queue AS q ON q.id = r.queue_id ORDER BY r.key"""
_EVENTS: Final = """
SELECT q.name, CAST(h.message_id AS TEXT), h.event, h.reason
FROM durableq_history AS h LEFT JOIN durableq_queue AS q ON q.id = h.queue_id ORDER BY h.id"""
_CHARGES: Final = (
    "SELECT order_key, amount_cents, CAST(message_id AS TEXT) FROM demo_ledger ORDER BY id"
)


class QueueCounters(NamedTuple):
    """A queue's totals, and the number of its messages."""

    queue: str
    max_receives: int
    sent: int
    moved_in: int
    moved_out: int
    completed: int
    duplicates: int
    discarded: int
    expired: int
    purged: int
    cancelled: int
    present: int

    @property
    def expected(self) -> int:
        """The number of messages in the queue according to its totals."""
        decided = self.completed + self.duplicates + self.discarded + self.cancelled
        return self.sent + self.moved_in - self.moved_out - decided - self.expired - self.purged


class Left(NamedTuple):
    """A message that has not ended."""

    queue: str | None
    message_id: str
    state: int
    receive_count: int
    dead: bool


class Charge(NamedTuple):
    """A row of the table that the handler writes: the effect."""

    key: str
    amount_cents: int
    message_id: str


class Record(NamedTuple):
    """The idempotency record of a key."""

    key: str
    completed: bool
    message_id: str
    receipt: str
    result: str | None


class Event(NamedTuple):
    """A line of history."""

    message_id: str
    event: str
    reason: str


class File(NamedTuple):
    """The facts in the file that the checker compares."""

    #: The findings of SQLite's integrity check.
    faults_found: list[str]
    counters: list[QueueCounters]
    left: list[Left]
    charges: list[Charge]
    records: list[Record]
    events: list[Event]


def connect(path: str) -> Any:
    """Return a plain connection of the driver to a file, which can only read."""
    return driver.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)


def read(path: str, queues: Collection[str] = ()) -> File:
    """Read a file that no process uses any more.

    Args:
        path: its path.
        queues: the queues to read; empty means all.
    """
    with closing(connect(path)) as connection:

        def rows(sql: str) -> list[Any]:
            return list(connection.execute(sql).fetchall())

        def of_queues(sql: str) -> list[Any]:
            return [row for row in rows(sql) if not queues or row[0] in queues]

        return File(
            [text for (text,) in rows("PRAGMA integrity_check") if text != "ok"],
            [QueueCounters(*row) for row in of_queues(_COUNTERS)],
            [Left(*row) for row in of_queues(_LEFT)],
            [Charge(*row) for row in rows(_CHARGES)],
            [Record(*row[1:]) for row in of_queues(_RECORDS)],
            [Event(*row[1:]) for row in of_queues(_EVENTS)],
        )
