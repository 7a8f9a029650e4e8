"""Bugs to plant in the session of a thread: its ends, and what SQLAlchemy is shown of it."""

from __future__ import annotations

import os
from typing import Any

from durableq.engines.sql import open_transaction
from durableq.engines.sqlite import database, open_files, session, sqlalchemy_adapter


def let_a_forked_child_commit() -> None:
    """Without the two checks: at each use of the transaction, and at its end."""
    cls: Any = session.Session
    handle: Any = open_transaction.OpenTransaction
    leave, check = cls.__exit__, handle._check

    def leave_as_the_parent(self: Any, *error: Any) -> None:
        self.pid = os.getpid()
        leave(self, *error)

    def check_as_the_parent(self: Any) -> None:
        self._pid = os.getpid()
        check(self)

    cls.__exit__, handle._check = leave_as_the_parent, check_as_the_parent


def keep_a_closed_connection() -> None:
    cls: Any = database.Database
    cls._on_close = lambda self, raw, *_: self.file.remove(raw)


def keep_the_counts_of_an_interrupted_transaction() -> None:
    class Counts(dict[int, Any]):
        def clear(self) -> None:
            """Keep them."""

    cls: Any = session.Session
    make = cls.__init__

    def make_with_counts(self: Any, *arguments: Any) -> None:
        make(self, *arguments)
        self.counts = Counts()

    cls.__init__ = make_with_counts


def leave_an_interrupted_transaction_open() -> None:
    cls: Any = session.Session
    cls.abandon = lambda _: None


def keep_a_forgotten_transaction_open() -> None:
    cls: Any = session.Session
    cls.end_forgotten = lambda _: False


def let_sqlalchemy_try_out_a_transaction() -> None:
    """Its first connection, on which it rolls back, is that of a session."""

    class Nothing:
        def close(self) -> None:
            """Close nothing."""

    adapter: Any = sqlalchemy_adapter.SQLAlchemyAdapter
    view = adapter.view

    def view_of_files(self: Any, raw: Any) -> Any:
        (_, _, path) = raw.execute("PRAGMA database_list").fetchone()
        return view(self, raw) if path else Nothing()

    adapter.view = view_of_files


def fail_at_a_text_that_is_not_utf_8() -> None:
    """The operation that meets it is not run again with the tolerant decoder."""
    module: Any = database
    module._UNDECODABLE = "another error"


def trust_a_folder_at_once() -> None:
    """A change of the folder in the same tick as the last one is not noticed."""
    module: Any = open_files
    module.SETTLED_NS = -1 << 62


def trust_a_folder_for_ever() -> None:
    """The files are not compared again while the folder does not change."""
    module: Any = open_files
    module.LOOK_EVERY_SECONDS = float("inf")


BUGS = (
    fail_at_a_text_that_is_not_utf_8,
    trust_a_folder_at_once,
    trust_a_folder_for_ever,
    let_a_forked_child_commit,
    keep_a_closed_connection,
    keep_the_counts_of_an_interrupted_transaction,
    keep_a_forgotten_transaction_open,
    leave_an_interrupted_transaction_open,
    let_sqlalchemy_try_out_a_transaction,
)
