"""Backup and restore with PostgreSQL's own programs: the commands, which hold no password."""

from __future__ import annotations

import shlex
from contextlib import closing

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.location import Location

_PASSWORD = "The password is not in it: libpq takes it from PGPASSWORD or ~/.pgpass."  # noqa: S105


def dump_command(schema: str, location: Location, to: str) -> list[str]:
    """Return the command that writes the tables of a schema to a file.

    Args:
        schema: its name as an identifier.
        location: the database.
        to: the path.
    """
    tables = f"--table={schema}.durableq_*"
    return ["pg_dump", "--format=custom", tables, f"--file={to}", f"--dbname={_place(location)}"]


def restore_command(location: Location, dump: str) -> list[str]:
    """Return the command that makes the tables of a file, all or none."""
    options = ["--no-owner", "--single-transaction", "--clean", "--if-exists"]
    return ["pg_restore", *options, f"--dbname={_place(location)}", dump]


def backup_advice(location: Location, to: str) -> str:
    """Return what to run instead of `durableq backup`.

    Raises:
        DatabaseUnreachable, DatabaseUnusable: the schema cannot be asked for.
    """
    command = shlex.join(dump_command(_schema(location), location, to))
    return (
        "durableq copies files only; PostgreSQL dumps its tables itself, while everything runs:\n"
        f"{command}\n{_PASSWORD}"
    )


def restore_advice(location: Location, dump: str) -> str:
    """Return what to run instead of `durableq restore`.

    Raises:
        DatabaseUnreachable, DatabaseUnusable: the schema cannot be asked for.
    """
    command = shlex.join(restore_command(location, dump))
    return (
        "durableq restores files only; PostgreSQL restores a dump itself, in place of durableq's "
        f"tables there. Stop the workers; make the schema {_schema(location)} if it is not there; "
        f"then run:\n{command}\n{_PASSWORD} The next durableq command gives back the leases in the "
        "dump, uncounted, and forgets its workers."
    )


def _schema(location: Location) -> str:
    with closing(Database(location)) as database:
        return database.quoted_schema


def _place(location: Location) -> str:
    given = driver.conninfo.conninfo_to_dict(location.conninfo)
    open_to_all = {k: v for k, v in given.items() if k not in {"password", "sslpassword"}}
    return driver.conninfo.make_conninfo("", **open_to_all)
