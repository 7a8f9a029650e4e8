"""Bugs to plant in how a SQLAlchemy Session carries a send, and works in a transaction."""

from __future__ import annotations

from typing import Any, Final

from durableq.engines.sql import joining

_SESSIONS: Final = "tests/engine/test_outbox_sessions.py::"
_TRANSACTIONS: Final = "tests/engine/test_transaction_session.py::"


def forget_who_sends_through_a_connection() -> None:
    """Two threads may send through one connection at once."""

    class Forgetful(dict[int, int]):
        def setdefault(self, _key: int, default: Any = None) -> Any:
            return default

    module: Any = joining
    module._in_use = Forgetful()


def send_beside_the_transaction_of_a_session() -> None:
    """The send has a transaction of its own, which commits by itself."""
    module: Any = joining
    of_session = module.of_session

    def of_another(given: Any) -> Any:
        bind = getattr(given, "bind", None)
        if bind is None:
            return of_session(given)
        connection = bind.connect()
        connection.begin()
        return connection

    module.of_session = of_another


def flush_a_session_before_a_send() -> None:
    module: Any = joining
    of_session = module.of_session

    def flushed(given: Any) -> Any:
        getattr(given, "flush", lambda: None)()
        return of_session(given)

    module.of_session = flushed


def commit_without_the_pending_objects() -> None:
    from durableq.engines.orm import TransactionSession

    cls: Any = TransactionSession
    cls.write_pending = lambda self: None


def undo_the_savepoints_that_are_left_open() -> None:
    """The message is settled without their rows."""
    from durableq.engines.orm import TransactionSession

    cls: Any = TransactionSession
    cls.get_nested_transaction = lambda self: None


def undo_only_the_flush_that_failed() -> None:
    """The rest is committed without the objects that SQLAlchemy has forgotten."""
    from durableq.engines.orm import TransactionSession

    cls: Any = TransactionSession
    make = cls.__init__

    def with_savepoint(self: Any, *args: Any) -> None:
        make(self, *args)
        self.join_transaction_mode = "create_savepoint"

    cls.__init__ = with_savepoint
    cls.write_pending = lambda self: self.flush() if self.is_active else None


def keep_the_session_open_behind_its_transaction() -> None:
    from durableq.engines.orm import TransactionSession

    cls: Any = TransactionSession
    cls.detach = lambda self: None


BUGS = (
    forget_who_sends_through_a_connection,
    send_beside_the_transaction_of_a_session,
    flush_a_session_before_a_send,
    commit_without_the_pending_objects,
    undo_the_savepoints_that_are_left_open,
    undo_only_the_flush_that_failed,
    keep_the_session_open_behind_its_transaction,
)
SEEN_BY = [
    (
        "send_beside_the_transaction_of_a_session",
        _SESSIONS + "test_the_commit_of_a_session_keeps_the_row_and_the_message[engine-sqlite]",
    ),
    (
        "flush_a_session_before_a_send",
        _SESSIONS + "test_a_send_flushes_no_object_of_the_session[sqlite]",
    ),
    (
        "commit_without_the_pending_objects",
        _TRANSACTIONS + "test_a_flush_that_fails_at_the_end_undoes_everything[sqlite]",
    ),
    (
        "undo_the_savepoints_that_are_left_open",
        _TRANSACTIONS + "test_savepoints_that_are_left_open_are_kept[sqlite]",
    ),
    (
        "undo_only_the_flush_that_failed",
        _TRANSACTIONS + "test_a_failed_flush_that_user_code_ignores_commits_nothing[sqlite]",
    ),
    (
        "keep_the_session_open_behind_its_transaction",
        _TRANSACTIONS + "test_a_session_that_is_kept_writes_nothing_later[memory]",
    ),
]
