"""The server of the benchmark: schemas of its own, its settings, its processor time."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from durableq.engines.postgres.connecting import connect
from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.location import Location

__all__ = ["Meter", "Schemas", "described", "driver", "location", "watching", "with_options"]

#: Settings on which the figures depend.
SETTINGS: Final = (
    *("fsync", "synchronous_commit", "shared_buffers", "wal_level", "full_page_writes"),
    *("max_wal_size", "autovacuum", "jit"),
)
_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"


def with_options(url: str, **options: str) -> str:
    """Return a URL with more options."""
    added = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{added}"


def location(url: str) -> Location:
    """Return the parts of a URL."""
    return Location.parse(url)


def watching(url: str) -> Any:
    """Return a new connection that finds the tables of the URL's schema."""
    place = Location.parse(url)
    connection = connect(place)
    connection.execute(f'SET search_path = "{place.schema or "public"}"'.encode())
    return connection


def described(url: str) -> dict[str, str]:
    """Return the version of a server, its important settings, and whether its time is seen.

    Raises:
        DatabaseUnusable: it cannot be reached, or used.
    """
    with closing(connect(Location.parse(url))) as connection:
        version = connection.info.parameter_status("server_version")
        found = {"version": version or "unknown"}
        for name in SETTINGS:
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            found[name] = "" if row is None else str(row[0])
    with closing(Meter(url)) as meter:
        found["time"] = "client and server" if meter.sees_server else "wall"
    return found


class Schemas:
    """New schemas with a prefix of this run, which are dropped at the end of the `with` block.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = f"durableq_bench_{os.getpid()}_{secrets.token_hex(4)}"
        self._made: list[str] = []

    def make(self, name: str) -> str:
        """Create a schema, and return the URL of it."""
        schema = f"{self._prefix}_{name}"
        # Noted first: a signal may end this process between the commit and its answer.
        self._made.append(schema)
        with closing(connect(Location.parse(self._url))) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        return with_options(self._url, schema=schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with closing(connect(Location.parse(self._url))) as connection:
            for schema in self._made:
                connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


class Meter:
    """The processor time of this process and of its sessions in the server, in seconds.

    Where the processes of the server are not to be seen, because it runs on another machine or in
    another container, it is wall time.

    Args:
        url: of the database.
        application: the `application_name` of the sessions.
    """

    def __init__(self, url: str, application: str = "") -> None:
        self._application = application
        self._connection = connect(Location.parse(with_options(url, application_name="meter")))
        self.sees_server = _is_server(self._pids("meter"))

    def __call__(self) -> float:
        """Return the time up to now."""
        if not self.sees_server:
            return time.perf_counter()
        return time.process_time() + self.of_server()

    def of_server(self) -> float:
        """Return the time of the sessions alone."""
        return sum(map(_cpu_seconds, self._pids(self._application)))

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()

    def _pids(self, application: str) -> list[int]:
        rows = self._connection.execute(_BACKENDS, (application,)).fetchall()
        return [pid for (pid,) in rows]


def _is_server(pids: list[int]) -> bool:
    for pid in pids:
        with suppress(OSError):
            _cpu_seconds(pid)
            return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"postgres: ")
    return False


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of any process, in nanoseconds' precision, or 0 after its end."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process, on Linux
    except OSError:
        return 0.0
