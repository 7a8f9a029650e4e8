"""A real PostgreSQL accepts each shared statement and the tables."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy

from durableq.engines import sql
from durableq.engines.sql.dialect import Statement, Statements
from durableq.engines.sql.tables import metadata
from tests.engine import postgresql

pytestmark = pytest.mark.xdist_group("postgresql")  # one server


def statements_in(value: object, name: str) -> Iterator[tuple[str, Statement]]:
    if isinstance(value, Statement):
        yield name, value
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            yield from statements_in(part, f"{name}.{number}")


STATEMENTS = {
    name: statement
    for module in pkgutil.iter_modules(sql.__path__, f"{sql.__name__}.")
    for attribute, value in vars(importlib.import_module(module.name)).items()
    for name, statement in statements_in(value, f"{module.name.rpartition('.')[2]}.{attribute}")
}


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with postgresql.server() as conninfo:
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo)
        )
        metadata.create_all(engine)
        engine.dispose()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection


def test_the_engine_has_shared_statements() -> None:
    assert len(STATEMENTS) > 70


@pytest.mark.parametrize("name", STATEMENTS)
def test_postgresql_prepares(name: str, connection: psycopg.Connection) -> None:
    text = Statements(postgresql.DIALECT)[STATEMENTS[name]]
    connection.execute(f"PREPARE statement AS {text}".encode())
    prepared = connection.execute(
        "SELECT name FROM pg_prepared_statements WHERE name = 'statement'"
    ).fetchall()
    assert prepared == [("statement",)]
    connection.execute("DEALLOCATE statement")
