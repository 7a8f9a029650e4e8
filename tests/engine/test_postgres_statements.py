"""A real PostgreSQL accepts each generated statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from durableq.engines import open_store
from durableq.engines.postgres import statements
from durableq.engines.sql.dialect import RowStatement

TEXTS = {
    name: value.text if isinstance(value, RowStatement) else value
    for name, value in vars(statements).items()
    if name.isupper() and isinstance(value, str | RowStatement)
}


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    open_store(postgres_url).close()
    server, _, schema = postgres_url.rpartition("schema=")
    with closing(psycopg.connect(server.rstrip("&?"), autocommit=True)) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        yield connection


def test_postgresql_prepares_each_statement(connection: psycopg.Connection) -> None:
    assert len(TEXTS) > 150
    for name, text in TEXTS.items():
        connection.execute(f"PREPARE statement AS {text}".encode())
        prepared = connection.execute(
            "SELECT name FROM pg_prepared_statements WHERE name = 'statement'"
        ).fetchall()
        assert prepared == [("statement",)], name
        connection.execute("DEALLOCATE statement")
