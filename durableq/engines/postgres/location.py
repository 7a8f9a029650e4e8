"""The address of a PostgreSQL database, and durableq's schema in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from durableq.model.errors import InvalidInput
from durableq.model.text import address, shown, visible

SCHEMES: Final = ("postgresql", "postgres")
#: Milliseconds for which a write waits for the others.
BUSY_TIMEOUT_MS: Final = 30_000
_LONGEST_NAME: Final = 63
_SCHEMA: Final = "schema"

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

    @classmethod
    def parse(cls, url: str) -> Location:
        """Read `postgresql://user@host:port/database?schema=name`, with any options of libpq.

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
        options, schema = [], None
        for option in filter(None, query.split("&")):
            name, _, value = option.partition("=")
            if unquote(name) == _SCHEMA:
                schema = _checked_schema(unquote(value))
            else:
                options.append(option)
        given = f"?{'&'.join(options)}" if options else ""
        return cls(f"postgresql://{user}{at}{before}{given}", schema)

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


def lock_key(database: str, schema: str) -> int:
    """Return the key of the advisory lock of a schema's writes: 64 bits with a sign."""
    digest = hashlib.sha256(f"durableq\0{database}\0{schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def lock_kind(kind: str, database: str, schema: str) -> int:
    """Return the first part of the keys of a kind of locks of a schema: 32 bits with a sign."""
    digest = hashlib.sha256(f"durableq {kind}\0{database}\0{schema}".encode()).digest()
    return int.from_bytes(digest[:4], "big", signed=True)
