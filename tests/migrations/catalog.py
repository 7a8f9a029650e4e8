"""The content of a schema of PostgreSQL by its catalog, for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

QUERIES = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            co.collname, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped
        ORDER BY c.relname, a.attnum""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = %(schema)s::regnamespace AND contype <> 'n' ORDER BY 1, 2""",
    "indexes": """
        SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %(schema)s ORDER BY 1""",
    "views": """
        SELECT viewname, definition FROM pg_views WHERE schemaname = %(schema)s ORDER BY 1""",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by FROM pg_sequences
        WHERE schemaname = %(schema)s ORDER BY 1""",
    "settings": """
        SELECT relname, reloptions FROM pg_class
        WHERE relnamespace = %(schema)s::regnamespace AND reloptions IS NOT NULL ORDER BY 1""",
}


def split(url: str) -> tuple[str, str]:
    """Return the server and the schema of a URL of the tests."""
    server, _, schema = url.rpartition("schema=")
    return server.rstrip("&?"), schema


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection of the driver alone that searches the schema of a URL."""
    server, schema = split(url)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        yield connection


def described(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is in the schema of a URL, without the schema's name."""
    schema = split(url)[1]
    with connected(url) as connection:
        return {
            kind: [
                tuple(
                    text.replace(f"{schema}.", "") if isinstance(text, str) else text
                    for text in row
                )
                for row in connection.execute(query.encode(), {"schema": schema}).fetchall()
            ]
            for kind, query in QUERIES.items()
        }
