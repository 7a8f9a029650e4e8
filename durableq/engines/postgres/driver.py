"""The driver, psycopg 3, and the types that values have on our connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from durableq.model.errors import Unsupported

try:
    import psycopg
    from psycopg import RawCursor, adapt, pq
    from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
except ImportError as error:  # the extra is not installed, or libpq is missing
    raise Unsupported(
        f"PostgreSQL needs the driver psycopg, which cannot be imported ({error}). "
        "Install it: pip install 'durableq[postgres]'."
    ) from error

__all__ = ["IDLE", "Link", "connect", "driver", "pq"]

driver: Final = psycopg
IDLE: Final = pq.TransactionStatus.IDLE
#: Statements that a connection keeps prepared: more than there are.
PREPARED: Final = 500
#: The mark of stored bytes. JSON text never begins so.
_BYTES: Final = b"\\x"


class _BytesDumper(adapt.Dumper):
    """Bytes as a literal without a type: a column of bytes reads it, a body keeps it as text."""

    format = pq.Format.TEXT
    oid = 0

    def dump(self, obj: bytes | bytearray) -> bytes:
        """Return the literal."""
        return _BYTES + obj.hex().encode()


class _BodyLoader(adapt.Loader):
    """A body: JSON text, or bytes. No other column of ours is VARCHAR, apart from a revision."""

    format = pq.Format.BINARY

    def load(self, data: Any) -> str | bytes:
        """Return the body."""
        stored = bytes(data)
        if stored.startswith(_BYTES):
            return bytes.fromhex(stored[2:].decode())
        return stored.decode()


class _SumLoader(NumericBinaryLoader):
    """A sum of whole numbers, which PostgreSQL calculates as a numeric."""

    def load(self, data: Any) -> Any:
        """Return the number."""
        return int(super().load(data))


def connect(conninfo: str, **options: Any) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode, with our types.

    Raises:
        psycopg.OperationalError: the server cannot be reached, or refuses.
    """
    connection: psycopg.Connection[Any] = psycopg.connect(conninfo, autocommit=True, **options)
    connection.prepare_threshold = 0
    connection.prepared_max = PREPARED
    return connection


class Link:
    """A connection of the driver, as shared operations use it. Each has the same types.

    Args:
        connection: of the driver.
    """

    __slots__ = ("_cursor", "connection", "execute_text")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._cursor = _cursor(connection)
        #: Runs text without parameters, perhaps several statements, in one round trip.
        self.execute_text = connection.cursor().execute

    def execute_next(self, text: str, values: Any = ()) -> Any:
        """Run a statement; read its rows before the next one, for one cursor serves all."""
        return self._cursor.execute(text, _ordered(text, values))

    def execute(self, text: str, values: Any = ()) -> Any:
        """Run a statement and return a cursor of its own."""
        return _cursor(self.connection).execute(text, _ordered(text, values))

    def executemany(self, text: str, rows: Any) -> Any:
        """Run a statement once for each row of values."""
        cursor = _cursor(self.connection)
        cursor.executemany(text, [*rows])
        return cursor

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, perhaps one that has failed."""
        return self.connection.pgconn.transaction_status != IDLE


def _ordered(text: Any, values: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the values in the order of their numbers."""
    if type(values) is dict:
        return [values[name] for name in text.names] if values else None
    return values or None  # type: ignore[return-value]


def _cursor(connection: psycopg.Connection[Any]) -> RawCursor[Any]:
    cursor = RawCursor(connection)
    cursor.format = pq.Format.BINARY
    adapters = cursor.adapters
    for number in (int, bool):
        adapters.register_dumper(number, Int8BinaryDumper)
    for text in (bytes, bytearray):
        adapters.register_dumper(text, _BytesDumper)
    adapters.register_loader("varchar", _BodyLoader)
    adapters.register_loader("numeric", _SumLoader)
    return cursor
