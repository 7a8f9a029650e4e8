"""The database as a plain connection sees it, so that durableq is not its own witness.

It is a file, or a schema of PostgreSQL, named by its URL.

The driver is durableq's own: a second SQLite library in one process would lose the locks of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durableq.engines.sqlite.driver import driver
from tests import plain_postgres

UNBALANCED = """
SELECT name FROM durableq_queue AS q LEFT JOIN durableq_counters ON queue_id = id
WHERE queue_id IS NULL
   OR sent + moved_in - moved_out - completed - duplicates - discarded - cancelled - expired
      - purged - replaced
   <> (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id)"""


@contextmanager
def connection(path: Path) -> Iterator[Any]:
    """A connection in the driver's autocommit mode; it creates no file."""
    raw = driver.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=20)
    try:
        yield raw
    finally:
        raw.close()


def rows(path: Path | str, sql: str, *values: Any) -> list[Any]:
    """Return the rows of a statement."""
    if isinstance(path, str):
        return plain_postgres.rows(path, sql, *values)
    with connection(path) as raw:
        found: list[Any] = raw.execute(sql, values).fetchall()
        return found


def column(path: Path | str, sql: str, *values: Any) -> list[Any]:
    """Return the first column of a statement's rows."""
    return [row[0] for row in rows(path, sql, *values)]


def one(path: Path, sql: str, *values: Any) -> Any:
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


def script(path: Path | str, sql: str) -> None:
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


def check_sound(path: Path | str) -> None:
    """Check that the file is sound, and that the counters of every queue reconcile."""
    if isinstance(path, str):
        assert column(path, plain_postgres.UNBALANCED) == []
        return
    check_whole(path)
    assert column(path, UNBALANCED) == []


def counters(path: Path | str, queue: str) -> dict[str, int]:
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
