"""Waiting for the end of a worker: blocked in its lock, which the server frees with its connection.

The lock alone is waited for, not held. A wait is short and begun again, because a statement that
runs keeps the server from removing dead rows; and it ends without an error, which the server would
log.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.postgres.connecting import lift_limits
from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.presence import lock_key_of
from durableq.engines.postgres.session import values_of
from durableq.model.errors import DurableQError

if TYPE_CHECKING:
    import psycopg

    from durableq.engines.postgres.database import Database

#: Longest statement.
WAIT_SECONDS: Final = 10
#: Time between attempts to reach a server that is gone.
AGAIN_SECONDS: Final = 1.0
_WAIT: Final = """\
SET durableq.ended = 'no';
SET lock_timeout = '{seconds}s';
DO $$ BEGIN
  PERFORM pg_advisory_lock({kind}, {of});
  PERFORM pg_advisory_unlock({kind}, {of});
  SET durableq.ended = 'yes';
EXCEPTION WHEN lock_not_available THEN NULL;
END $$;
SHOW durableq.ended"""


class EndWatch:
    """Calls a function, in a thread of its own, when the connection of a worker has ended.

    Args:
        database: opens the connection.
        on_end: is called once for each worker that was followed to its end.
    """

    def __init__(self, database: Database, on_end: Callable[[], None]) -> None:
        self._database = database
        self._on_end = on_end
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._blocked_in: int | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="end of a worker", daemon=True)
        self._thread.start()

    def follow(self, owner_id: int | None) -> None:
        """Wait for the end of this worker, and of no other; repeat it from time to time."""
        with self._changed:
            self._wanted = owner_id
            self._interrupt()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and close the connection."""
        with self._changed:
            self._closing = True
            self._wanted = None
            self._interrupt()
            self._changed.notify_all()
        self._thread.join(AGAIN_SECONDS)

    def _interrupt(self) -> None:
        """End a wait for another worker than the wanted one."""
        if self._blocked_in not in {None, self._wanted} and self._connection is not None:
            with suppress(driver.Error):
                self._connection.cancel()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        while (owner_id := self._next()) is not None:
            ended = False
            try:
                ended = self._wait(owner_id)
            except driver.errors.QueryCanceled:
                pass  # another one is wanted
            except (driver.Error, DurableQError):
                self._drop()
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, AGAIN_SECONDS)
            with self._changed:
                self._blocked_in = None
                ended = ended and self._wanted == owner_id
                if ended:
                    self._wanted = None
            if ended:
                self._on_end()
        self._drop()

    def _next(self) -> int | None:
        """Return the worker to wait for, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._wanted is not None)
            if self._closing:
                return None
            self._blocked_in = self._wanted
            return self._wanted

    def _wait(self, owner_id: int) -> bool:
        """Wait until a worker's lock is free; False if it was not in time."""
        if self._connection is None:
            self._connection = self._database.connect()
            lift_limits(self._connection)
        kind, of = lock_key_of(self._database.worker_locks, owner_id)
        text = _WAIT.format(seconds=WAIT_SECONDS, kind=kind, of=of)
        cursor = self._connection.execute(text.encode(), prepare=False)
        return bool(values_of(cursor) == ("yes",))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver.Error):
                connection.close()
