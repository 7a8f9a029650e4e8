"""A real PostgreSQL accepts each shared statement and the tables."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy

from durableq.engines.sql.definitions import generation
from durableq.engines.sql.definitions.tables import metadata
from tests.engine import postgresql

pytestmark = pytest.mark.xdist_group("postgresql")  # one server


STATEMENTS = {
    f"{module}.{name}": statement.construct
    for module, defined in generation.statements().items()
    for name, statement in defined.items()
} | {
    f"{module}.{name}_ONE": statement.of_one
    for module, defined in generation.statements().items()
    for name, statement in defined.items()
    if statement.for_one
}


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with postgresql.server() as conninfo:
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo)
        )
        metadata.create_all(engine)
        with engine.begin() as created:  # as migrations make it
            created.execute(sqlalchemy.text("CREATE TABLE durableq_version (version_num VARCHAR)"))
        engine.dispose()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection


def test_the_engine_has_shared_statements() -> None:
    assert len(STATEMENTS) > 70


@pytest.mark.parametrize("name", STATEMENTS)
def test_postgresql_prepares(name: str, connection: psycopg.Connection) -> None:
    text = generation.compile_text(STATEMENTS[name], postgresql.DIALECT)
    connection.execute(f"PREPARE statement AS {text}".encode())
    prepared = connection.execute(
        "SELECT name FROM pg_prepared_statements WHERE name = 'statement'"
    ).fetchall()
    assert prepared == [("statement",)]
    connection.execute("DEALLOCATE statement")
