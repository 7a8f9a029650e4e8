"""The address of a PostgreSQL database, and durableq's schema in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from durableq.model.errors import InvalidInput
from durableq.model.text import shown, visible

SCHEMES: Final = ("postgresql", "postgres")
#: Milliseconds for which a write waits for the others.
BUSY_TIMEOUT_MS: Final = 30_000
#: Options of libpq that a URL may name: https://www.postgresql.org/docs/current/libpq-connect.html
_LONGEST_NAME: Final = 63
_PASSWORD: Final = re.compile(r"(?<=:)[^:@/]*(?=@)")


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

        Raises:
            InvalidInput: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or "\0" in url:
            raise InvalidInput(f"{shown(url)} is not the URL of a PostgreSQL database.")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = given.pop("schema", None)
        if schema is not None and not 0 < len(schema.encode()) <= _LONGEST_NAME:
            raise InvalidInput(
                f"schema={visible(schema, 60)} is no name of a schema: it has 1 to "
                f"{_LONGEST_NAME} bytes."
            )
        query = urlencode(given, quote_via=quote)
        plain = urlunsplit(parts._replace(scheme="postgresql", query=query, fragment=""))
        return cls(plain, schema)

    @property
    def shown(self) -> str:
        """The address for messages, without its password."""
        plain = _PASSWORD.sub("***", self.conninfo, count=1)
        return plain if self.schema is None else f"{plain} (schema {self.schema})"


def lock_key(database: str, schema: str) -> int:
    """Return the key of the advisory lock of a schema's writes: 64 bits with a sign."""
    digest = hashlib.sha256(f"durableq\0{database}\0{schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
