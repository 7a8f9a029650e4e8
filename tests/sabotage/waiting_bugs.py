"""Bugs to plant in waiting for the write lock, and in checkpoints."""

from __future__ import annotations

from typing import Any

from durableq.engines.sqlite import (
    checkpoints,
    database,
    file_space,
    open_files,
    ticket,
    write_lock,
)


def wait_for_the_ticket_alone() -> None:
    """A waiter asks SQLite only when it has the ticket."""
    cls: Any = write_lock._Wait
    cls.is_attempt_due = False


def keep_the_ticket() -> None:
    """A transaction ends, and its ticket stays."""
    cls: Any = ticket.Ticket
    cls.release = lambda _self, _holder: None


def leave_the_ticket_to_forked_children() -> None:
    """A forked child keeps its descriptor, and with it its parent's ticket."""
    cls: Any = ticket.Ticket
    cls.close = lambda _self: None


def give_up_at_the_first_lock() -> None:
    """The busy timeout is over as soon as it begins."""
    cls: Any = write_lock._Wait
    make = cls.__init__
    cls.__init__ = lambda self, file, _seconds: make(self, file, 0.0)


def checkpoint_without_the_guard() -> None:
    """An affected SQLite library checkpoints while other connections write."""
    checkpointer: Any = checkpoints.Checkpointer

    def run(_self: Any, raw: Any) -> None:
        raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    checkpointer.run = run


def checkpoint_automatically() -> None:
    """An affected SQLite library keeps its automatic checkpoints."""
    module: Any = database
    module.guard = lambda _raw: None


def wait_for_ones_own_lock() -> None:
    """A thread waits for a transaction that only it could end, and blames another process."""
    opened: Any = open_files.OpenFile
    opened.use = lambda *_: None


def leave_the_log_long() -> None:
    """After a burst of work the log keeps its size."""
    module: Any = file_space
    module.cut_idle_log = lambda _database: None


BUGS = (
    wait_for_the_ticket_alone,
    keep_the_ticket,
    leave_the_ticket_to_forked_children,
    give_up_at_the_first_lock,
    checkpoint_without_the_guard,
    checkpoint_automatically,
    wait_for_ones_own_lock,
    leave_the_log_long,
)
