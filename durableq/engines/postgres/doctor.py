"""The doctor's checks of a PostgreSQL database. They change nothing, and take any database.

Everything runs on one connection that may only read, with a time limit for each statement. What the
user may not see is not guessed: the check says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Final, TypeVar

from durableq.engines.postgres import copies, doctor_server, doctor_tables, doctor_use
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import Link, driver
from durableq.engines.postgres.errors import first_line
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.planning import NOW
from durableq.engines.postgres.schema import grants_to_use, state_of
from durableq.engines.postgres.server_clock import ServerClock
from durableq.engines.sql import fleet, marks
from durableq.engines.sql.examining import check_boot, check_wall_clock
from durableq.engines.sql.queues import all_queues
from durableq.engines.sql.schedules import all_schedules
from durableq.engines.sql.schema import REVISIONS, SchemaState
from durableq.engines.sql.transactions import Transaction
from durableq.model.errors import DurableQError
from durableq.model.health import Finding, bad, ok, warn
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.slots import ScheduleInfo

T = TypeVar("T")
#: A check of a connection.
Check = Callable[[Link, Database], Finding | Iterable[Finding]]
_READ_ONLY: Final = (
    "SET default_transaction_read_only = on; SET statement_timeout = '{seconds}s'; "
    "SET lock_timeout = '2s'; SET search_path TO {schema}"
)
#: The same for one transaction: behind a pooler, a setting would stay for other clients.
_READ_ONLY_ONCE: Final = (
    f"BEGIN READ ONLY; {_READ_ONLY.partition('; ')[2].replace('SET ', 'SET LOCAL ')}"
)
#: Seconds for a statement; comparing the indexes with the tables takes its time.
STATEMENT_SECONDS: Final = 20
DEEP_SECONDS: Final = 3600


def examine(location: Location, *, deep: bool) -> list[Finding]:
    """Check a database, its server and what uses it; see engines.examine_store."""
    try:
        database = Database(location)
    except DurableQError as error:
        what, _, advice = str(error).partition(". ")
        return [bad("server", what, advice or "Check the URL.")]
    with closing(database), database.connected() as (link, _):
        seconds = DEEP_SECONDS if deep else STATEMENT_SECONDS
        limits = {"seconds": seconds, "schema": database.quoted_schema}
        begin = _READ_ONLY_ONCE.format(**limits)
        if database.keeps_sessions:
            link.execute_text(_READ_ONLY.format(**limits), prepare=False)
            begin = ""
        return list(_findings(_Checks(link, database, begin), deep=deep))


class _Checks:
    """Runs checks on one connection.

    Args:
        link: the connection.
        database: the database.
        begin: begins a transaction for each check; empty for none.
    """

    def __init__(self, link: Link, database: Database, begin: str) -> None:
        self.link = link
        self.database = database
        self._begin = begin

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Limit what statements in the block may do, and for how long."""
        if not self._begin:
            yield
            return
        self.link.execute_text(self._begin, prepare=False)
        try:
            yield
        finally:
            self.link.execute_text("ROLLBACK", prepare=False)

    def run(self, name: str, check: Check) -> list[Finding]:
        """Return the findings of a check; an error of the server is one."""
        try:
            with self.limited():
                found = check(self.link, self.database)
                return [found] if isinstance(found, Finding) else list(found)
        except driver.Error as error:
            says = first_line(error)
            return [warn(name, f"not examined: {says}", "See what the server says there.")]


def _findings(examiner: _Checks, *, deep: bool) -> Iterator[Finding]:
    link, database = examiner.link, examiner.database
    yield from examiner.run("server", doctor_server.check_server)
    checks = dict(_OF_SERVER)
    try:
        with examiner.limited():
            found = state_of(link, database)
    except driver.Error as error:
        yield bad("database", f"not readable: {first_line(error)}", grants_to_use(database))
    else:
        if found is SchemaState.MARKED:
            place = database.location.shown
            yield marks.finding("database", link, place, database.in_schema)
        else:
            yield _database(found, database.location)
        if found is SchemaState.CURRENT:
            checks = _OF_TABLES | (_DEEP if deep else {}) | checks
    for name, check in checks.items():
        yield from examiner.run(name, check)


def _database(found: SchemaState, location: Location) -> Finding:
    name, revision = "database", REVISIONS[-1]
    if found is SchemaState.CURRENT:
        return ok(name, f"durableq's tables, revision {revision}")
    what, advice = {
        SchemaState.EMPTY: (
            f"{location.shown} has no tables of durableq",
            "The first use creates them; or now: durableq init --db URL.",
        ),
        SchemaState.OLDER: (
            "tables that an older durableq made",
            "Stop its workers, make a dump (see durableq backup), and run durableq migrate.",
        ),
        SchemaState.NEWER: (
            f"made by a newer durableq; this one knows revisions up to {revision}",
            "Upgrade this installation: pip install -U durableq.",
        ),
    }.get(found) or (
        "tables whose names begin with durableq_, and no durableq_version",
        "Restore a backup of all of them, or name another schema: ?schema=name.",
    )
    return (warn if found is SchemaState.EMPTY else bad)(name, what, advice)


def _transaction(link: Link, database: Database) -> Transaction:
    tx = Transaction(link, database.dialect)
    (now_ms,) = link.execute(NOW).fetchone()
    tx.set_time(database.moment(now_ms))
    return tx


def _boot(link: Link, database: Database) -> Finding:
    tx = _transaction(link, database)
    if copies.are_restored(tx, database):
        advice = "Nothing: the next opening gives back the leases, and forgets the workers."
        return ok("boot", "restored from a dump, and not used since", advice)
    return check_boot(tx, database.host_id, database.boot_id)


def _wall_clock(link: Link, database: Database) -> Finding:
    return check_wall_clock(_transaction(link, database), database.server or ServerClock())


_OF_TABLES: Final[dict[str, Check]] = {
    "tables": doctor_tables.check_parts,
    "indexes": doctor_tables.check_indexes,
    "functions": doctor_tables.check_functions,
    "grants": doctor_tables.check_grants,
    "boot": _boot,
    "wall_clock": _wall_clock,
    "vacuum": doctor_tables.check_vacuum,
    "size": doctor_tables.check_size,
    "write_lock": doctor_use.check_write_lock,
}
_DEEP: Final[dict[str, Check]] = {
    "rows": doctor_tables.check_rows,
    "integrity": doctor_tables.check_integrity,
}
_OF_SERVER: Final[dict[str, Check]] = {
    "durability": doctor_server.check_durability,
    "settings": doctor_server.check_settings,
    "connections": doctor_server.check_connections,
    "sessions": doctor_server.check_sessions,
    "transactions": doctor_use.check_transactions,
    "oldest_xmin": doctor_use.check_oldest_xmin,
    "replication": doctor_server.check_replication,
    "server_clock": doctor_server.check_clock,
}


def workers(location: Location) -> list[WorkerInfo]:
    """Return the registered workers; none if there are no current tables."""
    return _read(location, lambda tx: tx.shown(fleet.workers(tx))) or []


def queues(location: Location) -> list[QueueInfo]:
    """Return the queues; none if there are no current tables."""
    return _read(location, partial(all_queues, dead_letters=True)) or []


def schedules(location: Location) -> list[ScheduleInfo]:
    """Return the schedules; none if there are no current tables."""
    return _read(location, all_schedules) or []


def queue_names(location: Location) -> list[str]:
    """Return the names of the queues; none if there are no current tables."""

    def stored(tx: Transaction) -> list[str]:
        return [name for (name,) in tx.run(tx.sql.QUEUE_NAMES).fetchall()]

    return _read(location, stored) or []


def _read(location: Location, question: Callable[[Transaction], T]) -> T | None:
    """Return the answer of current tables; None if there are none, or they cannot be read."""
    try:
        database = Database(location)
        with closing(database):
            with database.connected() as (link, _):
                if state_of(link, database) is not SchemaState.CURRENT:
                    return None
            with database.read() as tx:
                return question(tx)
    except (DurableQError, driver.Error):  # the command that uses it names the error
        return None
