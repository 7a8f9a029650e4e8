"""Calls of the functions in `functions`: one round trip, which commits by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.dialect import quoted
from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.functions import DONE
from durableq.engines.postgres.installing import functions_of
from durableq.model.errors import DatabaseUnusable
from durableq.runtime.clock import Moment

#: Rows of deltas that one fold moves, and the folds of one call.
FOLD_ROWS: Final = 10_000
FOLDS: Final = 10
#: The types of the arguments that each function has first.
_FIRST: Final = ("bigint", "text", "text", "bigint", "bigint", "bigint")
#: The types of the others.
_ARGUMENTS: Final = {
    "send": (
        *("text", "bigint", "text"),
        *("text[]", "text[]", "bytea[]", "text[]", "bigint[]", "bigint[]"),
    ),
    "work": (
        *("text", "text[]", "bytea[]", "bigint[]", "bigint[]", "text[]"),
        *("text", "bigint", "bigint", "bytea", "bigint", "bigint", "bigint", "bigint", "bigint"),
    ),
    "extend": ("text[]", "bytea[]", "bigint[]", "bigint[]", "bigint"),
}


class Answered(NamedTuple):
    """The answer of a function, and when it was called."""

    #: Its rows, without the columns `answer` and `clock_ms` of the first.
    rows: list[tuple[Any, ...]]
    moment: Moment


@lru_cache(32)
def _text(name: str, schema: str) -> str:
    kinds = enumerate((*_FIRST, *_ARGUMENTS[name]), 1)
    given = ", ".join(f"${number}::{kind}" for number, kind in kinds)
    own, _ = functions_of(schema)[name]
    return f"SELECT * FROM {quoted(schema)}.{own}({given})"  # noqa: S608 - ours


def call(database: Database, name: str, *arguments: Any) -> Answered | None:
    """Call a function; None: it has changed nothing, and the shared operation does all.

    Args:
        database: the schema.
        name: of the function.
        arguments: those that are its own.

    Raises:
        Conflict: this thread is inside `message.transaction()`.
        Busy: others wrote for the whole wait.
        OutcomeUnknown: the connection was lost.
    """
    database.refuse_inside()
    check, moment = database.revision_check, database.time.moment()
    if not database.is_hot or moment.is_due or check is None:
        return None
    values = (
        database.key,
        database.wait_ms,
        check.expected,
        moment.now_ms + moment.offset_ms,
        moment.offset_ms,
        moment.lease_ms if database.server is None else None,
        *arguments,
    )
    rows = _rows(database, _text(name, database.schema), values)
    if not rows or rows[0][0] != DONE:
        return None
    if database.server is not None:
        database.server.observe(rows[0][1])
    return Answered(rows, moment)


def _rows(database: Database, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]] | None:
    """Run a statement; None after an error that the shared operation shall meet, and explain."""

    def run(link: Link) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = link.execute_next(text, values).fetchall()
        return found

    try:
        return database.call(run)
    except (driver.Error, DatabaseUnusable):
        return None


def fold(database: Database) -> None:
    """Move what hot verbs have counted into the counters, unless another process does."""
    own, _ = functions_of(database.schema)["fold"]
    text = f"SELECT {database.quoted_schema}.{own}($1::bigint, $2::bigint)"
    for _ in range(FOLDS):
        rows = _rows(database, text, (database.key, FOLD_ROWS))
        if rows is None or rows[0][0] < FOLD_ROWS:
            return
