"""The final file as a plain SQLite connection sees it: durableq does not vouch for itself.

The driver is durableq's own: a second SQLite library in one process would lose the locks of both.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from durableq.engines.sqlite.driver import driver

_BOOKS: Final = """
SELECT name, max_receives, sent, moved_in, moved_out, completed, duplicates, discarded, expired,
       purged, (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id)
FROM durableq_queue AS q JOIN durableq_counters ON queue_id = id ORDER BY name"""
_LEFT: Final = """
SELECT CAST(m.id AS TEXT), q.name, m.state, m.receive_count, m.source_queue_id IS NOT NULL
FROM durableq_message AS m LEFT JOIN durableq_queue AS q ON q.id = m.queue_id ORDER BY m.id"""
_CHARGES: Final = (
    "SELECT order_key, amount_cents, CAST(message_id AS TEXT) FROM demo_ledger ORDER BY id"
)
_RECORDS: Final = """
SELECT key, status = 1, CAST(owner_message_id AS TEXT), lower(hex(owner_receipt)), result
FROM durableq_idempotency ORDER BY key"""
_EVENTS: Final = """
SELECT CAST(message_id AS TEXT), event, reason FROM durableq_history ORDER BY id"""


class QueueCounters(NamedTuple):
    """A queue's totals, and how many messages are there."""

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
    present: int

    @property
    def owed(self) -> int:
        """How many messages must be there."""
        ended = self.completed + self.duplicates + self.discarded + self.expired + self.purged
        return self.sent + self.moved_in - self.moved_out - ended


class Left(NamedTuple):
    """A message that is still there."""

    message_id: str
    queue: str | None
    state: int
    receive_count: int
    dead: bool


class Charge(NamedTuple):
    """A row of the ledger that the handler writes: the effect."""

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
    """All that the checker wants to know of the file."""

    #: The findings of SQLite's integrity check.
    faults_found: list[str]
    books: list[QueueCounters]
    left: list[Left]
    charges: list[Charge]
    records: list[Record]
    events: list[Event]


def read(path: str) -> File:
    """Read a file that no process uses any more."""
    uri = f"file:{quote(path)}?mode=ro"
    with closing(driver.connect(uri, uri=True, isolation_level=None)) as raw:

        def rows(sql: str) -> list[Any]:
            return list(raw.execute(sql).fetchall())

        return File(
            [text for (text,) in rows("PRAGMA integrity_check") if text != "ok"],
            [QueueCounters(*row) for row in rows(_BOOKS)],
            [Left(*row) for row in rows(_LEFT)],
            [Charge(*row) for row in rows(_CHARGES)],
            [Record(*row) for row in rows(_RECORDS)],
            [Event(*row) for row in rows(_EVENTS)],
        )
