"""DurableQ, an application's queues in one store, and Queue, one of them."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Unpack

from durableq.client.delivery import Deliveries, Delivery
from durableq.client.handlers import Handlers
from durableq.client.producer import Producer
from durableq.engines import create_store, file_of, open_store
from durableq.model.errors import Conflict, InvalidInput, UnknownQueue, Unsupported
from durableq.model.limits import MAX_BODY_BYTES, MAX_SEND_BATCH, MAX_STORE_RECEIVES
from durableq.model.message import Draft, IdempotencyRecord, Received, SendOptions, check_key, draft
from durableq.model.queues import (
    DEAD_LETTER_SUFFIX,
    QueueOptions,
    QueueSettings,
    changes_from,
    check_queue_name,
)
from durableq.model.text import shown, visible
from durableq.model.units import to_ms
from durableq.runtime.clock import Clock
from durableq.store.core import Capability, QueueInfo, Store

DEFAULT_URL: Final = "durableq.db"
URL_VARIABLE: Final = "DURABLEQ_DB"


class DurableQ(Handlers):
    """An application: its queues, handlers and recovery policies, on one file.

    Nothing is opened or created before the first use, so a module may make one at import.

    Args:
        url: a path, `sqlite:///path?synchronous=normal`, or `memory://`; None means the
            environment's DURABLEQ_DB, or durableq.db in the current directory.
        clock: source of the time; for tests.
        rng: numbers in [0, 1) for the backoff's jitter; for tests.

    Raises:
        InvalidInput: the URL names no store, or not clearly; the message says what to write.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        if not callable(rng):
            raise InvalidInput(f"rng is a function, got {shown(rng)}.")
        if clock is not None and not callable(getattr(clock, "wall_ms", None)):
            raise InvalidInput(f"clock is a durableq.runtime.clock.Clock, got {shown(clock)}.")
        self._url = None if url is None else _checked_url(url)
        self._clock = clock
        self._rng = rng
        self._declared: dict[str, dict[str, int]] = {}
        self._opening = threading.RLock()
        self._store: Store | None = None

    @property
    def url(self) -> str:
        """URL of the store that this application uses."""
        return self._url or os.environ.get(URL_VARIABLE) or DEFAULT_URL

    def use(self, url: str | os.PathLike[str]) -> None:
        """Use another file than the one given at first; before anything was opened.

        Raises:
            InvalidInput: the URL names no store, or not clearly.
            Conflict: the application has opened another file already.
        """
        url = _checked_url(url)
        if self._store is not None and url != self.url:
            raise Conflict(
                f"{visible(self.url, 200)} is open already, so {visible(url, 200)} cannot be used "
                "instead. Where a module sends or receives while it is imported, do that under "
                '`if __name__ == "__main__":`.'
            )
        self._url = url

    @property
    def store(self) -> Store:
        """The engine, opened at the first use.

        Raises:
            DatabaseUnusable: the file cannot be used; it was left untouched.
        """
        with self._opening:
            if self._store is None:
                opened = self._open()
                names = {*self.handlers, *self.policies, *self._declared}
                for name in sorted(names, key=lambda n: (n.endswith(DEAD_LETTER_SUFFIX), n)):
                    _declare(opened, name, self._declared.get(name, {}))
                self._store = opened
            return self._store

    def _open(self) -> Store:
        try:
            return open_store(self.url, clock=self._clock, rng=self._rng)
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
            raise Unsupported(f"{self.url} is not a SQL database: it has no SQLAlchemy engine.")
        return engine

    def queue(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        """Declare a queue and return it; it and its dead-letter queue are created if missing.

        Settings given here are written to the file when it is opened; others stay as they are.

        Args:
            name: 1 to 76 characters of A-Z a-z 0-9 _ . - (with `-dlq` behind it, that queue's
                dead-letter queue).
            options: visibility_timeout, delay, retention, backoff_base, backoff_max,
                idempotency_ttl in seconds; max_receives, max_recoveries, max_body_bytes.

        Raises:
            InvalidInput: a bad name or setting; nothing was declared.
        """
        check_queue_name(name)
        changes = changes_from(**options)
        QueueSettings().changed(changes)  # refused here, not where the file is opened
        with self._opening:
            self._declared.setdefault(name, {}).update(changes)
            if self._store is not None:
                _declare(self._store, name, changes)
        return Queue(self, name)

    def init(self, *, beside_other_tables: bool = False) -> str:
        """Create or upgrade the file, and the queues declared so far.

        Args:
            beside_other_tables: also in a file that holds another application's tables.

        Returns:
            The state before: `empty`, `older`, `current` or `foreign`.

        Raises:
            DatabaseUnusable: the file cannot be used; it was left untouched.
        """
        found = create_store(self.url, clock=self._clock, beside_other_tables=beside_other_tables)
        _ = self.store
        return found

    def migrate(self) -> str:
        """Upgrade a file that an older durableq made; see init."""
        return self.init()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._opening:
            if self._store is not None:
                self._store.close()
                self._store = None

    def __enter__(self) -> DurableQ:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Queue:
    """One queue of an application. Made by `dq.queue(name)`."""

    def __init__(self, app: DurableQ, name: str) -> None:
        self._app = app
        self.name = name

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} in {self._app.url}>"

    def send(self, body: Any, *, connection: Any = None, **options: Unpack[SendOptions]) -> str:
        """Store a message and return its id. When this returns, the message is durable.

        Args:
            body: a JSON value, or bytes.
            connection: a SQLAlchemy connection with an open transaction on the same file (of a
                Session: `session.connection()`), used by one thread at a time: the message then
                exists only if that commits (transactional outbox). None: a commit of its own.
            options: key, attributes, delay (seconds), priority.

        Raises:
            InvalidInput: the message cannot be sent; nothing was stored.
            Conflict, Unsupported: the connection cannot carry a send: closed, in autocommit mode,
                without a transaction, another thread's, another driver's, on another file.
            Busy: other processes held the file for the whole wait; nothing was stored.
            OutcomeUnknown: COMMIT failed; with a key, sending again is safe.
        """
        drafts = [draft(body, **options)]
        if connection is None:
            return self._app.store.send(self.name, drafts)[0]
        return self._send_joining(drafts, connection)[0]

    def send_many(
        self, bodies: Iterable[Any], *, connection: Any = None, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Store messages in one commit, all or none, and return their ids in order.

        Args:
            bodies: at most MAX_SEND_BATCH. For a key each, use producer() or send().
            connection: as for send.
            options: as for send, the same for all; without a key, which would make all but one
                of them duplicates.

        Raises:
            InvalidInput: one cannot be sent, or there are too many; nothing was stored.
        """
        drafts = _drafts(bodies, options)
        if connection is None:
            return self._app.store.send(self.name, drafts)
        return self._send_joining(drafts, connection)

    def _send_joining(self, drafts: list[Draft], connection: Any) -> list[str]:
        joining = self._app.store.require(Capability.TRANSACTIONS)
        return joining.send(self.name, drafts, connection=connection)

    def producer(
        self,
        *,
        batch_size: int = 10,
        linger: float | None = 0.05,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> Producer:
        """Return a Producer, which groups sends into batches: `with queue.producer() as p`.

        Args:
            batch_size: messages in a commit.
            linger: seconds a message may wait for company; None: until the batch is full.
            max_bytes: bytes of bodies in a commit.

        Raises:
            InvalidInput: a number out of bounds.
        """

        def commit(drafts: list[Draft]) -> list[str]:
            return self._app.store.send(self.name, drafts)

        limit = self._app.store.settings(self.name).max_body_bytes
        return Producer(commit, limit, batch_size=batch_size, linger=linger, max_bytes=max_bytes)

    def receive(self, limit: int = 1, *, visibility_timeout: float | None = None) -> Deliveries:
        """Lease up to `limit` messages, without a worker: settle each yourself.

        Duplicates, expired messages and those whose key is in progress or had another payload are
        dealt with on the way; they are not returned. The receive goes on until it has a message
        or none is ready, in at most MAX_STORE_RECEIVES transactions of MAX_SET_ASIDE such
        messages each (100,000 in all): `while messages := queue.receive(10)` leaves nothing ready.

        Args:
            limit: 1 to MAX_RECEIVE_BATCH.
            visibility_timeout: seconds; None means the queue's.

        Returns:
            A list, with `more`: whether others may be ready already.

        Raises:
            InvalidInput: an argument out of bounds.
            Busy: other processes held the file for the whole wait; nothing is leased.
        """
        visibility_ms = (
            None if visibility_timeout is None else to_ms(visibility_timeout, "visibility_timeout")
        )
        store = self._app.store
        received = Received([], [], 0, more=True)
        for _ in range(MAX_STORE_RECEIVES):  # a transaction each: others can write in between
            if received.messages or not received.more:
                break
            received = store.receive(self.name, limit, visibility_ms=visibility_ms)
        actor = f"pid {os.getpid()}"
        deliveries = [Delivery(message, store, actor) for message in received.messages]
        return Deliveries(deliveries, more=received.more)

    def purge(self) -> int:
        """Remove every message, leased ones too; return how many."""
        return self._app.store.require(Capability.CONTROL).purge(self.name)

    def info(self) -> QueueInfo:
        """Return settings, totals and counts as they stand."""
        return self._app.store.require(Capability.INSPECT).queue(self.name)

    def record(self, key: str) -> IdempotencyRecord | None:
        """Return the idempotency record of a key, or None.

        Raises:
            InvalidInput: no message can have such a key.
        """
        check_key(key)
        return self._app.store.require(Capability.IDEMPOTENCY).record(self.name, key)


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
    """Return the file that a URL names; None where it names a store in memory.

    Raises:
        InvalidInput: it names no store, or not clearly.
    """
    return file_of(url)


def _drafts(bodies: Iterable[Any], options: SendOptions) -> list[Draft]:
    """Return a draft of each body.

    Raises:
        InvalidInput: no iterable of bodies, an option that cannot be for all, too many.
    """
    if isinstance(bodies, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(
        bodies, Iterable
    ):
        raise InvalidInput(f"send_many takes a list of bodies, got {shown(bodies)}: use send.")
    draft(None, **options)  # the options are checked, however many bodies there are
    if options.get("key") is not None:
        raise InvalidInput(
            "One key for all would make all but one of the messages duplicates: use send, or "
            "producer(), with a key for each."
        )
    drafts = [draft(body, **options) for body in itertools.islice(bodies, MAX_SEND_BATCH + 1)]
    if len(drafts) > MAX_SEND_BATCH:
        raise InvalidInput(
            f"A batch has at most {MAX_SEND_BATCH} messages, and there are more. Send several "
            "batches, or use queue.producer()."
        )
    return drafts


def _declare(store: Store, name: str, changes: dict[str, int]) -> None:
    """Declare a queue, unless it is there and as it should be: to find out takes no write lock."""
    try:
        settings = store.settings(name)
    except UnknownQueue:
        store.declare_queue(name.removesuffix(DEAD_LETTER_SUFFIX), {})  # it comes with its own
        store.declare_queue(name, changes)
    else:
        if settings.changed(changes) != settings:
            store.declare_queue(name, changes)
