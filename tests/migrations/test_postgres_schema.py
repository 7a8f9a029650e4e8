"""The tables on PostgreSQL: those of the migrations, and those of SQLite; all or none are made."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from durableq import DatabaseUnusable, DurableQ
from durableq.engines.postgres import schema
from durableq.engines.postgres.location import lock_key
from durableq.engines.sql import migrating
from durableq.engines.sql.schema import REVISIONS
from durableq.model.errors import Conflict, ForeignDatabase, NewerDatabase, OlderDatabase
from tests.engine import plain
from tests.migrations.catalog import connected, described, split
from tests.migrations.test_migrations import later_revision
from tests.postgres import new_schema
from tests.support import wait_for

#: What one engine has and the other has not.
ONLY_SQLITE = {"sqlite_sequence"}
ONLY_POSTGRES = {"durableq_counter_delta"}
SQLITE_PARTS = """
SELECT m.name, c.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
WHERE m.type = 'table' ORDER BY m.name, c.cid"""
SQLITE_INDEXES = """
SELECT m.name, group_concat(c.name) FROM sqlite_schema AS m JOIN pragma_index_info(m.name) AS c
WHERE m.type = 'index' AND m.sql IS NOT NULL GROUP BY m.name ORDER BY m.name"""
CREATED = "import sys; from durableq.engines import create_store; print(create_store(sys.argv[1]))"


@pytest.fixture
def second_url(postgres_server: str) -> Iterator[str]:
    with new_schema(postgres_server) as url:
        yield url


def init(url: str) -> str:
    """Create or upgrade the tables."""
    with DurableQ(url) as dq:
        return dq.init()


def migrated(url: str) -> None:
    """Make the tables by running every migration."""
    server, name = split(url)
    engine = sa.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {name}")
        migrating.run_migrations(connection)
    engine.dispose()


def test_new_tables_are_exactly_those_of_the_migrations(postgres_url: str, second_url: str) -> None:
    """Until its first migration is released: if this fails, run scripts/keep_revision.py."""
    assert init(postgres_url) == "empty"
    migrated(second_url)
    new, old = described(postgres_url), described(second_url)
    assert {kind: len(rows) > 0 for kind, rows in new.items()}["columns"]
    assert new == old


def test_the_tables_and_columns_are_those_of_sqlite(postgres_url: str, tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    init(str(db))
    init(postgres_url)
    ours = [(row[0], row[1]) for row in described(postgres_url)["columns"]]
    theirs = plain.rows(db, SQLITE_PARTS)
    assert sorted(row for row in theirs if row[0] not in ONLY_SQLITE) == sorted(
        row for row in ours if row[0] not in ONLY_POSTGRES
    )


def test_the_indexes_have_the_columns_of_those_of_sqlite(postgres_url: str, tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    init(str(db))
    init(postgres_url)
    constraints = {name for _, name, _ in described(postgres_url)["constraints"]}
    ours = {
        name: re.sub(r"[ \"]", "", re.findall(r"\((.*?)\)", definition)[0])
        for name, definition in described(postgres_url)["indexes"]
        if name not in constraints
    }
    assert ours == dict(plain.rows(db, SQLITE_INDEXES))
    assert len(ours) > 10


def test_processes_that_open_an_empty_database_make_the_tables_once(
    postgres_url: str, postgres_server: str
) -> None:
    """Each has seen that there are no tables, and waits for the lock of the schema's writes."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        key = lock_key(name, split(postgres_url)[1])
        connection.execute("SELECT pg_advisory_lock(%s)", [key])
        command = [sys.executable, "-c", CREATED, postgres_url]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        try:
            wait_for(
                lambda: waiting(connection, key) == 3 or any(map(has_ended, running)),
                seconds=20,
                what="three that wait",
            )
            assert not any(map(has_ended, running)), "one did not wait"
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [key])
            found = [process.communicate()[0].strip() for process in running]
    assert (found, [process.returncode for process in running]) == (["empty"] * 3, [0] * 3)
    with connected(postgres_url) as connection:
        rows = connection.execute("SELECT version_num FROM durableq_version").fetchall()
    assert rows == [(REVISIONS[-1],)]


def has_ended(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def waiting(connection: psycopg.Connection, key: int) -> int:
    """The number of sessions that wait for an advisory lock."""
    waiters = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND "
        "(classid::bigint << 32 | objid::bigint) = %s"
    )
    (number,) = connection.execute(waiters, [key]).fetchone() or (0,)
    return int(number)


def test_a_creation_that_raises_half_way_leaves_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "DEAD_LETTER_VIEW", "CREATE VIEW x AS SELECT * FROM nowhere")
        with pytest.raises(DatabaseUnusable, match="nowhere"):
            init(postgres_url)
    with connected(postgres_url) as connection:
        name = split(postgres_url)[1]
        assert connection.execute("SELECT to_regnamespace(%s)", [name]).fetchone() == (None,)
    assert init(postgres_url) == "empty"


def test_the_tables_stand_beside_others(postgres_url: str) -> None:
    name = split(postgres_url)[1]
    with connected(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        connection.execute("CREATE TABLE orders (id integer)")
    with DurableQ(postgres_url) as dq:
        assert dq.init(beside_other_tables=True) == "empty"
        assert dq.init() == "current"
    assert ("orders", "id") in {row[:2] for row in described(postgres_url)["columns"]}


def test_tables_of_a_newer_durableq_are_refused(postgres_url: str) -> None:
    init(postgres_url)
    with connected(postgres_url) as connection:
        connection.execute("UPDATE durableq_version SET version_num = '9999'")
    before = described(postgres_url)
    for verb in (DurableQ.init, DurableQ.migrate, lambda dq: dq.store):
        with pytest.raises(NewerDatabase, match=r"newer durableq.*not touched.*pip install -U"):
            verb(DurableQ(postgres_url))
    assert described(postgres_url) == before


@pytest.mark.parametrize(("revision", "kind"), [("9999", NewerDatabase), ("0006", OlderDatabase)])
def test_nothing_is_written_to_tables_that_were_migrated_meanwhile(
    postgres_url: str, revision: str, kind: type[DatabaseUnusable]
) -> None:
    with DurableQ(postgres_url) as dq:
        orders = dq.queue("orders", max_in_flight=5)  # a queue with limits, and one without
        mail = dq.queue("mail")
        orders.send(1)
        with connected(postgres_url) as connection:
            set_to = "UPDATE durableq_version SET version_num = %s"
            connection.execute(set_to, [revision])
            for act in (lambda: orders.send(2), lambda: mail.send(2), orders.receive):
                with pytest.raises(kind, match=r"another revision.*Nothing was written"):
                    act()
            connection.execute(set_to, [REVISIONS[-1]])
        assert orders.info().counts.ready == 1
        assert mail.info().counts.ready == 0


def test_tables_with_our_names_that_are_not_ours_are_refused(postgres_url: str) -> None:
    name = split(postgres_url)[1]
    with connected(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        connection.execute("CREATE TABLE durableq_message (x integer)")
    before = described(postgres_url)
    for verb in (DurableQ.init, lambda dq: dq.store):
        with pytest.raises(ForeignDatabase, match=r"not durableq_version.*not touched"):
            verb(DurableQ(postgres_url))
    assert described(postgres_url) == before


def test_a_later_revision_is_reached_by_migrate_alone(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DurableQ(postgres_url) as dq:
        dq.queue("orders").send("kept")
    later_revision(tmp_path, "UPDATE durableq_queue SET max_recoveries = 9", monkeypatch)
    monkeypatch.setattr(schema, "REVISIONS", (*REVISIONS, "9999"))
    with pytest.raises(OlderDatabase, match="Stop its workers and run `durableq migrate`"):
        _ = DurableQ(postgres_url).store
    with DurableQ(postgres_url) as dq:
        assert dq.migrate() == "older"
        assert dq.queue("orders").info().settings.max_recoveries == 9
        assert dq.queue("orders").receive()[0].body == "kept"
    with connected(postgres_url) as connection:
        assert connection.execute("SELECT version_num FROM durableq_version").fetchall() == [
            ("9999",)
        ]


def test_a_migration_that_raises_half_way_leaves_nothing(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DurableQ(postgres_url) as dq:
        dq.queue("orders").send("kept")
    before = described(postgres_url)
    with monkeypatch.context() as patched:
        later_revision(tmp_path, "SELECT 1 / 0", patched)
        patched.setattr(schema, "REVISIONS", (*REVISIONS, "9999"))
        with pytest.raises(DatabaseUnusable, match="as it was: division by zero"):
            init(postgres_url)
    assert described(postgres_url) == before
    with DurableQ(postgres_url) as dq:
        assert dq.init() == "current"
        assert dq.queue("orders").info().counts.ready == 1


def test_tables_that_a_worker_uses_are_not_migrated(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(postgres_url)
    with connected(postgres_url) as connection:
        connection.execute(
            "INSERT INTO durableq_worker (name, pid, created_ms, boot_id, started_at_ms, "
            "beat_at_ms) VALUES ('host-a:7', 7, 1, 'b', 1, "
            "extract(epoch FROM clock_timestamp()) * 1000 - 5000)"
        )
        later_revision(tmp_path, "SELECT 1", monkeypatch)
        monkeypatch.setattr(schema, "REVISIONS", (*REVISIONS, "9999"))
        with pytest.raises(Conflict, match=r"1 workers.*host-a:7.*Nothing was changed"):
            init(postgres_url)
        connection.execute("UPDATE durableq_worker SET beat_at_ms = beat_at_ms - 60000")
    assert init(postgres_url) == "older"


@pytest.fixture
def role(postgres_server: str) -> Iterator[str]:
    """A user without rights, where the server lets one in without a password."""
    name = f"guest_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        try:
            psycopg.connect(as_role(postgres_server, name)).close()
            yield name
        except psycopg.OperationalError:
            pytest.skip("the server asks this user for a password")
        finally:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def as_role(url: str, role: str) -> str:
    """Return a URL for another user."""
    return re.sub("(?<=://)[^@/]*@", f"{role}@", url)


def test_a_user_who_may_create_no_schema_is_told_the_grants(postgres_url: str, role: str) -> None:
    name = split(postgres_url)[1]
    with pytest.raises(DatabaseUnusable, match=f'CREATE SCHEMA "{name}" AUTHORIZATION "{role}"'):
        init(as_role(postgres_url, role))


def test_a_user_with_the_grants_that_were_named_creates_the_tables(
    postgres_url: str, role: str
) -> None:
    name = split(postgres_url)[1]
    with connected(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        with pytest.raises(DatabaseUnusable, match="may let this user create") as refused:
            init(as_role(postgres_url, role))
        (told,) = re.findall(r"GRANT [^;]* TO \"\w+\"", str(refused.value))
        connection.execute(told.encode())
    with DurableQ(as_role(postgres_url, role)) as dq:
        assert dq.init() == "empty"
        dq.queue("orders").send(1)


def test_a_user_with_the_grants_that_were_named_uses_the_tables(
    postgres_url: str, role: str
) -> None:
    with DurableQ(postgres_url) as owner:
        owner.queue("orders").send(1, key="k", group="g")
    with pytest.raises(DatabaseUnusable, match="may let this user use the tables") as refused:
        init(as_role(postgres_url, role))
    told = re.findall(r"GRANT [^;]*? TO \"\w+\"", str(refused.value))
    assert len(told) == 3
    with connected(postgres_url) as connection:
        for grant in told:
            connection.execute(grant.encode())
    with DurableQ(as_role(postgres_url, role)) as dq:
        (message,) = dq.queue("orders").receive()
        message.complete()
        dq.queue("mail").send(2)
