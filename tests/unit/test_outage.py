"""Errors in log lines: without the advice for a caller, which the process follows itself."""

from __future__ import annotations

import psycopg
import pytest

from durableq import Busy, DatabaseUnusable, DurableQError, OutcomeUnknown, StorageFull
from durableq.engines.postgres.errors import translate, unconnected
from durableq.engines.postgres.session import outcome_unknown
from durableq.engines.sqlite import errors, group_commit
from durableq.engines.sqlite.driver import driver
from durableq.model.errors import PASSING
from durableq.runtime.outage import describe


def of_sqlite(code: int) -> DurableQError:
    error = driver.OperationalError("it says so")
    error.sqlite_errorcode = code
    meaning = errors.translate(error, "queue.db")
    assert meaning is not None
    return meaning


def of_postgres(state: str) -> DurableQError:
    meaning = translate(psycopg.errors.lookup(state)("it says so"), "a database")
    assert meaning is not None
    return meaning


def unknown(cause: Exception | None) -> OutcomeUnknown:
    error = outcome_unknown("a database", Exception("it says so"), "at COMMIT")
    error.__cause__ = cause
    return error


ERRORS = [
    Busy("queue.db is busy: another process is writing. Nothing was stored; try again."),
    Busy("All 4 connections are in use. Nothing was stored; try again, use fewer threads."),
    StorageFull("No space is left. Nothing was lost; make room, try again."),
    of_sqlite(driver.SQLITE_BUSY),
    of_sqlite(driver.SQLITE_FULL),
    of_postgres("40001"),
    of_postgres("55P03"),
    of_postgres("53100"),
    of_postgres("57P01"),
    unconnected(Exception("FATAL: sorry, too many clients already"), "a database"),
    unconnected(Exception("session is read-only"), "a database"),
    unconnected(Exception("connection refused"), "a database"),
    unknown(None),
    unknown(Exception("the server closed the connection")),
    group_commit._unknown(),
]


@pytest.mark.parametrize("error", ERRORS, ids=[str(n) for n in range(len(ERRORS))])
def test_a_passing_error_is_described_without_advice(error: DurableQError) -> None:
    assert isinstance(error, PASSING)
    assert "gain" in str(error) or "Repeat" in str(error)
    described = describe(error)
    for advice in ("try again", "Try", "Repeat", "Nothing was", "may not have happened"):
        assert advice not in described
    assert described
    assert not described.endswith(".")


def test_an_error_that_does_not_pass_keeps_its_advice() -> None:
    error = DatabaseUnusable("queue.db is damaged. Restore it from a backup.")
    assert describe(error) == str(error)
