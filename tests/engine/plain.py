"""The database as a plain connection sees it, so that durableq is not its own witness.

It is a file, or a schema of PostgreSQL, named by its URL.

The driver is durableq's own: a second SQLite library in one process would lose the locks of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
import sqlalchemy as sa

from durableq.engines.sqlite.driver import driver
from tests import plain_postgres

Place: TypeAlias = Path | str
ENGINES = ("sqlite", "postgres")
#: The mark of tests that run on each engine; their fixture `db` is a Place.
ON_BOTH = pytest.mark.parametrize("db", ENGINES, indirect=True)

UNBALANCED = """
SELECT name FROM durableq_queue AS q LEFT JOIN durableq_counters ON queue_id = id
WHERE queue_id IS NULL
   OR sent + moved_in - moved_out - completed - duplicates - discarded - cancelled - expired
      - purged - replaced
   <> (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id)"""


@contextmanager
def connection(place: Place) -> Iterator[Any]:
    """A connection in the driver's autocommit mode; it creates no file."""
    if isinstance(place, str):
        with plain_postgres.connection(place) as connected:
            yield connected
        return
    raw = driver.connect(f"file:{place}?mode=rw", uri=True, isolation_level=None, timeout=20)
    try:
        yield raw
    finally:
        raw.close()


def postgres(url: str) -> psycopg.Connection[Any]:
    """Connect to the schema of a URL, as an application would."""
    server, _, schema = url.rpartition("schema=")
    connected: psycopg.Connection[Any] = psycopg.connect(
        server.rstrip("&?"), options=f"-c search_path={schema}"
    )
    return connected


def engine(place: Place, **options: Any) -> sa.Engine:
    """An engine that an application makes itself, with SQLAlchemy's defaults."""
    if isinstance(place, str):
        return sa.create_engine("postgresql+psycopg://", creator=lambda: postgres(place), **options)
    return sa.create_engine(f"sqlite:///{place}", module=driver, **options)


def rows(path: Place, sql: str, *values: Any) -> list[Any]:
    """Return the rows of a statement."""
    if isinstance(path, str):
        return plain_postgres.rows(path, sql, *values)
    with connection(path) as raw:
        found: list[Any] = raw.execute(sql, values).fetchall()
        return found


def column(path: Place, sql: str, *values: Any) -> list[Any]:
    """Return the first column of a statement's rows."""
    return [row[0] for row in rows(path, sql, *values)]


def one(path: Place, sql: str, *values: Any) -> Any:
    """Return the single value of a statement."""
    ((value,),) = rows(path, sql, *values)
    return value


def is_locked(path: Path) -> bool:
    """Return whether a connection has the write lock just now."""
    with connection(path) as raw:
        raw.execute("PRAGMA busy_timeout = 0")
        try:
            raw.execute("BEGIN IMMEDIATE")
        except driver.OperationalError:
            return True
        raw.execute("ROLLBACK")
        return False


def script(path: Place, sql: str) -> None:
    """Run statements."""
    if isinstance(path, str):
        plain_postgres.script(path, sql)
        return
    with connection(path) as raw:
        raw.executescript(sql)


def create(path: Path, sql: str) -> None:
    """Make a database that is not durableq's."""
    raw = driver.connect(str(path), isolation_level=None)
    raw.executescript(sql)
    raw.close()


def check_whole(path: Path) -> None:
    """Check that SQLite finds the file sound."""
    assert column(path, "PRAGMA integrity_check") == ["ok"]


def check_sound(path: Place) -> None:
    """Check that the file is sound, and that the counters of every queue reconcile."""
    if isinstance(path, str):
        assert column(path, plain_postgres.UNBALANCED) == []
        return
    check_whole(path)
    assert column(path, UNBALANCED) == []


def counters(path: Place, queue: str) -> dict[str, int]:
    """Return a queue's counters."""
    names = ("sent", "moved_in", "moved_out", "completed", "duplicates", "discarded")
    if isinstance(path, str):
        return dict(zip(names, plain_postgres.counters(path, queue, names), strict=True))
    found = (
        f"SELECT {', '.join(names)} FROM durableq_counters "
        "WHERE queue_id = (SELECT id FROM durableq_queue WHERE name = ?)"
    )
    (row,) = rows(path, found, queue)
    return dict(zip(names, row, strict=True))
