"""DurableQ: an application's queues, handlers and policies in one store."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Unpack

from durableq.client import progress, tracing
from durableq.client.committing import finish
from durableq.client.once import Values
from durableq.client.queue import Queue
from durableq.client.schedules import Registrations
from durableq.engines import (
    create_store,
    file_of,
    is_served,
    is_there,
    open_store,
    queue_names_in,
)
from durableq.model.errors import Conflict, InvalidInput, UnknownQueue, Unsupported
from durableq.model.queues import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_SUFFIX,
    check_dead_letter_queue,
    check_queue_name,
    dead_letter_name,
    settings_of_changes,
)
from durableq.model.schedules import Schedule
from durableq.model.settings import QueueOptions, QueueSettings, changes_from
from durableq.model.text import address, shown, visible
from durableq.runtime.clock import Clock
from durableq.store.core import Capability, Store

DEFAULT_URL: Final = "durableq.db"
URL_VARIABLE: Final = "DURABLEQ_DB"


class DurableQ(Registrations, Values):
    """An application: its queues, handlers, recovery policies and schedules, on one file.

    Nothing is opened or created before the first use, so a module may make one at import.

    Args:
        url: a path, `sqlite:///path?synchronous=normal`, `postgresql://host/database?schema=name`,
            or `memory://`; None means the environment's DURABLEQ_DB, or durableq.db in the current
            directory.
        clock: source of the time; for tests.
        rng: numbers in [0, 1) for the backoff's jitter and early refreshes; for tests.

    Raises:
        InvalidInput: the URL names no store, or not clearly; the message says what to write.
    """

    #: Whether the database refuses each write; see client/reader.py.
    _is_reader: ClassVar[bool] = False

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        Registrations.__init__(self)
        Values.__init__(self, rng)
        if not callable(rng):
            raise InvalidInput(f"rng is a function, got {shown(rng)}.")
        if clock is not None and not callable(getattr(clock, "wall_ms", None)):
            raise InvalidInput(f"clock is a durableq.runtime.clock.Clock, got {shown(clock)}.")
        self._url = None if url is None else _checked_url(url)
        self._clock = clock
        self._declared: dict[str, dict[str, Any]] = {}
        self._opening = threading.RLock()
        #: Second openings of the store, which are closed with it.
        self.seconds: list[DurableQ] = []
        #: Opens another store than that of the URL; see `override`.
        self._opener: Callable[[], Store] | None = None
        #: The engine, once it is open.
        self.opened: Store | None = None

    @property
    def url(self) -> str:
        """URL of the store that this application uses."""
        return self._url or os.environ.get(URL_VARIABLE) or DEFAULT_URL

    @property
    def address(self) -> str:
        """The URL without its passwords, to be shown."""
        return address(self.url)

    @property
    def declared(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings that the application has declared, as they are stored, by queue."""
        return self._declared

    @property
    def clock(self) -> Clock | None:
        """Source of the time; None: the system's."""
        return self._clock

    def use(self, url: str | os.PathLike[str]) -> None:
        """Use another file than the one given at first; before anything was opened.

        Inside `override` the URL is checked, and the store stays that of the test.

        Raises:
            InvalidInput: the URL names no store, or not clearly.
            Conflict: the application has opened another file already.
        """
        url = _checked_url(url)
        if self._opener is not None:
            return
        if self.opened is not None and url != self.url:
            raise Conflict(
                f"{visible(self.address, 200)} is open already, so {visible(address(url), 200)} "
                "cannot be used instead. Where a module sends or receives while it is imported, "
                'do that under `if __name__ == "__main__":`.'
            )
        self._url = url

    @property
    def store(self) -> Store:
        """The engine, opened at the first use.

        Raises:
            DatabaseUnusable: the file cannot be used; it was left untouched.
        """
        with self._opening:
            if self.opened is None:
                opened = self._open()
                schedules = [*self.schedules.values()]
                names = {*self.handlers, *self.policies, *self._declared}
                names |= {schedule.queue for schedule in schedules}
                for name in sorted(names, key=lambda n: (n.endswith(DEAD_LETTER_SUFFIX), n)):
                    _declare(opened, name, self._declared.get(name, {}))
                if schedules:
                    opened.require(Capability.SCHEDULES).declare_schedules(schedules)
                tracing.activate()
                self.opened = opened
            return self.opened

    @contextmanager
    def override(
        self, url: str, opener: Callable[[], Store], *, clock: Clock | None = None
    ) -> Iterator[None]:
        """Use another store inside the block, and forget at its end what was declared in it.

        For tests; see `durableq.contrib.pytest.fresh`. Second openings are closed at its start, so
        that they open the other store too.

        Args:
            url: the name of the store.
            opener: opens it, at the first use and after each `close`.
            clock: its source of the time; None: the system's.

        Raises:
            Conflict: the application has opened its own store already, or another one like this.
        """
        if self._opener is not None:
            raise Conflict("This application has a fresh store already. Give it one at a time.")
        if self.opened is not None:
            raise Conflict(
                f"{visible(self.address, 200)} is open already in this process, so this "
                "application cannot be given another store. Something has used it before: a module "
                "that sends or receives while it is imported (do that under "
                '`if __name__ == "__main__":`), or an earlier test. dq.close() ends that use.'
            )
        before = self._url, self._clock
        declared = {name: dict(of) for name, of in self._declared.items()}
        handlers, policies = dict(self.handlers), dict(self.policies)
        schedules = dict(self.schedules)
        seconds = len(self.seconds)
        self._url, self._clock, self._opener = url, clock, opener
        try:
            self._close_seconds()
            yield
        finally:
            self.close()
            (self._url, self._clock), self._opener = before, None
            self._declared, self.handlers, self.policies = declared, handlers, policies
            self.schedules = schedules
            del self.seconds[seconds:]

    @property
    def is_overridden(self) -> bool:
        """Whether the store is that of a test; see `override`."""
        return self._opener is not None

    def _open(self) -> Store:
        if self._opener is not None:
            return self._opener()
        try:
            read_only = self._is_reader
            return open_store(self.url, clock=self.clock, rng=self._rng, read_only=read_only)
        except InvalidInput as error:
            if self._url is None and os.environ.get(URL_VARIABLE):
                error.add_note(f"It stands in the environment's {URL_VARIABLE}.")
            raise

    @property
    def engine(self) -> Any:
        """A SQLAlchemy Engine on the same file, for your tables and for the outbox.

        Raises:
            Unsupported: this store is not a SQL database.
        """
        engine = getattr(self.store, "engine", None)
        if engine is None:
            raise Unsupported(f"{self.address} is not a SQL database: it has no SQLAlchemy engine.")
        return engine

    def queue(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        """Declare a queue and return it; it and its dead-letter queue are created if missing.

        Settings given here are written to the file when it is opened; others stay as they are.

        Args:
            name: 1 to 80 characters of A-Z a-z 0-9 _ . - (with `-dlq` behind it, that queue's
                dead-letter queue).
            options: as in QueueOptions; times are in seconds, and None switches a limit off. The
                settings of limits are in docs/FLOW_CONTROL.md, the others are visibility_timeout,
                delay, retention, backoff_base, backoff_max, idempotency_ttl, max_receives,
                max_recoveries, max_body_bytes and paused. `dead_letter_queue` is the queue where
                its dead letters go, created if it is missing; None is its own, `NAME-dlq`.

        Raises:
            InvalidInput: a bad name or setting; nothing was declared.
        """
        check_queue_name(name)
        changes = changes_from(**options)
        QueueSettings().changed(settings_of_changes(changes))  # refused here, not at the opening
        check_dead_letter_queue(name, changes.get(DEAD_LETTER_QUEUE))
        with self._opening:
            self._declared.setdefault(name, {}).update(changes)
            if self.opened is not None:
                _declare(self.opened, name, changes)
        return Queue(self, name)

    def _add_schedule(self, schedule: Schedule) -> None:
        super()._add_schedule(schedule)
        with self._opening:
            if self.opened is not None:
                _declare(self.opened, schedule.queue, self._declared.get(schedule.queue, {}))
                self.opened.require(Capability.SCHEDULES).declare_schedules([schedule])

    def init(self, *, beside_other_tables: bool = False) -> str:
        """Create or upgrade the file, and the queues declared so far.

        Args:
            beside_other_tables: also in a file that holds another application's tables.

        Returns:
            The state before: `empty`, `older`, `current` or `foreign`.

        Raises:
            DatabaseUnusable: the file cannot be used; it was left untouched.
        """
        if self._opener is not None:
            found = "empty" if self.opened is None else "current"
        else:
            found = create_store(
                self.url, clock=self._clock, beside_other_tables=beside_other_tables
            )
        _ = self.store
        return found

    def migrate(self) -> str:
        """Upgrade a file that an older durableq made; see init."""
        return self.init()

    def close(self) -> None:
        """Close the file, after the sends and other operations of coroutines that were taken.

        The next use opens it again.
        """
        self._close_seconds()
        with self._opening:
            if self.opened is not None:
                finish(self.opened)
                progress.close(self.opened)
                self.opened.close()
                self.opened = None

    async def aclose(self) -> None:
        """Do as `close` does, in a coroutine; the event loop is not blocked."""
        import asyncio

        await asyncio.shield(asyncio.to_thread(self.close))  # a closing that has begun goes on

    def _close_seconds(self) -> None:
        for second in self.seconds:
            second.close()

    def __enter__(self) -> DurableQ:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> DurableQ:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _checked_url(url: str | os.PathLike[str]) -> str:
    """Return a URL as text, if it names a store.

    Raises:
        InvalidInput: it does not, or not clearly.
    """
    text = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(text, str):
        raise InvalidInput(f"A database is named by a path or a URL as text, got {shown(url)}.")
    file_of(text)
    return text


def file_named(url: str) -> Path | None:
    """Return the file that a URL names; None where it names a store of another kind.

    Raises:
        InvalidInput: it names no store, or not clearly.
    """
    return file_of(url)


def is_shared(url: str) -> bool:
    """Return whether processes of other hosts can use the store that a URL names.

    Raises:
        InvalidInput: it names no store, or not clearly.
    """
    return is_served(url)


def exists(url: str) -> bool:
    """Return whether there is a store where a URL names one.

    Raises:
        InvalidInput: it names no store, or not clearly.
        Busy, DatabaseUnusable: the server of a database cannot be asked.
    """
    return is_there(url)


def queue_names(url: str) -> list[str]:
    """Return the names of the queues of a store; none if it is not there. Nothing is changed.

    Raises:
        InvalidInput: it names no store, or not clearly.
    """
    return queue_names_in(url)


def _declare(store: Store, name: str, changes: dict[str, Any]) -> None:
    """Declare a queue, unless it is there and as it should be: to find out takes no write lock."""
    named, changed = changes.get(DEAD_LETTER_QUEUE), settings_of_changes(changes)
    try:
        settings = store.settings(name)
    except UnknownQueue:
        if DEAD_LETTER_QUEUE not in changes:
            store.declare_queue(name.removesuffix(DEAD_LETTER_SUFFIX), {})  # it comes with its own
        _declare_missing(store, named)
        store.declare_queue(name, changes)
    else:
        if DEAD_LETTER_QUEUE in changes:
            _declare_missing(store, named)
            target = store.require(Capability.INSPECT).queue(name).dead_letter_queue
            if target != (named or dead_letter_name(name)):
                store.declare_queue(name, changes)
                return
        if settings.changed(changed) != settings:
            store.declare_queue(name, changed)


def _declare_missing(store: Store, name: str | None) -> None:
    """Declare a queue that another one names, unless it is there."""
    if name is not None:
        try:
            store.settings(name)
        except UnknownQueue:
            store.declare_queue(name, {})
