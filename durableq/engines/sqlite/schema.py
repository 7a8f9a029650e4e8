"""Creation, recognition and upgrade of the tables.

A new file gets the tables of the generated texts at once. An older one is upgraded by Alembic,
which only then is imported (engines/sql/migrating.py). A test compares the results of both.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sql import marks
from durableq.engines.sql.migrating import run_migrations
from durableq.engines.sql.schema import (
    CREATE_VERSION,
    REVISIONS,
    VERSION_TABLE,
    Purpose,
    SchemaState,
    dead_letter_view,
)
from durableq.engines.sql.transactions import RevisionCheck
from durableq.engines.sqlite import locks, statements
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.driver import dotted, driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.open_transaction import UserWrite, joined
from durableq.model.errors import (
    Conflict,
    DatabaseMoved,
    DatabaseUnusable,
    ForeignDatabase,
    NewerDatabase,
    OlderDatabase,
    UnsupportedSQLite,
)
from durableq.model.health import UpgradeEstimate

if TYPE_CHECKING:
    import sqlalchemy

__all__ = [
    "REVISIONS",
    "VERSION_TABLE",
    "Purpose",
    "SchemaState",
    "estimate_upgrade",
    "lacking",
    "migrated_meanwhile",
    "prepare",
    "refuse",
    "state_of",
    "upgrade",
    "use_wal",
]

_VERSION: Final = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
#: The columns and indexes of durableq's tables, each with its table.
_PARTS: Final = """\
SELECT m.name, m.name || '.' || c.name
FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
WHERE m.type = 'table' AND m.name GLOB 'durableq_*'
UNION ALL
SELECT tbl_name, name FROM sqlite_schema
WHERE type = 'index' AND sql IS NOT NULL AND tbl_name GLOB 'durableq_*'"""
_STAMP: Final = f"INSERT INTO {VERSION_TABLE} VALUES (?)"  # noqa: S608 - a constant
#: `durQ`, in the header of a file that we made.
APPLICATION_ID: Final = 0x64757251
#: Free pages are given back a few at a time. It can be chosen only before the first page is.
INCREMENTAL_VACUUM: Final = 2
#: The first SQLite with a function that the tables of release 0.1 call.
HAS_OCTET_LENGTH: Final = (3, 43, 0)
LACKS_OCTET_LENGTH: Final = driver.sqlite_version_info < HAS_OCTET_LENGTH
_CALLS_OCTET_LENGTH: Final = (
    "SELECT 1 FROM sqlite_schema WHERE name = 'durableq_message' AND sql LIKE '%octet_length%'"
)


#: The tables that the migration to each revision rebuilds. A new migration adds its own here.
REBUILT: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(REVISIONS, ()),
    "0005": ("durableq_message",),
}
#: Rates of a rebuild, measured on a loaded machine with bodies of 200 bytes: 100,000 rows in
#: 29 MB of pages took 2.7 s.
REBUILT_ROWS_PER_SECOND: Final = 50_000
REBUILT_BYTES_PER_SECOND: Final = 20_000_000
#: Growth of a row of messages by its new columns.
REBUILT_ROW_GROWTH_BYTES: Final = 50
#: The revisions whose migrations read all messages.
READING: Final = frozenset({"0006", "0007"})
#: Of these, one writes the dead letters again.
_REWRITING: Final = "0006"
#: Rates of that, measured as above.
READ_BYTES_PER_SECOND: Final = 100_000_000
READ_ROWS_PER_SECOND: Final = 300_000
REWRITTEN_PER_SECOND: Final = 30_000
#: Growth of a dead letter by its new columns and its entry in an index.
DEAD_LETTER_GROWTH_BYTES: Final = 100
#: The number of dead letters, and of pages: those on which their rows begin, and of their bodies.
_DEAD_LETTERS: Final = """\
SELECT count(*), count(DISTINCT id / :rows_in_page), coalesce(sum(body_bytes), 0) / :page_bytes
FROM durableq_message WHERE source_queue_id IS NOT NULL"""
#: For users of a SQLite shell.
DEAD_LETTER_VIEW: Final = dead_letter_view("datetime(m.enqueued_at_ms / 1000, 'unixepoch')")


def prepare(database: Database, purpose: Purpose) -> SchemaState:
    """Prepare the file for use, or refuse it untouched; return the state it was in.

    Raises:
        ForeignDatabase: other tables are in it, and the purpose is not ADOPT.
        OlderDatabase: it needs an upgrade, and the purpose is USE.
        NewerDatabase: a later durableq made it.
        UnsupportedSQLite: its tables need a newer SQLite library than this one.
    """
    raw = database.session().raw
    found = database.lock.retrying(lambda: state_of(raw))
    path = database.location.path
    told = marks.refusal(raw, str(path)) if found is SchemaState.MARKED else None
    refusal = told or refuse(found, purpose, path)
    if refusal is not None:
        raise refusal
    if found is SchemaState.EMPTY:
        database.lock.retrying(lambda: raw.execute(f"PRAGMA auto_vacuum = {INCREMENTAL_VACUUM}"))
    if purpose is not Purpose.READ:
        database.lock.retrying(lambda: use_wal(raw, database))
    if found is not SchemaState.CURRENT:
        upgrade(database, found)
    refusal_of = partial(migrated_meanwhile, path=path)
    database.remember_identity(RevisionCheck(_VERSION, REVISIONS[-1], refusal_of))
    return found


def state_of(raw: Any) -> SchemaState:
    """Return the state of a file's schema, reading as little of it as possible."""
    tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_schema")}
    if VERSION_TABLE not in tables:
        (application_id,) = raw.execute("PRAGMA application_id").fetchone()
        is_ours = application_id in {0, APPLICATION_ID}
        return SchemaState.EMPTY if not tables and is_ours else SchemaState.FOREIGN
    if LACKS_OCTET_LENGTH and raw.execute(_CALLS_OCTET_LENGTH).fetchone():
        return SchemaState.NEEDS_NEWER_SQLITE
    row = raw.execute(_VERSION).fetchone()
    revision = row[0] if row else None
    if revision == REVISIONS[-1]:
        return SchemaState.CURRENT
    if revision in marks.MARKS:
        return SchemaState.MARKED
    return SchemaState.OLDER if revision in REVISIONS else SchemaState.NEWER


def lacking(raw: Any) -> list[str]:
    """Return the tables, columns and indexes that a current file lacks."""
    with closing(driver.connect(":memory:", isolation_level=None)) as current:
        for text in statements.CREATE:
            current.execute(text)
        wanted = current.execute(_PARTS).fetchall()
    present = raw.execute(_PARTS).fetchall()
    tables, parts = {table for table, _ in present}, {part for _, part in present}
    missing = {part if table in tables else table for table, part in wanted if part not in parts}
    return sorted(missing)


def migrated_meanwhile(raw: Any, path: Path) -> DatabaseUnusable:
    """Return the refusal to write to tables that were migrated while this process had them open.

    Or moved, or marked by a transfer.
    """
    if (moved := marks.refusal(raw, str(path))) is not None:
        return moved
    row = raw.execute(_VERSION).fetchone()
    kind = OlderDatabase if row is not None and row[0] in REVISIONS else NewerDatabase
    return kind(
        f"{path} was migrated to another revision while this process had it open. Nothing was "
        "written. Restart this process with the durableq that made the file what it is now."
    )


def refuse(found: SchemaState, purpose: Purpose, path: Path) -> DatabaseUnusable | None:
    """Return the error for a file that cannot serve a purpose; None if it can."""
    if found is SchemaState.NEWER:
        return NewerDatabase(
            f"{path} was made by a newer durableq than this one (which knows revisions up to "
            f"{REVISIONS[-1]}). It was not touched. Upgrade: pip install -U durableq."
        )
    if found is SchemaState.MARKED:
        return DatabaseMoved(
            f"{path} was moved to another address, or a transfer of it has not ended. It was not "
            f"touched. `durableq doctor --db {path}` says more."
        )
    if found is SchemaState.NEEDS_NEWER_SQLITE:
        return UnsupportedSQLite(
            f"{path} was made by durableq 0.1, whose tables need SQLite "
            f"{dotted(HAS_OCTET_LENGTH)} or newer; this is {driver.sqlite_version}. It was not "
            "touched. Use a Python that brings a newer one, or pip install 'pysqlite3>=0.6.1'."
        )
    if found is SchemaState.EMPTY and purpose is Purpose.READ:
        return DatabaseUnusable(
            f"{path} has no tables of durableq, and a reader makes none. Make them: "
            f"`durableq init --db {path}`."
        )
    if found is SchemaState.OLDER and purpose in {Purpose.USE, Purpose.READ}:
        return OlderDatabase(
            f"{path} was made by an older durableq. Stop its workers and run "
            f"`durableq migrate --db {path}`."
        )
    if found is SchemaState.FOREIGN and purpose is not Purpose.ADOPT:
        return ForeignDatabase(
            f"{path} holds another application's tables and none of durableq's. It was not "
            "touched. To put the queue beside them, run "
            f"`durableq init --db {path} --beside-other-tables`."
        )
    return None


def use_wal(raw: Any, database: Database) -> None:
    """Switch the file to its write-ahead log; it stays so for every later connection.

    Raises:
        DatabaseUnusable: its file system lacks shared memory.
    """
    (mode,) = raw.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        (mode,) = raw.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseUnusable(
            f"{database.location.path} cannot use a write-ahead log (journal mode {mode}): "
            "its file system lacks shared memory. Use a local disk."
        )


def upgrade(database: Database, found: SchemaState) -> None:
    """Create or upgrade the tables in one transaction: an error half way leaves the old ones."""
    is_older = found is SchemaState.OLDER  # only the migrations need SQLAlchemy
    with UserWrite(database) if is_older else database.write() as tx:
        if state_of(tx.raw) is SchemaState.CURRENT:
            return  # another process was first
        if is_older:
            _check_unused(tx.raw, database)
            _migrate(joined(database, tx), database.location.path)
            return
        for text in (*statements.CREATE, DEAD_LETTER_VIEW, CREATE_VERSION):
            tx.execute(text)
        tx.execute(_STAMP, (REVISIONS[-1],))
        if found is SchemaState.EMPTY:
            tx.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _migrate(connection: sqlalchemy.Connection, path: Path) -> None:
    """Run the migrations, and say what an application's own tables or columns make impossible.

    Raises:
        StorageFull, Busy, DatabaseUnusable: the file is as it was.
    """
    import sqlalchemy

    try:
        run_migrations(connection)
    except (sqlalchemy.exc.DBAPIError, ValueError, OverflowError) as error:
        cause = getattr(error, "orig", None) or error
        meaning = translate(cause, path) if isinstance(cause, driver.Error) else None
        raise meaning or DatabaseUnusable(
            f"{path} was not upgraded, and is as it was: {cause}. Where an application has objects "
            "of its own on durableq's tables, drop them, migrate, and create them again."
        ) from error


def _check_unused(raw: Any, database: Database) -> None:
    """Refuse to migrate under workers of an older durableq, which would continue as before.

    Raises:
        Conflict: a registered worker has the file open.
    """
    registered = {pid for (pid,) in raw.execute("SELECT pid FROM durableq_worker")}
    living = (registered & locks.users(database.location.path)) - {os.getpid()}
    if living:
        raise Conflict(
            f"{database.location.path} is used by {locks.describe(min(living))}, a worker of an "
            "older durableq that would go on writing it in its own way. Nothing was changed. Stop "
            "its workers and everything else that has the file open, then migrate again."
        )


def estimate_upgrade(
    raw: Any,
    rebuilt: Mapping[str, tuple[str, ...]] = REBUILT,
    reading: Collection[str] = READING,
) -> UpgradeEstimate:
    """Estimate the cost of upgrading an older file.

    Args:
        raw: a connection to a file of SchemaState.OLDER.
        rebuilt: the tables that the migration to each revision rebuilds.
        reading: the revisions whose migrations read all messages.
    """
    (revision,) = raw.execute(_VERSION).fetchone()
    later = [name for name in REVISIONS if name > revision]
    tables = tuple(sorted({table for name in later for table in rebuilt[name]}))
    if not tables and not {*later} & {*reading}:
        return UpgradeEstimate((), 0, 0, 0.0)
    rows = 0
    for table in tables or ("durableq_message",):
        rows += raw.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608 - ours
    (pages,), (free,), (page_bytes,) = (
        raw.execute(f"PRAGMA {name}").fetchone()
        for name in ("page_count", "freelist_count", "page_size")
    )
    # An upper bound: the rebuilt tables are nearly all of a file. Pages of one table are counted
    # by `dbstat` only, which not every SQLite library has.
    size = (pages - free) * page_bytes
    if not tables:
        if _REWRITING in later:
            return _estimate_rewriting(raw, rows, size, page_bytes)
        return UpgradeEstimate((), rows, page_bytes, _reading_seconds(rows, size))
    # What a later migration reads or writes again is little beside a rebuild.
    seconds = rows / REBUILT_ROWS_PER_SECOND + size / REBUILT_BYTES_PER_SECOND
    # Each new page is written to the log, and then to the file, which still has the old pages.
    disk_bytes = 2 * (size + rows * REBUILT_ROW_GROWTH_BYTES)
    return UpgradeEstimate(tables, rows, disk_bytes, seconds)


def _estimate_rewriting(raw: Any, rows: int, size: int, page_bytes: int) -> UpgradeEstimate:
    """Estimate the cost of reading all messages, and of writing the dead letters again."""
    at = {"rows_in_page": max(1, rows * page_bytes // size), "page_bytes": page_bytes}
    dead_letters, pages, body_pages = raw.execute(_DEAD_LETTERS, at).fetchone()
    seconds = _reading_seconds(rows, size) + dead_letters / REWRITTEN_PER_SECOND
    grown = dead_letters * DEAD_LETTER_GROWTH_BYTES
    disk_bytes = min(size, (pages + body_pages) * page_bytes) + 2 * grown
    return UpgradeEstimate((), rows, disk_bytes, seconds, dead_letters)


def _reading_seconds(rows: int, size: int) -> float:
    return rows / READ_ROWS_PER_SECOND + size / READ_BYTES_PER_SECOND
