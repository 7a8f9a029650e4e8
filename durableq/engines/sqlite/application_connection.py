"""A connection to the file that an application's framework uses as its own.

It waits, registers and checks as `dq.engine` does, so that the framework's tables and durableq's
may be in one file. The errors are the driver's, which the framework translates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import use_wal
from durableq.engines.sqlite.url import SYNCHRONOUS
from durableq.model.errors import DurableQError

__all__ = ["SYNCHRONOUS", "ApplicationConnection", "driver"]

T = TypeVar("T")


class ApplicationConnection:
    """One connection, open until `close`.

    Args:
        path: the file, which is made if it is missing.
        busy_timeout_ms: how long a statement waits for other processes.
        synchronous: `full`, or `normal`.
        detect_types: of the driver: which values it converts.

    Raises:
        driver.OperationalError: the file cannot be used, and why.
    """

    def __init__(
        self, path: Path, *, busy_timeout_ms: int, synchronous: str = "full", detect_types: int = 0
    ) -> None:
        location = Location(path, synchronous, busy_timeout_ms)
        with _as_driver_errors():
            self._database = Database(location)
            self.raw = self._database.connect(detect_types)
            self.raw.text_factory = str
            try:
                self._database.lock.retrying(lambda: use_wal(self.raw, self._database))
            except BaseException:
                self.close()
                raise

    def begin(self) -> None:
        """Begin a transaction that writes, when it is this process's turn.

        Raises:
            driver.OperationalError: other processes wrote for the whole wait, or this thread has
                another transaction open on the file.
        """
        with _as_driver_errors():
            self._database.begin_application(self.raw)

    def run(self, statement: Callable[[], T]) -> T:
        """Run a statement; outside a transaction it is repeated while another process writes.

        Raises:
            driver.Error: it failed.
        """
        if self.raw.in_transaction:
            return statement()
        with _as_driver_errors():
            answer = self._database.lock.retrying(statement)
        if not self.raw.in_transaction:
            self._database.checkpointer.keep_short(self.raw)
        return answer

    def check(self) -> None:
        """Refuse a commit into a file that was replaced.

        Raises:
            driver.OperationalError: it was.
        """
        with _as_driver_errors():
            self._database.file.check()

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._database.file.remove(self.raw)
        self.raw.close()


@contextmanager
def _as_driver_errors() -> Iterator[None]:
    try:
        yield
    except DurableQError as error:
        raise driver.OperationalError(str(error)) from error
