"""The ORM Session of an open transaction: `tx.session`. It is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn, Self

import sqlalchemy
from sqlalchemy import orm

from durableq.model.errors import Conflict

_ENDS_WITH_THE_BLOCK: Final = (
    "tx.session ends with the block of the transaction, which flushes it, commits and closes it. "
    "Leave out {}(); session.flush() writes at once, and session.begin_nested() is a savepoint."
)


class TransactionSession(orm.Session):
    """A Session in an open transaction, which it cannot end.

    Args:
        connection: of the transaction.
        check: refuses statements outside the transaction.
    """

    def __init__(self, connection: sqlalchemy.Connection, check: Callable[[], None]) -> None:
        self._check = check
        # A flush that fails undoes the transaction, and all of it: SQLAlchemy forgets the objects
        # of earlier flushes too, and what is left must not be committed without them.
        super().__init__(connection, join_transaction_mode="rollback_only", close_resets_only=False)

    def get_bind(self, *args: Any, **options: Any) -> Any:
        """Return the connection for a statement, or refuse it; see Session.get_bind."""
        self._check()
        return super().get_bind(*args, **options)

    def begin(self, nested: bool = False) -> orm.SessionTransaction:
        """Begin a savepoint; the transaction itself has begun.

        Raises:
            Conflict: it is no savepoint.
        """
        if not nested:
            _refuse("begin")
        return super().begin(nested=True)

    def commit(self) -> NoReturn:
        """Refuse: the block of the transaction commits."""
        _refuse("commit")

    def rollback(self) -> NoReturn:
        """Refuse: an exception in the block undoes the transaction."""
        _refuse("rollback")

    def close(self) -> NoReturn:
        """Refuse: objects that are not flushed would be lost."""
        _refuse("close")

    def reset(self) -> NoReturn:
        """Refuse, as close."""
        _refuse("reset")

    def invalidate(self) -> NoReturn:
        """Refuse, as close."""
        _refuse("invalidate")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the Session ends with the transaction."""

    def write_pending(self) -> None:
        """Write what is not written yet, at the end of the transaction.

        Savepoints that are still open are kept, as Session.commit() does: closing the Session would
        undo them.

        Raises:
            Conflict: an earlier flush has failed, and user code went on.
        """
        if not self.is_active:
            raise Conflict(
                "A flush of tx.session has failed, which undid the whole transaction, so the "
                "message is not settled. Put what may fail into `with session.begin_nested():`."
            )
        while savepoint := self.get_nested_transaction():
            savepoint.commit()
        self.flush()

    def detach(self) -> None:
        """Detach the objects, write nothing, and refuse all use from now on."""
        super().close()


def _refuse(name: str) -> NoReturn:
    raise Conflict(_ENDS_WITH_THE_BLOCK.format(name))
