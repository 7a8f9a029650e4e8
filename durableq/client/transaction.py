"""Transactions of user code, which settle a message or a batch in the same commit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from durableq.client import tracing
from durableq.model.errors import InvalidInput
from durableq.model.message import Completion, SendOptions, draft
from durableq.model.queues import check_queue_name
from durableq.store.capabilities import Transaction as OpenTransaction

if TYPE_CHECKING:
    from durableq.client.delivery import Batch, Delivery


class Transaction:
    """Writes that commit with a message: the `tx` of `with message.transaction() as tx`.

    Its writes, the idempotency record and the acknowledgement are one commit, at the end of the
    block. A statement that commits or rolls back by itself spoils it (Conflict).
    """

    _opened: OpenTransaction

    def __init__(self, block: AbstractContextManager[OpenTransaction]) -> None:
        self._block = block
        #: Stored under the key and given to duplicates. The handler's return value is stored after
        #: the commit; set `result` to store it with the effect.
        self.result: Any = None

    def __enter__(self) -> Self:
        self._opened = self._block.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        leave = self._block.__exit__
        try:
            if error is None:
                self._settle()
            leave(kind, error, traceback)
        except BaseException as failure:
            leave(type(failure), failure, failure.__traceback__)  # Ctrl-C may have prevented it
            raise
        if error is None:
            self._mark_settled()

    async def __aenter__(self) -> NoReturn:
        raise InvalidInput(
            "A transaction holds a write lock to its end, so nothing may be awaited in it. Give a "
            "function to `await message.atransaction(write)`, which calls write(tx) in a thread."
        )

    async def __aexit__(self, *_: object) -> None:
        """Exist beside `__aenter__`: without it Python says nothing of use."""

    def _settle(self) -> None:
        """Settle what the transaction ends; it is open."""
        raise NotImplementedError

    def _mark_settled(self) -> None:
        """Note that it has committed."""
        raise NotImplementedError

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement inside the commit and return its SQLAlchemy result.

        Args:
            statement: a SQLAlchemy statement, or SQL text with `:name` parameters.
            parameters: a mapping, or a list of mappings to run it for each.

        Raises:
            InvalidInput: it is no statement, or a text in it is not UTF-8.
            Unsupported: the engine is not a SQL database.
        """
        return self._opened.execute(statement, parameters)

    @property
    def session(self) -> Any:
        """A SQLAlchemy ORM Session inside the commit, the same at each use.

        What is pending is flushed at the end of the block. Its commit, rollback and close are
        refused: the block ends it. A flush that fails undoes the whole transaction;
        `session.begin_nested()` is a savepoint for what may fail. Afterwards its objects are
        detached, with their loaded values.

        Raises:
            Conflict: the block is over, or a statement ended the transaction.
            Unsupported: the engine is not a SQL database.
        """
        return self._opened.session

    def send(self, queue: str, body: Any, **options: Unpack[SendOptions]) -> str:
        """Send a follow-up message that exists only if this commits; return its id.

        Raises:
            UnknownQueue: there is no such queue.
            InvalidInput: the message cannot be sent; see Queue.send.
        """
        check_queue_name(queue)
        made = [draft(body, **options)]
        if tracing.active is None:
            return self._opened.send(queue, made)[0]
        return tracing.active.send(queue, made, partial(self._opened.send, queue))[0]


class MessageTransaction(Transaction):
    """The transaction that ends one message."""

    def __init__(self, block: AbstractContextManager[OpenTransaction], delivery: Delivery) -> None:
        super().__init__(block)
        self._delivery = delivery

    def _settle(self) -> None:
        ended = self._delivery
        self._encoded = ended.encoded(self.result)
        self._opened.settle([Completion(ended.receipt, self._encoded, ended.key)], [])

    def _mark_settled(self) -> None:
        self._delivery.settled = True
        self._delivery.transaction_result = self._encoded


class BatchTransaction(Transaction):
    """The transaction that ends a batch."""

    def __init__(self, block: AbstractContextManager[OpenTransaction], batch: Batch) -> None:
        super().__init__(block)
        self._batch = batch

    def _settle(self) -> None:
        if self.result is not None:
            raise InvalidInput(
                "tx.result belongs to a transaction of one message. Use "
                "batch.set_result(message, result) for each message of the batch."
            )
        self._opened.settle(self._batch._completions(), self._batch._failed())

    def _mark_settled(self) -> None:
        self._batch.release_behind()
        self._batch._mark_settled()
