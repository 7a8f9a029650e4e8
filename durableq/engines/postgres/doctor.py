"""The doctor's checks of a PostgreSQL database. They change nothing, and take any database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from durableq.engines.postgres.database import Database
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.schema import state_of
from durableq.engines.sql import fleet
from durableq.engines.sql.queues import all_queues
from durableq.engines.sql.schema import SchemaState
from durableq.engines.sql.transactions import Transaction
from durableq.model.errors import DurableQError
from durableq.model.health import Finding, bad, ok, warn
from durableq.model.info import QueueInfo, WorkerInfo

T = TypeVar("T")


def examine(location: Location, *, deep: bool) -> list[Finding]:
    """Check a database, its server and what uses it; see engines.examine_store."""
    try:
        database = Database(location)
    except DurableQError as error:
        what, _, advice = str(error).partition(". ")
        return [bad("database", what, advice)]
    with closing(database), database.connected() as (link, _):
        return [_database(state_of(link, database), location)]


def _database(found: SchemaState, location: Location) -> Finding:
    if found is SchemaState.CURRENT:
        return ok("database", "the tables are those of this durableq")
    if found is SchemaState.EMPTY:
        advice = "The first use creates them; or now: durableq init."
        return warn("database", f"{location.shown} has no tables of durableq", advice)
    return bad("database", f"{location.shown} has tables of another durableq", "")


def workers(location: Location) -> list[WorkerInfo]:
    """Return the registered workers; none if there are no current tables."""
    return _read(location, lambda tx: tx.shown(fleet.workers(tx))) or []


def queues(location: Location) -> list[QueueInfo]:
    """Return the queues; none if there are no current tables."""
    return _read(location, all_queues) or []


def _read(location: Location, question: Callable[[Transaction], T]) -> T | None:
    """Return the answer of current tables; None if there are none, or they cannot be read."""
    try:
        database = Database(location)
    except DurableQError:  # the command that uses it names the error
        return None
    with closing(database):
        with database.connected() as (link, _):
            if state_of(link, database) is not SchemaState.CURRENT:
                return None
        with database.read() as tx:
            return question(tx)
