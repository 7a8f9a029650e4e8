"""The application of a Django project: its sends and settlements join Django's transactions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, Unpack, cast

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from durableq.client.app import DurableQ, exists
from durableq.client.handlers import is_async
from durableq.client.producer import Producer
from durableq.client.queue import Queue
from durableq.contrib.django.configuration import configuration, url_of_database
from durableq.model.errors import Conflict, DurableQError, StaleReceipt, Unsupported
from durableq.model.message import Completion, Draft, Failure, Receipt, SendOptions
from durableq.model.settings import QueueOptions
from durableq.store.capabilities import Transaction
from durableq.store.core import Capability, Store

_Function = TypeVar("_Function", bound=Callable[..., Any])
_ROWS: Final = (
    "message.transaction() is a transaction of Django here: write rows by its models, or by "
    "connection.cursor()."
)


class Project(DurableQ):
    """The application of a Django project, in the database that its settings name."""

    @property
    def url(self) -> str:
        """URL of that database, unless `use` has named another."""
        return self._url or url_of_database()

    def queue(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        """Declare a queue and return it; see DurableQ.queue. Sends join `transaction.atomic()`."""
        super().queue(name, **options)
        return ProjectQueue(self, name)

    def handler(self, queue: str, **options: Any) -> Callable[[_Function], _Function]:
        """Register a handler; see DurableQ.handler.

        Before and after each call, Django's connections are closed that are too old or broken, as
        around a request.
        """
        register = super().handler(queue, **options)

        def registered(function: _Function) -> _Function:
            register(_around(function) if callable(function) else function)
            return function

        return registered

    def init(self, *, beside_other_tables: bool = True) -> str:
        """Create or upgrade durableq's tables, beside Django's, and the queues declared so far."""
        return super().init(beside_other_tables=beside_other_tables)

    def open_if_there(self) -> None:
        """Open the store, if its tables are there; an error is left to its first use."""
        with suppress(DurableQError):
            if exists(self.url):
                _ = self.store

    def joined(self, given: Any) -> Any:
        """Return the connection for a send.

        Args:
            given: by the caller; None means Django's, if a transaction is open on it.

        Raises:
            django.db.transaction.TransactionManagementError: the transaction has failed.
        """
        if given is not None or self.is_overridden or not _is_inside(configuration().alias):
            return given
        if self.opened is None:
            try:
                _ = self.store
            except Conflict as error:
                error.add_note(
                    "Its first use in this process was inside a transaction, and a queue is to be "
                    "made or changed. Run `manage.py migrate`, which does so."
                )
                raise
        return _driver_connection(configuration().alias)

    def _open(self) -> Store:
        opened = super()._open()
        if self.is_overridden:
            return opened
        return cast(Store, ProjectStore(opened, configuration().alias))


class ProjectQueue(Queue):
    """A queue whose sends join the transaction of Django that is open in the calling thread."""

    _app: Project

    def send(self, body: Any, *, connection: Any = None, **options: Unpack[SendOptions]) -> str:
        """Store a message in the open transaction, or in a commit of its own; see Queue.send."""
        return super().send(body, connection=self._app.joined(connection), **options)

    def send_many(
        self, bodies: Iterable[Any], *, connection: Any = None, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Store messages, all or none, as `send` does; see Queue.send_many."""
        return super().send_many(bodies, connection=self._app.joined(connection), **options)

    def producer(self, **options: Any) -> Producer:
        """Return a Producer, whose sends commit by themselves; see Queue.producer.

        Raises:
            Conflict: a transaction of Django is open, which it would not join.
        """
        if self._app.joined(None) is not None:
            raise Conflict(
                "A producer commits by itself, and would not join the open transaction. Use "
                "send_many, or make the producer outside of transaction.atomic()."
            )
        return super().producer(**options)


class ProjectStore:
    """A store whose transactions of messages are Django's. All else is the other store's.

    Args:
        inner: the other store.
        alias: of Django's database.
    """

    def __init__(self, inner: Store, alias: str) -> None:
        self._inner = inner
        self._alias = alias

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def require(self, capability: Any) -> Any:
        """Return this store, if the other one has the capability."""
        self._inner.require(capability)
        return self

    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> Any:
        """Open a transaction; see Transactions.transaction. With messages, it is Django's."""
        transactions = self._inner.require(Capability.TRANSACTIONS)
        if not receipts:
            return transactions.transaction(receipts, actor=actor)
        return AtomicBlock(transactions, self._alias, actor)


class AtomicBlock:
    """A transaction of Django that settles messages: a store's Transaction, and its block.

    Args:
        transactions: the store.
        alias: of Django's database.
        actor: the name of the worker, for the history.
    """

    def __init__(self, transactions: Any, alias: str, actor: str) -> None:
        self._transactions, self._alias, self._actor = transactions, alias, actor
        self._is_open = False

    def __enter__(self) -> Transaction:
        connection: Any = connections[self._alias]
        if not connection.in_atomic_block and not connection.get_autocommit():
            raise Conflict(
                "message.transaction() commits with the message, and with autocommit off Django "
                "leaves the commit to you. Switch it on before: transaction.set_autocommit(True)."
            )
        self._atomic = transaction.atomic(using=self._alias, durable=True)
        try:
            self._atomic.__enter__()
        except RuntimeError as error:  # it stands inside another one, which is not a TestCase's
            raise Conflict(
                "message.transaction() commits with the message, so it is the outermost "
                "transaction: open it outside of transaction.atomic()."
            ) from error
        self._is_open = True
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._is_open:  # it may be called twice; see client/transaction.py
            self._is_open = False
            self._atomic.__exit__(kind, error, traceback)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Refuse: the statements of this transaction are Django's."""
        raise Unsupported(f"tx.execute runs SQLAlchemy's statements. {_ROWS}")

    @property
    def session(self) -> Any:
        """Refuse: the statements of this transaction are Django's."""
        raise Unsupported(f"tx.session is SQLAlchemy's. {_ROWS}")

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this commits."""
        sent: list[str] = self._transactions.send(queue, drafts, connection=self._connection())
        return sent

    def once_store(self, key: str, token: bytes, value: str, *, ttl_ms: int) -> bool:
        """Refuse: values of `once` have a transaction of durableq's."""
        raise Unsupported("A value of once cannot join a transaction of Django.")

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Settle the messages, all of them or none."""
        outcomes = self._transactions.settle_joining(
            completions, failures, connection=self._connection(), actor=self._actor
        )
        receipts = [one.receipt for one in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome.refused:
                raise StaleReceipt(receipt.message_id, outcome.why)

    def _connection(self) -> Any:
        if not self._is_open:
            raise Conflict("This transaction is over: use it inside its `with` block.")
        return _driver_connection(self._alias)


def _is_inside(alias: str) -> bool:
    """Return whether a transaction is open on this thread's connection."""
    connection: Any = connections[alias]
    return connection.connection is not None and (
        connection.in_atomic_block or not connection.autocommit
    )


def _driver_connection(alias: str) -> Any:
    """Return the driver's connection of a transaction that is open, or begins with a send.

    With autocommit off the first write begins it: psycopg does so, and here Django's own hook.
    """
    connection: Any = connections[alias]
    connection.validate_no_broken_transaction()
    if connection.vendor == "sqlite" and not connection.connection.in_transaction:
        connection._start_transaction_under_autocommit()
    return connection.connection


def _close_old_connections() -> None:
    """Close connections that are too old or broken; not in a transaction, which is a test's."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _around(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler that closes old connections before and after each call."""
    if is_async(function):
        close = sync_to_async(_close_old_connections)

        @functools.wraps(function)
        async def called(message: Any) -> Any:
            await close()
            try:
                return await function(message)
            finally:
                await close()
    else:

        @functools.wraps(function)
        def called(message: Any) -> Any:
            _close_old_connections()
            try:
                return function(message)
            finally:
                _close_old_connections()

    return called
