"""Creation, recognition and upgrade of the tables.

A new schema gets the tables of the generated texts at once. An older one is upgraded by Alembic.
Both happen in one transaction that holds the lock of the schema's writes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from durableq.engines.postgres import installing, statements, tables
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.dialect import quoted
from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.errors import first_line, translate
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.session import Session
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
from durableq.model.errors import (
    Conflict,
    DatabaseUnusable,
    ForeignDatabase,
    NewerDatabase,
    OlderDatabase,
)

#: Whether the schema is there, and in it the version's table, and any table with our names.
_EXISTS: Final = """\
SELECT to_regnamespace($1) IS NOT NULL,
    coalesce(bool_or(relname = 'durableq_version'), false),
    coalesce(bool_or(relname <> 'durableq_version'), false)
FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p')
    AND relname IN ('durableq_version', 'durableq_queue', 'durableq_message')"""
#: Workers that have written a sign of life within a minute.
_WORKERS: Final = """\
SELECT name FROM durableq_worker
WHERE beat_at_ms > extract(epoch FROM clock_timestamp()) * 1000 - 60000 ORDER BY name"""
#: Without the right to use a schema, PostgreSQL does not find it on the search path.
_FORBIDDEN: Final = {"42501", "3F000"}
T = TypeVar("T")
DEAD_LETTER_VIEW: Final = dead_letter_view("to_timestamp(m.enqueued_at_ms / 1000.0)")


def prepare(database: Database, purpose: Purpose) -> SchemaState:
    """Prepare the schema for use, or refuse it untouched; return the state it was in.

    Raises:
        OlderDatabase: it needs an upgrade, and the purpose is USE.
        NewerDatabase: a later durableq made it.
        ForeignDatabase: it has tables with our names that durableq did not make.
        Conflict: it needs an upgrade, and workers of the older durableq run.
        DatabaseUnusable: the user may not use the schema, or not create tables in it.
    """
    with database.connected() as (link, _):
        found = _allowed(database, grants_to_use, lambda: state_of(link, database))
        if found is SchemaState.MARKED:
            raise _marked(database, link)
    refusal = refuse(found, purpose, database)
    if refusal is not None:
        raise refusal
    if found is SchemaState.EMPTY:
        _allowed(database, grants_to_create, lambda: create(database))
    elif found is SchemaState.OLDER:
        upgrade(database)
    query = database.in_schema(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours
    if purpose is not Purpose.READ:
        installing.install(database)
    database.revision_check = RevisionCheck(query, REVISIONS[-1], partial(_migrated, database))
    return found


def exists(location: Location) -> bool:
    """Return whether the tables are there, of whatever revision.

    Raises:
        DatabaseUnusable, Busy: the database cannot be reached.
    """
    database = Database(location)
    try:
        with database.connected() as (link, _):
            found = _allowed(database, grants_to_use, lambda: state_of(link, database))
            return found is not SchemaState.EMPTY
    finally:
        database.close()


def state_of(link: Any, database: Database) -> SchemaState:
    """Return the state of the tables."""
    _, has_version, has_others = link.execute(_EXISTS, (database.quoted_schema,)).fetchone()
    if not has_version:
        return SchemaState.FOREIGN if has_others else SchemaState.EMPTY
    query = database.in_schema(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours
    row = link.execute(query).fetchone()
    revision = row[0] if row else None
    if revision == REVISIONS[-1]:
        return SchemaState.CURRENT
    if revision in marks.MARKS:
        return SchemaState.MARKED
    return SchemaState.OLDER if revision in REVISIONS else SchemaState.NEWER


def refuse(found: SchemaState, purpose: Purpose, database: Database) -> DatabaseUnusable | None:
    """Return the error for tables that cannot serve a purpose; None if they can."""
    place = database.location.shown
    if found is SchemaState.NEWER:
        return NewerDatabase(
            f"{place} was made by a newer durableq than this one (which knows revisions up to "
            f"{REVISIONS[-1]}). It was not touched. Upgrade: pip install -U durableq."
        )
    if found is SchemaState.EMPTY and purpose is Purpose.READ:
        return DatabaseUnusable(
            f"{place} has no tables of durableq, and a reader makes none. Make them: durableq init."
        )
    if found is SchemaState.OLDER and purpose in {Purpose.USE, Purpose.READ}:
        return OlderDatabase(
            f"{place} was made by an older durableq. Stop its workers and run `durableq migrate`."
        )
    if found is SchemaState.FOREIGN:
        return ForeignDatabase(
            f"{place} has tables whose names begin with durableq_, and not durableq_version, which "
            "durableq makes with them. It was not touched. Restore a backup of all of them, or "
            "name another schema: ?schema=name."
        )
    return None


def create(database: Database) -> None:
    """Create the tables in one transaction, unless another process was first."""
    with database.write() as tx:
        if state_of(tx.link, database) is not SchemaState.EMPTY:
            return
        has_schema, _, _ = tx.raw.execute(_EXISTS, (database.quoted_schema,)).fetchone()
        if not has_schema:
            tx.raw.execute_text(f"CREATE SCHEMA {database.quoted_schema}", prepare=False)
        _search_here(tx, database)
        for text in (*statements.CREATE, *tables.CREATE, DEAD_LETTER_VIEW, CREATE_VERSION):
            tx.raw.execute_text(text, prepare=False)
        tx.raw.execute(f"INSERT INTO {VERSION_TABLE} VALUES ($1)", (REVISIONS[-1],))  # noqa: S608


def upgrade(database: Database) -> None:
    """Upgrade the tables in one transaction, unless another process was first.

    Raises:
        Conflict: a worker of the older durableq runs.
        DatabaseUnusable: they are as they were.
    """
    import sqlalchemy

    adapter = database.adapter  # made beforehand: it asks the server on a connection of its own
    with database.write() as tx:
        if state_of(tx.link, database) is not SchemaState.OLDER:
            return
        _check_unused(tx, database)
        _search_here(tx, database)
        installing.remove(tx.link, database)
        view = adapter.view(tx.link)
        view.begin()  # so that Alembic leaves the end to us
        try:
            run_migrations(view)
        except (sqlalchemy.exc.DBAPIError, ValueError, OverflowError) as error:
            cause = getattr(error, "orig", None) or error
            place = database.location.shown
            raise translate(cause, place) or DatabaseUnusable(
                f"{place} was not upgraded, and is as it was: {first_line(cause)}. Where an "
                "application has objects of its own on durableq's tables, drop them, migrate, and "
                "create them again."
            ) from error


def _search_here(tx: Session, database: Database) -> None:
    """Let names mean this schema alone, and statements take their time, to the end."""
    tx.raw.execute_text(
        f"SET LOCAL search_path TO {database.quoted_schema}; SET LOCAL statement_timeout = 0",
        prepare=False,
    )


def _check_unused(tx: Session, database: Database) -> None:
    """Refuse to migrate under workers of an older durableq, which would continue as before.

    Raises:
        Conflict: a registered worker has shown life within a minute.
    """
    living = tx.raw.execute(database.in_schema(_WORKERS)).fetchall()
    if living:
        names = ", ".join(name for (name,) in living[:3])
        raise Conflict(
            f"{database.location.shown} is used by {len(living)} workers of an older durableq "
            f"({names}). Nothing was changed. Stop them, and everything else that uses it, then "
            "migrate again. A worker that was killed is forgotten a minute after its last sign of "
            "life."
        )


def _allowed(database: Database, grants: Callable[[Database], str], act: Callable[[], T]) -> T:
    """Return what a function returns.

    Raises:
        DatabaseUnusable: the user may not do that; the message names the grants.
    """
    try:
        return act()
    except (driver.Error, DatabaseUnusable) as error:
        cause = error if isinstance(error, driver.Error) else error.__cause__
        if getattr(cause, "sqlstate", None) not in _FORBIDDEN:
            raise translate(error, database.location.shown) or error from error.__cause__
        raise DatabaseUnusable(
            f"{database.location.shown} cannot be used ({first_line(cause or error)}). "
            f"{grants(database)}"
        ) from error


def grants_to_create(database: Database) -> str:
    """Return what lets a user create the tables."""
    schema, user = database.quoted_schema, quoted(database.user)
    return (
        f"Its owner may let this user create the tables: GRANT USAGE, CREATE ON SCHEMA {schema} TO "
        f"{user}; or, where there is no such schema yet: CREATE SCHEMA {schema} AUTHORIZATION "
        f"{user}."
    )


def grants_to_use(database: Database) -> str:
    """Return what lets a user use tables that another has created."""
    schema, user = database.quoted_schema, quoted(database.user)
    return (
        f"Their owner may let this user use the tables: GRANT USAGE ON SCHEMA {schema} TO {user}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}; GRANT "
        f"USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {user}."
    )


def _marked(database: Database, link: Any) -> DatabaseUnusable:
    """Return the refusal to use tables that have the mark of a transfer."""
    return marks.marked(link, database.location.shown, database.in_schema)


def _migrated(database: Database, link: Any) -> DatabaseUnusable:
    """Return the refusal to write to tables that were migrated while this process had them open."""
    try:
        found = state_of(link, database)
        if found is SchemaState.MARKED:
            return _marked(database, link)
    except driver.Error:
        found = SchemaState.NEWER
    kind = OlderDatabase if found is SchemaState.OLDER else NewerDatabase
    return kind(
        f"{database.location.shown} was migrated to another revision while this process had it "
        "open. Nothing was written. Restart this process with the durableq that made it what it "
        "is now."
    )
