"""Creation, recognition and upgrade of the tables."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from durableq.engines.postgres import statements
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.driver import driver
from durableq.engines.sql.schema import REVISIONS, VERSION_TABLE, Purpose, SchemaState
from durableq.engines.sql.transactions import RevisionCheck
from durableq.model.errors import DatabaseUnusable, NewerDatabase, OlderDatabase

_EXISTS: Final = (
    "SELECT to_regclass($1 || '.durableq_version') IS NOT NULL, to_regnamespace($1) IS NOT NULL"
)
_CREATE_VERSION: Final = (
    f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, "
    f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
)
#: A view for people: the dead letters with their last failure.
DEAD_LETTER_VIEW: Final = """\
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, m.burial_reason AS reason,
       to_timestamp(m.enqueued_at_ms / 1000.0) AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body, m.burial_fingerprint AS fingerprint
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))"""


def prepare(database: Database, purpose: Purpose) -> SchemaState:
    """Prepare the schema for use, or refuse it untouched; return the state it was in.

    Raises:
        OlderDatabase: it needs an upgrade, and the purpose is USE.
        NewerDatabase: a later durableq made it.
        DatabaseUnusable: the user may not create the tables.
    """
    with database.connected() as (link, _):
        found = state_of(link, database)
    if found is SchemaState.NEWER:
        raise _newer(database)
    if found is SchemaState.OLDER and purpose is Purpose.USE:
        raise _older(database)
    if found is not SchemaState.CURRENT:
        create(database)
    query = database.in_schema(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours
    database.revision_check = RevisionCheck(query, REVISIONS[-1], partial(_migrated, database))
    return found


def state_of(link: Any, database: Database) -> SchemaState:
    """Return the state of the tables."""
    has_tables, _ = link.execute(_EXISTS, (database.quoted_schema,)).fetchone()
    if not has_tables:
        return SchemaState.EMPTY
    query = database.in_schema(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours
    row = link.execute(query).fetchone()
    revision = row[0] if row else None
    if revision == REVISIONS[-1]:
        return SchemaState.CURRENT
    return SchemaState.OLDER if revision in REVISIONS else SchemaState.NEWER


def create(database: Database) -> None:
    """Create the tables in one transaction, unless another process was first."""
    with database.write() as tx:
        if state_of(tx.link, database) is not SchemaState.EMPTY:
            return
        schema = database.quoted_schema
        _, has_schema = tx.raw.execute(_EXISTS, (schema,)).fetchone()
        if not has_schema:
            tx.raw.execute_text(f"CREATE SCHEMA {schema}", prepare=False)
        tx.raw.execute_text(f"SET LOCAL search_path TO {schema}", prepare=False)
        for text in (*statements.CREATE, DEAD_LETTER_VIEW, _CREATE_VERSION):
            tx.raw.execute_text(text, prepare=False)
        tx.raw.execute(f"INSERT INTO {VERSION_TABLE} VALUES ($1)", (REVISIONS[-1],))  # noqa: S608


def _newer(database: Database) -> NewerDatabase:
    return NewerDatabase(
        f"{database.location.shown} was made by a newer durableq than this one (which knows "
        f"revisions up to {REVISIONS[-1]}). It was not touched. Upgrade: pip install -U durableq."
    )


def _older(database: Database) -> OlderDatabase:
    return OlderDatabase(
        f"{database.location.shown} was made by an older durableq. Stop its workers and run "
        "`durableq migrate`."
    )


def _migrated(database: Database, link: Any) -> DatabaseUnusable:
    """Return the refusal to write to tables that were migrated while this process had them open."""
    try:
        found = state_of(link, database)
    except driver.Error:
        found = SchemaState.NEWER
    kind = OlderDatabase if found is SchemaState.OLDER else NewerDatabase
    return kind(
        f"{database.location.shown} was migrated to another revision while this process had it "
        "open. Nothing was written. Restart this process with the durableq that made it what it "
        "is now."
    )
