"""The connection by which others see that this process lives, and by which it hears of writes.

It holds a session advisory lock for each worker of this process, and one for each worker that this
process, as its supervisor, answers for. The server frees them when the connection ends, as it does
with the process. A connection may also be lost alone: it is replaced at once, and the locks are
taken again, so others look twice before they take a worker for dead.

While the process waits for writes, or may begin to, it also holds a lock that all such processes
share: hot sends notify only where somebody holds it. A process that is busy for QUIET_SECONDS gives
it back. One that takes it waits for all that write at that moment, and looks for messages then: a
send that did not see the lock has committed by then, and is found.
"""

from __future__ import annotations

import json
import math
import select
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durableq.engines.postgres.connecting import lift_limits
from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.session import BEGIN_BESIDE, Session
from durableq.engines.sql import fleet
from durableq.model.errors import DurableQError
from durableq.model.info import WorkerInfo
from durableq.runtime.wakeup import WakeupEvent

if TYPE_CHECKING:
    import psycopg

    from durableq.engines.postgres.database import Database

#: Time between attempts to reach a server that is gone.
AGAIN_SECONDS: Final = 0.2
#: Time between attempts to take a lock that another process tries at the moment.
RETRY_SECONDS: Final = 0.02
#: Time after which a process that was notified and does not wait is busy.
QUIET_SECONDS: Final = 0.5
#: Attempts to take the lock of those that wait: a sender looks at it for a moment.
ATTEMPTS: Final = 50
_TRY: Final = "SELECT pg_try_advisory_lock($1::int, $2::int)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1::int, $2::int)"
_ENTER: Final = (
    "INSERT INTO durableq_worker "
    "SELECT * FROM jsonb_populate_record(NULL::durableq_worker, $1::jsonb) ON CONFLICT DO NOTHING"
)


class LockKey(NamedTuple):
    """The two parts of an advisory lock's key, as signed numbers."""

    kind: int
    of: int


def lock_key_of(kind: int, owner_id: int) -> LockKey:
    """Return the key of a worker's lock; owner ids have 32 bits, without a sign."""
    return LockKey(kind, owner_id - (1 << 32) if owner_id >= 1 << 31 else owner_id)


class Presence:
    """The connection of this process that holds locks and listens. Safe to use from threads.

    Args:
        database: opens the connection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.forget_parent()

    def forget_parent(self) -> None:
        """Begin without a connection, as a forked process does."""
        #: Held while the connection is used: by the thread, or by a caller.
        self._turn = threading.Lock()
        self._wake: WakeupEvent | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._since = math.inf
        self._was_lost = False
        self._wanted: set[LockKey] = set()
        self._held: set[LockKey] = set()
        #: The rows of this process's workers, to be entered again if they were taken for dead.
        self._rows: dict[int, str] = {}
        self._listeners: set[WakeupEvent] = set()
        #: Whether senders notify this process, and have done so since a wait began.
        self._is_told = self._is_heard = False
        #: The number of waits, and when the last one ended.
        self._waiting = 0
        self._waited_at = 0.0

    # ---- for callers

    def lasts(self, seconds: float) -> bool:
        """Return whether it has a connection, which is not the successor of a recent loss."""
        lasted = time.monotonic() - self._since
        return lasted >= (seconds if self._was_lost else 0.0)

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker's row while its lock is held, so that it is never seen without.

        Raises:
            Busy, DatabaseUnusable: the server cannot be reached, or refuses.
        """
        with self._turn:
            session = Session(self._database, Link(self._opened()))
            try:
                session.begin(BEGIN_BESIDE, alone=False)
                entered = fleet.enter(session, worker)
                self._take(lock_key_of(self._database.worker_locks, entered.owner_id))
                session.commit(quietly=True)
            except BaseException as error:
                self._lose()  # with the lock
                meaning = session.meaning(error)
                if meaning is error:
                    raise
                raise meaning from error
            row = fleet.as_row(entered) | {"id": entered.owner_id}
            self._rows[entered.owner_id] = json.dumps(row)
            return session.shown(entered)

    def enter_again(self, owner_id: int) -> bool:
        """Enter the row of a worker again that others took for dead; False if it is not ours."""
        with self._turn:
            if owner_id not in self._rows:
                return False
            with suppress(driver.Error, DurableQError):
                self._enter_rows([self._rows[owner_id]])
            return True

    def leave(self, owner_id: int) -> None:
        """Free the lock of a worker whose row is gone."""
        with self._turn:
            self._rows.pop(owner_id, None)
            self._free(lock_key_of(self._database.worker_locks, owner_id))

    def answer_for(self, owner_ids: Iterable[int]) -> None:
        """Hold the locks of the supervisor of these workers, and of no others."""
        kind = self._database.supervisor_locks
        wanted = {lock_key_of(kind, owner_id) for owner_id in owner_ids}
        with self._turn:
            for key in [key for key in self._wanted if key.kind == kind and key not in wanted]:
                self._free(key)
            with suppress(driver.Error, DurableQError):
                self._opened()
                for key in wanted - self._wanted:
                    self._take(key)
            self._wanted |= wanted
            self._stir()

    def listen(self, event: WakeupEvent) -> None:
        """Set an event at each write from now on.

        Raises:
            Busy, DatabaseUnusable: the server cannot be reached, or refuses.
        """
        with self._turn:
            self._opened()
            self._listeners.add(event)
            self._ask()

    def ignore(self, event: WakeupEvent) -> None:
        """Set this event no more."""
        with self._turn:
            self._listeners.discard(event)
            if not self._listeners:
                self._rest()

    def begin_wait(self) -> bool:
        """Begin a wait; return whether no write can have been missed since the last one."""
        with self._turn:
            self._waiting += 1
            self._is_heard = False
            if self._is_told:
                return True
            with suppress(driver.Error, DurableQError):
                self._opened()
                self._ask()
            return False

    def end_wait(self) -> None:
        """End a wait."""
        with self._turn:
            self._waiting -= 1
            self._waited_at = time.monotonic()

    def close(self) -> None:
        """Close the connection: the locks are free."""
        with self._turn:
            self._lose()
            self._wanted.clear()
            self._rows.clear()
            wake, self._wake = self._wake, None
            if wake is not None:
                wake.set()

    # ---- the connection; each caller has the turn

    def _opened(self) -> psycopg.Connection[Any]:
        """Return the connection, and begin to watch it.

        Raises:
            Busy, DatabaseUnusable: the server cannot be reached, or refuses.
        """
        if self._wake is None:
            self._wake = WakeupEvent()
            threading.Thread(
                target=self._run, args=[self._wake], name="presence", daemon=True
            ).start()
        if self._connection is None:
            self._connection = connection = self._database.connect()
            try:
                for key in self._wanted:  # first: others look twice, with little time between
                    self._take(key)
                lift_limits(connection)
                connection.execute(f"LISTEN {self._database.channel}".encode(), prepare=False)
                self._enter_rows(self._rows.values())
                if self._listeners:
                    self._ask()
            except BaseException:
                self._lose()
                raise
            self._since = time.monotonic()
            self._stir()
        return self._connection

    def _take(self, key: LockKey) -> None:
        """Take a lock, or leave it to the thread while another process tries it."""
        assert self._connection is not None  # noqa: S101 - the caller has opened it
        self._wanted.add(key)
        (taken,) = Link(self._connection).execute(_TRY, key).fetchone()
        if taken:
            self._held.add(key)

    def _free(self, key: LockKey) -> None:
        self._wanted.discard(key)
        if key in self._held and self._connection is not None:
            self._held.discard(key)
            try:
                Link(self._connection).execute(_UNLOCK, key)
            except driver.Error:
                self._lose()

    def _ask(self) -> None:
        """Let senders notify this process, and wait for those that write already."""
        connection = self._connection
        if connection is None or self._is_told:
            return
        for _ in range(ATTEMPTS):  # a session that keeps it is a sender's that was cut off: as good
            (taken,) = connection.execute(self._database.begin_listening).fetchone() or (True,)
            if taken:
                break
            time.sleep(0.001)
        self._is_told = True
        try:
            connection.execute(self._database.let_writers_end, prepare=False)
        except driver.errors.LockNotAvailable:  # a transaction of user code: the next look serves
            connection.execute("ROLLBACK", prepare=False)

    def _rest(self) -> None:
        """Let senders notify this process no more."""
        if self._is_told and self._connection is not None:
            self._is_told = False
            try:
                self._connection.execute(self._database.end_listening)
            except driver.Error:
                self._lose()

    def _enter_rows(self, rows: Iterable[str]) -> None:
        link = Link(self._opened())
        for row in rows:
            link.execute(self._database.in_schema(_ENTER), (row,))

    def _lose(self) -> None:
        """Drop the connection, and with it the locks."""
        connection, self._connection = self._connection, None
        self._since = math.inf
        self._is_told = False
        self._was_lost |= connection is not None
        self._held.clear()
        if connection is not None:
            with suppress(driver.Error):
                connection.close()

    def _stir(self) -> None:
        if self._wake is not None:
            self._wake.set()

    # ---- the thread

    def _run(self, wake: WakeupEvent) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        while True:
            with self._turn:
                if self._wake is not wake:
                    wake.close()
                    return
                fileno, seconds = self._look()
            poller = select.poll()
            poller.register(wake, select.POLLIN)
            if fileno >= 0:
                poller.register(fileno, select.POLLIN)
            poller.poll(None if seconds is None else seconds * 1000)
            wake.clear()

    def _look(self) -> tuple[int, float | None]:
        """Read what has come; return the descriptor to wait for, and the longest wait."""
        was = self._connection
        heard = False
        try:
            connection = self._opened()
            heard = connection is not was or _was_notified(connection)
            for key in self._wanted - self._held:
                self._take(key)
        except (driver.Error, DurableQError):
            self._lose()
            self._tell()
            return -1, 0.0 if was is not None else AGAIN_SECONDS
        if heard:
            self._tell()
        seconds = self._seconds_until_busy()
        return connection.fileno(), RETRY_SECONDS if self._wanted - self._held else seconds

    def _seconds_until_busy(self) -> float | None:
        """Return when to look whether this process is busy; rest if it is.

        None: nobody has notified it since a wait began, so to be told costs nobody anything.
        """
        if not (self._is_told and self._is_heard):
            return None
        left = self._waited_at + QUIET_SECONDS - time.monotonic()
        if self._waiting or left > 0:
            return QUIET_SECONDS if self._waiting else left
        self._rest()
        return None

    def _tell(self) -> None:
        self._is_heard = True
        for event in self._listeners:
            if not event.is_set:
                event.set()


def _was_notified(connection: psycopg.Connection[Any]) -> bool:
    pgconn = connection.pgconn
    pgconn.consume_input()
    found = False
    while pgconn.notifies() is not None:
        found = True
    return found
