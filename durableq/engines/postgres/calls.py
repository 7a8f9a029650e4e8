"""Calls of the functions in `functions`: one round trip, which commits by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from durableq.engines.postgres.arrays import whole
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.installing import functions_of
from durableq.model.errors import DatabaseUnusable, DurableQError
from durableq.runtime.clock import Moment

#: Rows of deltas that one fold moves, and the folds of one call.
FOLD_ROWS: Final = 10_000
FOLDS: Final = 10
#: The send that stores a message whose id is a multiple of this folds.
FOLD_IDS: Final = 2_000

#: Rows of an answer.
Rows = list[tuple[Any, ...]]


class Answered(NamedTuple):
    """The answer of a function, and when it was called."""

    rows: Rows
    moment: Moment

    @property
    def numbers(self) -> list[int]:
        """The answer of a function that returns numbers."""
        numbers: list[int] = self.rows[0][0]
        return numbers


def call(database: Database, name: str, *arguments: bytes | None) -> Answered | None:
    """Call a function; None: it has changed nothing, and the shared operation does all.

    Args:
        database: the schema.
        name: of the function.
        arguments: those that are its own, as `arrays` makes them.

    Raises:
        Conflict: this thread is inside `message.transaction()`.
        Busy: others wrote for the whole wait.
        OutcomeUnknown: the connection was lost.
    """
    database.refuse_inside()
    moment = database.time.moment()
    if not database.is_hot or moment.is_due or database.revision_check is None:
        return None
    first = (
        database.wait_ms,
        whole(moment.now_ms + moment.offset_ms),
        whole(moment.offset_ms),
        whole(moment.lease_ms) if database.server is None else None,
    )
    rows = _rows(database, name, (*first, *arguments))
    if not rows or rows[0][0] is None:
        return None
    return Answered(rows, moment)


def _rows(database: Database, name: str, values: tuple[bytes | None, ...]) -> Rows | None:
    """Call a function; None after an error that the shared operation shall meet, and explain."""
    text = functions_of(database).calls[name]
    try:
        return database.call(partial(Link.call, text=text, values=values))
    except (driver.Error, DatabaseUnusable):
        return None


def observe(database: Database, clock_ms: int) -> None:
    """Take notice of the time of the server, unless another clock is injected."""
    if database.server is not None:
        database.server.observe(clock_ms)


def fold_in_turn(database: Database, ids: Sequence[int]) -> None:
    """Fold, if messages with these ids are those that bring it about: one in each FOLD_IDS.

    Where no worker runs, there is no maintenance, and senders alone would add rows for ever.

    Args:
        database: the schema.
        ids: of the messages that a send has stored, in order.
    """
    if ids[-1] // FOLD_IDS != (ids[0] - 1) // FOLD_IDS:
        with suppress(driver.Error, DurableQError):  # the messages are stored
            fold(database)


def fold(database: Database) -> None:
    """Move what hot verbs have counted into the counters, unless another process does."""
    for _ in range(FOLDS):
        rows = _rows(database, "fold", (whole(FOLD_ROWS),)) if database.is_hot else None
        if rows is None or rows[0][0] < FOLD_ROWS:
            return


def notify(database: Database) -> None:
    """Wake those who wait for writes, after a commit.

    In the transaction itself, a notification would hold a lock of the whole server until the commit
    is on the disk: no two senders would commit together. If this process ends before, those who
    wait find the message at their next look.
    """
    with suppress(driver.Error, DurableQError), database.connected() as (link, _):
        link.execute_text(database.notify, prepare=False)
