"""The rebuild of the message table by 0005, and what 0006 adds: all of it or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from durableq import DatabaseUnusable, DurableQ
from durableq.engines.sqlite import schema
from tests.engine import plain
from tests.migrations.test_released import RELEASED

pytestmark = pytest.mark.skipif(
    schema.LACKS_OCTET_LENGTH, reason="this SQLite library refuses a file of release 0.1"
)

MESSAGES = 20_000
BACKLOG = f"""
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MESSAGES})
INSERT INTO durableq_message (queue_id, state, priority, deferred, receive_count, recovery_count,
    lease_until_ms, delayed_until_ms, enqueued_at_ms, sent_at_ms, receipt, body)
SELECT queue.id, 0, i % 7, 0, 0, 0, 0, 0, 0, i, zeroblob(16), '"' || hex(zeroblob(200)) || '"'
FROM n JOIN durableq_queue AS queue ON queue.name = 'orders';
UPDATE durableq_queue SET sent = sent + {MESSAGES} WHERE name = 'orders'"""
CONTENT = "SELECT id, priority, key, attributes, body FROM durableq_message ORDER BY id"
#: Migrates a file, and stops just before a statement.
STOPPING = """
import sys, time
from sqlalchemy import event
from sqlalchemy.engine import Engine
from durableq import DatabaseUnusable, DurableQ

@event.listens_for(Engine, "before_cursor_execute")
def stop(connection, cursor, statement, *_):
    if sys.argv[2] in statement:
        print("half way", flush=True)
        time.sleep(3600)

DurableQ(sys.argv[1]).migrate()
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    db = Path(shutil.copy(RELEASED / "0004.db", tmp_path / "queue.db"))
    plain.script(db, BACKLOG)
    return db


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO durableq_message (",
        "DROP TABLE durableq_message_0004",
        "CREATE INDEX durableq_message_dead",
        "DROP COLUMN sent",
        "ADD COLUMN burial_fingerprint",
        "CREATE INDEX durableq_message_burial",
        "UPDATE durableq_version",
    ],
)
def test_a_migration_that_is_killed_leaves_the_old_file(db: Path, statement: str) -> None:
    content = plain.rows(db, CONTENT)
    before = plain.rows(db, "SELECT name, sql FROM sqlite_schema")
    command = [sys.executable, "-c", STOPPING, str(db), statement]
    with subprocess.Popen(command, stdout=PIPE, text=True) as migrating:
        assert migrating.stdout is not None
        assert migrating.stdout.readline() == "half way\n"
        migrating.kill()
    plain.check_whole(db)
    assert plain.rows(db, "SELECT name, sql FROM sqlite_schema") == before
    assert plain.rows(db, CONTENT) == content
    with DurableQ(db) as dq:
        assert dq.migrate() == "older"
        assert dq.queue("orders").info().counts.present == len(content) - 3  # those of mail
    assert plain.rows(db, CONTENT) == content
    plain.check_sound(db)


def test_messages_are_received_in_the_order_of_before(db: Path) -> None:
    ready = "SELECT CAST(id AS TEXT) FROM durableq_message WHERE state = 0 AND queue_id = ("
    ready += "SELECT id FROM durableq_queue WHERE name = 'orders') ORDER BY priority DESC, id"
    expected = plain.column(db, f"{ready} LIMIT 100")
    plain.script(db, "UPDATE durableq_message SET enqueued_at_ms = 4e12")  # not expired
    with DurableQ(db) as dq:
        dq.migrate()
        assert [message.id for message in dq.store.receive("orders", 100).messages] == expected
    sizes = "SELECT count(*) FROM durableq_message WHERE body_bytes <> length(CAST(body AS BLOB))"
    assert plain.one(db, sizes) == 0


def test_objects_of_an_application_on_the_table_stay(db: Path) -> None:
    plain.script(
        db,
        "CREATE TABLE mine (message_id INTEGER REFERENCES durableq_message (id));"
        "CREATE VIEW waiting AS SELECT id, body FROM durableq_message WHERE state = 0;"
        "CREATE INDEX by_time ON durableq_message (sent_at_ms);"
        "CREATE INDEX durableq_message_by_time ON DurableQ_Message (sent_at_ms);"
        "CREATE TRIGGER noted AFTER DELETE ON durableq_message "
        "BEGIN INSERT INTO mine VALUES (old.id); END",
    )
    names = ["by_time", "durableq_message_by_time", "mine", "noted", "waiting"]
    theirs = f"SELECT name, sql FROM sqlite_schema WHERE name IN {(*names,)} ORDER BY name"
    before = plain.rows(db, theirs)
    assert [name for name, _ in before] == names
    with DurableQ(db) as dq:
        dq.migrate()
    assert plain.rows(db, theirs) == before
    assert plain.one(db, "SELECT count(*) FROM mine") == 0
    assert plain.one(db, "SELECT count(*) FROM waiting") > MESSAGES


@pytest.mark.parametrize(
    ("theirs", "cause"),
    [
        ("ALTER TABLE durableq_message ADD COLUMN tenant TEXT", "rebuilt without them: tenant"),
        ("CREATE TABLE durableq_counters (x)", "table durableq_counters already exists"),
        ("CREATE INDEX by_total ON durableq_queue (sent)", "error in index by_total"),
        ("CREATE VIEW lost AS SELECT x FROM nowhere", "error in view lost"),
    ],
)
def test_an_object_of_an_application_in_the_way_is_named_and_nothing_is_changed(
    db: Path, theirs: str, cause: str
) -> None:
    plain.script(db, theirs)
    before = plain.rows(db, "SELECT name, sql FROM sqlite_schema")
    with DurableQ(db) as dq, pytest.raises(DatabaseUnusable) as refused:
        dq.migrate()
    assert cause in str(refused.value)
    assert "drop them, migrate, and create them again" in str(refused.value)
    assert plain.rows(db, "SELECT name, sql FROM sqlite_schema") == before
    assert plain.rows(db, "SELECT version_num FROM durableq_version") == [("0004",)]


@pytest.mark.parametrize(
    "behind",
    [
        "DELETE FROM sqlite_sequence WHERE name = 'durableq_message'",
        "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'durableq_message'",
    ],
)
def test_a_sequence_that_is_behind_is_mended(db: Path, behind: str) -> None:
    plain.script(db, behind)
    last = plain.one(db, "SELECT max(id) FROM durableq_message")
    with DurableQ(db) as dq:
        dq.migrate()
        assert int(dq.queue("orders").send("next")) == last + 1


@pytest.mark.parametrize("revision", ["0004", "0005"])
def test_each_dead_letter_is_in_the_group_of_its_last_burial(tmp_path: Path, revision: str) -> None:
    db = Path(shutil.copy(RELEASED / f"{revision}.db", tmp_path / "queue.db"))
    plain.script(db, "DELETE FROM durableq_history WHERE message_id = 4 AND event = 'buried'")
    burial = "SELECT reason, fingerprint FROM durableq_history WHERE message_id = 1 AND event"
    [buried] = plain.rows(db, f"{burial} = 'buried'")
    with DurableQ(db) as dq:
        dq.migrate()
    groups = "SELECT id, burial_reason, burial_fingerprint FROM durableq_message WHERE "
    dead = plain.rows(db, f"{groups} source_queue_id IS NOT NULL ORDER BY id")
    assert dead == [(1, *buried), (4, "handler_error", "")]
    assert not plain.rows(db, f"{groups} source_queue_id IS NULL AND burial_reason IS NOT NULL")
    plain.check_sound(db)
