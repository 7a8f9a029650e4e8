"""The final database as the driver alone sees it: durableq does not vouch for itself.

The drivers are durableq's own. A second SQLite library in one process would lose the locks of both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from durableq.engines import is_postgres
from durableq.model.errors import DatabaseUnreachable

# The first column of each row is the name of the queue, if it belongs to one.
_COUNTERS: Final = """
SELECT name, max_receives, sent, moved_in, moved_out, completed, duplicates, discarded, expired,
       purged, cancelled, (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id)
FROM durableq_queue AS q JOIN {totals} AS t ON t.queue_id = q.id ORDER BY name"""
_LEFT: Final = """
SELECT q.name, CAST(m.id AS TEXT), m.state, m.receive_count, m.source_queue_id IS NOT NULL
FROM durableq_message AS m LEFT JOIN durableq_queue AS q ON q.id = m.queue_id ORDER BY m.id"""
_RECORDS: Final = """
SELECT q.name, r.key, r.status = 1, CAST(r.owner_message_id AS TEXT), r.owner_receipt, r.result
FROM durableq_idempotency AS r LEFT JOIN durableq_queue AS q ON q.id = r.queue_id ORDER BY r.key"""
_EVENTS: Final = """
SELECT q.name, CAST(h.message_id AS TEXT), h.event, h.reason
FROM durableq_history AS h LEFT JOIN durableq_queue AS q ON q.id = h.queue_id ORDER BY h.id"""
_CHARGES: Final = (
    "SELECT order_key, amount_cents, CAST(message_id AS TEXT) FROM demo_ledger ORDER BY id"
)
#: Where PostgreSQL has the totals: in the counters, and in what is not added to them yet.
_ADDED: Final = """(
    SELECT c.queue_id, c.sent + coalesce(d.sent, 0) AS sent, c.moved_in, c.moved_out,
        c.completed + coalesce(d.completed, 0) AS completed, c.duplicates, c.discarded, c.expired,
        c.purged, c.cancelled
    FROM durableq_counters AS c LEFT JOIN (
        SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
        FROM durableq_counter_delta GROUP BY queue_id
    ) AS d ON d.queue_id = c.queue_id
)"""
#: The B-trees of the schema, if the server has its check of them.
_INDEXES: Final = """
SELECT i.indexrelid::regclass::text, x.extnamespace::regnamespace::text
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
JOIN pg_extension AS x ON x.extname = 'amcheck'
WHERE c.relnamespace = current_schema()::regnamespace AND a.amname = 'btree' ORDER BY 1"""


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
    """The facts in the database that the checker compares."""

    #: The findings of the integrity check.
    faults_found: list[str]
    counters: list[QueueCounters]
    left: list[Left]
    charges: list[Charge]
    records: list[Record]
    events: list[Event]


class Reader(ABC):
    """Reads a database by plain statements, each of them one look at one state."""

    #: The totals of the queues, as a table.
    totals: str = "durableq_counters"

    def rows(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query; bytes become hexadecimal digits.

        Args:
            text: the query, with a `?` for each value.
            values: of the query.

        Raises:
            DatabaseUnreachable: the server is down, or cut the connection.
        """
        return [
            tuple(value.hex() if isinstance(value, bytes) else value for value in row)
            for row in self._fetch(text, values)
        ]

    @abstractmethod
    def faults(self) -> list[str]:
        """Return the findings of the database's own integrity check."""

    @abstractmethod
    def close(self) -> None:
        """Close its connection."""

    @abstractmethod
    def _fetch(self, text: str, values: tuple[Any, ...]) -> list[Any]: ...


class _OfFile(Reader):
    """A SQLite file."""

    def __init__(self, path: str) -> None:
        from durableq.engines.sqlite.driver import driver

        address = f"file:{quote(path)}?mode=ro"
        self._connection: Any = driver.connect(address, uri=True, isolation_level=None)

    def faults(self) -> list[str]:
        """Return the findings of SQLite's integrity check."""
        return [text for (text,) in self.rows("PRAGMA integrity_check") if text != "ok"]

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()

    def _fetch(self, text: str, values: tuple[Any, ...]) -> list[Any]:
        return list(self._connection.execute(text, values).fetchall())


class _OfServer(Reader):
    """A schema of a PostgreSQL database. After a lost connection the next query opens another."""

    totals = _ADDED

    def __init__(self, url: str) -> None:
        from durableq.engines.postgres.driver import driver
        from durableq.engines.postgres.location import Location

        self._driver = driver
        self._location = Location.parse(url)
        self._connection: Any = None

    def faults(self) -> list[str]:
        """Return the findings of amcheck about the indexes, where this extension is installed."""
        found = []
        for index, schema in self.rows(_INDEXES):
            try:
                self._fetch(f"SELECT {schema}.bt_index_check(?::regclass, true)", (index,))
            except self._driver.Error as error:
                found.append(str(error))
        return found

    def close(self) -> None:
        """Close its connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _fetch(self, text: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            query = text.replace("?", "%s").encode()
            return list(self._connection.execute(query, values or None).fetchall())
        except (self._driver.OperationalError, self._driver.InterfaceError) as error:
            self.close()
            raise DatabaseUnreachable(f"{self._location.shown} cannot be read: {error}") from error

    def _connect(self) -> Any:
        location = self._location
        connection = self._driver.connect(location.conninfo, autocommit=True)
        if location.schema is not None:
            path = self._driver.sql.Identifier(location.schema)
            connection.execute(self._driver.sql.SQL("SET search_path TO {}").format(path))
        return connection


def on_server(url: str) -> bool:
    """Return whether a URL names a database of PostgreSQL."""
    return is_postgres(url)


def alone(url: str, name: str = "") -> str:
    """Return the URL under which all tables of an application are in durableq's schema.

    An application's own tables are where its connections' search path says, so two runs in two
    schemas of one database would share them.

    Args:
        url: any; one that names no schema of a PostgreSQL database stays as it is.
        name: of the application, which the server shows for each of its connections.
    """
    if not is_postgres(url):
        return url
    from durableq.engines.postgres.driver import driver
    from durableq.engines.postgres.location import Location

    location = Location.parse(url)
    more = {"application_name": name} if name else {}
    if location.schema is not None:
        given = driver.conninfo.conninfo_to_dict(location.conninfo).get("options") or ""
        path = str(driver.sql.Identifier(location.schema).as_string()).replace(" ", "\\ ")
        more["options"] = f"{given} -c search_path={path}".strip()
    # Of an option that a URL has twice, the last counts.
    added = "&".join(f"{option}={quote(value)}" for option, value in more.items())
    return f"{url}{'&' if '?' in url else '?'}{added}" if added else url


def connect(place: str) -> Reader:
    """Return a reader of a database.

    Args:
        place: the path of a file, or the URL of a PostgreSQL database.
    """
    return _OfServer(place) if is_postgres(place) else _OfFile(place)


def read(place: str, queues: Collection[str] = ()) -> File:
    """Read a database that no process uses any more.

    Args:
        place: as for `connect`.
        queues: the queues to read; empty means all.
    """
    with closing(connect(place)) as reader:

        def of_queues(text: str) -> list[Any]:
            return [row for row in reader.rows(text) if not queues or row[0] in queues]

        return File(
            reader.faults(),
            [QueueCounters(*row) for row in of_queues(_COUNTERS.format(totals=reader.totals))],
            [Left(*row) for row in of_queues(_LEFT)],
            [Charge(*row) for row in reader.rows(_CHARGES)],
            [Record(*row[1:]) for row in of_queues(_RECORDS)],
            [Event(*row[1:]) for row in of_queues(_EVENTS)],
        )
