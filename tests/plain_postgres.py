"""The schema as a plain connection sees it: the part of `tests.engine.plain` for PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

#: The counters, with what the hot verbs have added since the last fold.
_COUNTED = """
SELECT q.id, q.name, {names} FROM durableq_queue AS q
LEFT JOIN durableq_counters AS c ON c.queue_id = q.id
LEFT JOIN (SELECT queue_id, sum(sent) AS sent, sum(completed) AS completed
           FROM durableq_counter_delta GROUP BY queue_id) AS d ON d.queue_id = q.id"""
UNBALANCED = f"""
SELECT name FROM ({_COUNTED.format(names="c.*, d.sent AS more, d.completed AS fewer")}) AS counted
WHERE queue_id IS NULL
   OR sent + moved_in - moved_out - completed - duplicates - discarded - cancelled - expired
      - purged - replaced + coalesce(more, 0) - coalesce(fewer, 0)
   <> (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = counted.id)"""


@contextmanager
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that searches the schema of the URL."""
    server, _, schema = url.rpartition("schema=")
    with psycopg.connect(server.rstrip("&?"), autocommit=True) as raw:
        raw.execute(f"SET search_path TO {schema}".encode())
        yield raw


def rows(url: str, sql: str, *values: Any) -> list[Any]:
    """Return the rows of a statement, whose parameters are `?`."""
    with connection(url) as raw:
        return raw.execute(sql.replace("%", "%%").replace("?", "%s").encode(), values).fetchall()


def script(url: str, sql: str) -> None:
    """Run statements."""
    with connection(url) as raw:
        raw.execute(sql.encode())


def counters(url: str, queue: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return a queue's counters."""
    added = {"sent", "completed"}
    more = {name: f" + coalesce(d.{name}, 0)" if name in added else "" for name in names}
    columns = ", ".join(f"c.{name}{more[name]}" for name in names)
    text = f"{_COUNTED.format(names=columns)} WHERE q.name = ?"
    ((_, _, *row),) = rows(url, text, queue)
    return tuple(map(int, row))
