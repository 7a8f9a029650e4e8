"""The address of a PostgreSQL database, and durableq's schema in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from durableq.model.errors import InvalidInput
from durableq.model.text import address, shown, visible
from durableq.model.units import check_whole, to_ms

SCHEMES: Final = ("postgresql", "postgres")
#: Milliseconds for which a write waits for the others, and a thread for a connection.
BUSY_TIMEOUT_MS: Final = 30_000
_LONGEST_TIMEOUT_MS: Final = 24 * 3_600_000
#: The most connections for the calls of a process.
POOL_SIZE: Final = 32
_LARGEST_POOL: Final = 1_000
_LONGEST_NAME: Final = 63

#: Differences of the keys of locks from that of the schema's writes: of the fold of counters, and
#: of the processes that wait for writes.
FOLDING, LISTENING = 1, 2


@dataclass(frozen=True, slots=True)
class Location:
    """One schema of one PostgreSQL database."""

    #: The address as libpq reads it.
    conninfo: str
    #: None: the first schema of the user's search path.
    schema: str | None = None
    busy_timeout_ms: int = BUSY_TIMEOUT_MS
    pool_size: int = POOL_SIZE

    @classmethod
    def parse(cls, url: str) -> Location:
        """Read `postgresql://user@host:port/database?schema=name`, with any options of libpq.

        `schema`, `busy_timeout` (seconds) and `pool_size` are options of durableq.
        https://www.postgresql.org/docs/current/libpq-connect.html has the options.

        Raises:
            InvalidInput: it is no such URL.
        """
        scheme, separator, rest = url.partition("://")
        if scheme not in SCHEMES or not separator or "\0" in url:
            raise InvalidInput(f"{shown(address(url))} is not the URL of a PostgreSQL database.")
        authority, slash, path = rest.partition("/")
        user, at, host = authority.rpartition("@")
        if "@" in user or "@" in path.partition("?")[0]:
            raise InvalidInput(
                f"{shown(address(url))} has an @ or a / in its user or password. Write %40 and %2F."
            )
        before, _, query = f"{host}{slash}{path}".partition("?")
        options, fields = [], {}
        for option in filter(None, query.split("&")):
            name, value = map(unquote, option.partition("=")[::2])
            if name not in _READERS:
                options.append(option)
                continue
            field, read = _READERS[name]
            if field in fields:
                place = shown(address(url))
                raise InvalidInput(f"{name} is given twice in {place}. Leave one out.")
            fields[field] = read(value)
        given = f"?{'&'.join(options)}" if options else ""
        return cls(f"postgresql://{user}{at}{before}{given}", **fields)

    @property
    def shown(self) -> str:
        """The address for messages, without its password."""
        plain = address(self.conninfo)
        return plain if self.schema is None else f"{plain} (schema {self.schema})"


def _checked_schema(name: str) -> str:
    """Return the name of a schema.

    Raises:
        InvalidInput: it is none.
    """
    if not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise InvalidInput(
            f"schema={visible(name, 60)} is no name of a schema: it has 1 to {_LONGEST_NAME} bytes."
        )
    return name


def _busy_timeout_ms(value: str) -> int:
    try:
        seconds = float(value)
    except ValueError:
        raise InvalidInput(f"busy_timeout is in seconds, got {shown(value)}.") from None
    # At least one: for the server, 0 is no limit.
    return max(1, to_ms(seconds, "busy_timeout", _LONGEST_TIMEOUT_MS))


def _pool_size(value: str) -> int:
    size: Any = int(value) if value.isascii() and value.isdigit() and len(value) < 9 else value
    check_whole(size, "pool_size", 1, _LARGEST_POOL)
    return int(size)


def _refuse_synchronous_commit(value: str) -> None:
    raise InvalidInput(
        f"synchronous_commit={visible(value, 60)} is no option of a URL: what durableq has "
        "acknowledged is always on the disk of the server. Leave it out; for standbys too, write "
        "options=-csynchronous_commit%3Dremote_apply."
    )


#: The options of ours: the field of a Location, and what reads its value.
_READERS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "schema": ("schema", _checked_schema),
    "busy_timeout": ("busy_timeout_ms", _busy_timeout_ms),
    "pool_size": ("pool_size", _pool_size),
    "synchronous_commit": ("", _refuse_synchronous_commit),
}


def lock_key(database: str, schema: str) -> int:
    """Return the key of the advisory lock of a schema's writes: 64 bits with a sign."""
    digest = hashlib.sha256(f"durableq\0{database}\0{schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def lock_kind(kind: str, database: str, schema: str) -> int:
    """Return the first part of the keys of a kind of locks of a schema: 32 bits with a sign."""
    digest = hashlib.sha256(f"durableq {kind}\0{database}\0{schema}".encode()).digest()
    return int.from_bytes(digest[:4], "big", signed=True)
