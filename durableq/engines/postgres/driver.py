"""The driver, psycopg 3, and the types that values have on our connections."""

from __future__ import annotations

import select
from collections.abc import Mapping, Sequence
from typing import Any, Final

from durableq.model.errors import Unsupported

try:
    import psycopg
    from psycopg import RawCursor, adapt, generators, pq
    from psycopg.errors import error_from_result
    from psycopg.rows import tuple_row
    from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
except ImportError as error:  # the extra is not installed, or libpq is missing
    raise Unsupported(
        f"PostgreSQL needs the driver psycopg, which cannot be imported ({error}). "
        "Install it: pip install 'durableq[postgres]'."
    ) from error

__all__ = ["IDLE", "PREPARED", "Link", "driver", "pq"]

driver: Final = psycopg
IDLE: Final = pq.TransactionStatus.IDLE
_OPEN: Final = frozenset((pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR))
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


def _adapters() -> adapt.AdaptersMap:
    """Return the types of our statements: the driver's own, whatever the application registers."""
    adapters = adapt.AdaptersMap(psycopg.adapters)
    for number in (int, bool):
        adapters.register_dumper(number, Int8BinaryDumper)
    for text in (bytes, bytearray):
        adapters.register_dumper(text, _BytesDumper)
    adapters.register_loader("varchar", _BodyLoader)
    adapters.register_loader("numeric", _SumLoader)
    return adapters


_ADAPTERS: Final = _adapters()


class _Cursor(RawCursor[Any]):
    """A cursor with our types; those of its connection are its owner's."""

    @property
    def adapters(self) -> adapt.AdaptersMap:
        """The types of our statements."""
        return _ADAPTERS


class Link:
    """A connection of the driver, as shared operations use it. Each has the same types.

    Args:
        connection: of the driver.
        prepare: whether to prepare statements at once; None leaves it to the connection.
    """

    __slots__ = (
        "_cursor",
        "_loader",
        "_names",
        "connection",
        "execute_text",
        "generation",
        "is_spent",
        "prepare",
    )

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool | None = True) -> None:
        self.connection = connection
        self.prepare = prepare
        self._cursor = self._new_cursor()
        #: Runs text without parameters, perhaps several statements, in one round trip.
        self.execute_text = _Cursor(connection, row_factory=tuple_row).execute
        #: Of `call`: the names of prepared statements, and what reads rows.
        self._names: dict[str, bytes] = {}
        self._loader = adapt.Transformer(self._cursor)
        #: Whether it is not to be used again, although it seems to be open.
        self.is_spent = False
        #: Changes whenever the pool closes all its connections.
        self.generation = 0

    def execute_next(self, text: str, values: Any = ()) -> Any:
        """Run a statement; read its rows before the next one, for one cursor serves all."""
        return self._cursor.execute(text, _ordered(text, values), prepare=self.prepare)

    def execute(self, text: str, values: Any = ()) -> Any:
        """Run a statement and return a cursor of its own."""
        return self._new_cursor().execute(text, _ordered(text, values), prepare=self.prepare)

    def executemany(self, text: str, rows: Any) -> Any:
        """Run a statement once for each row of values."""
        cursor = self._new_cursor()
        cursor.executemany(text, [*rows])
        return cursor

    def call(self, text: str, values: Sequence[bytes | None]) -> list[tuple[Any, ...]]:
        """Run a statement with values in binary form, and return its rows.

        A cursor takes 20 µs more: it looks for the form of each value, and describes the answer.
        """
        pgconn = self.connection.pgconn
        formats = [pq.Format.BINARY] * len(values)
        if self.prepare is not True:  # what one session has prepared may not be in the next
            pgconn.send_query_params(text.encode(), values, None, formats, pq.Format.BINARY)
        else:
            name = self._names.get(text) or self._prepare(text)
            pgconn.send_query_prepared(name, values, formats, pq.Format.BINARY)
        result = self._answer()
        if result.status != pq.ExecStatus.TUPLES_OK:
            self._names.pop(text, None)  # other code may have dropped it
            raise error_from_result(result)
        self._loader.set_pgresult(result)
        return self._loader.load_rows(0, result.ntuples, tuple)

    def _prepare(self, text: str) -> bytes:
        name = f"durableq_{len(self._names)}_{id(text)}".encode()
        self.connection.pgconn.send_prepare(name, text.encode())
        result = self._answer()
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise error_from_result(result)
        self._names[text] = name
        return name

    def _answer(self) -> Any:
        """Wait for the answer of a statement, as the driver does."""
        (result,) = self.connection.wait(generators.execute(self.connection.pgconn))
        return result

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, perhaps one that has failed.

        After Ctrl-C within the driver a statement may be running still: such a connection takes no
        other one, and is closed.
        """
        return self.connection.pgconn.transaction_status in _OPEN

    @property
    def is_usable(self) -> bool:
        """Whether the connection can be used again: it is open, and not in a transaction."""
        return not self.is_spent and self.connection.pgconn.transaction_status == IDLE

    def is_alive(self) -> bool:
        """Return whether the server still has the other end, as far as this end was told.

        What the server says to a connection that is not in use is its last word, or a notice.
        """
        pgconn = self.connection.pgconn
        try:
            poll = select.poll()
            poll.register(pgconn.socket, select.POLLIN)
            while poll.poll(0):
                pgconn.consume_input()
        except (driver.Error, OSError, ValueError):
            return False
        return True

    def _new_cursor(self) -> _Cursor:
        cursor = _Cursor(self.connection, row_factory=tuple_row)
        cursor.format = pq.Format.BINARY
        return cursor


def _ordered(text: Any, values: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the values in the order of their numbers."""
    if type(values) is dict:
        return [values[name] for name in text.names] if values else None
    return values or None  # type: ignore[return-value]
