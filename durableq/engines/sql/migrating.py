"""Alembic's run of the migrations, in the transaction of a connection.

They stand in `migrations/`, beside the package in a checkout and inside it in a wheel. One history
serves both databases. That of PostgreSQL begins with the tables of FIRST_ON_POSTGRES.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from durableq.engines.sql.schema import REVISIONS, VERSION_TABLE

if TYPE_CHECKING:
    import sqlalchemy

#: The first revision that has the tables of PostgreSQL.
FIRST_ON_POSTGRES: Final = "0007"


def run_migrations(connection: sqlalchemy.Connection) -> None:
    """Run the migrations that a database lacks, in the transaction of the connection."""
    import sqlalchemy
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        is_new = not sqlalchemy.inspect(connection).has_table(VERSION_TABLE)
        if is_new:
            command.stamp(config, REVISIONS[REVISIONS.index(FIRST_ON_POSTGRES) - 1])
    command.upgrade(config, "head")


def migrations_folder() -> Path:
    """Return the folder of the migrations: in an installed package, or beside a checkout's."""
    package = Path(__file__).parents[2]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
