"""The doctor on PostgreSQL: a sound database, and every other kind; it changes none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.engines.postgres import doctor_tables, doctor_use
from durableq.engines.postgres.location import lock_key
from durableq.model.health import Finding, Level
from tests.migrations.catalog import connected, described, split
from tests.postgres import USER, Server, Standby, new_schema, running

pytestmark = pytest.mark.xdist_group("postgres doctor")

NAMES = [
    *(
        "server",
        "database",
        "tables",
        "indexes",
        "functions",
        "grants",
        "boot",
        "wall_clock",
        "vacuum",
        "size",
    ),
    *("write_lock", "durability", "settings", "connections", "sessions", "transactions"),
    *("oldest_xmin", "replication", "server_clock", "workers", "handlers"),
    "schedules",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of these tests, whose settings may be changed."""
    with running("fsync=on", "max_prepared_transactions=5", "wal_level=logical") as server:
        yield server


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """A schema with tables and a message."""
    with new_schema(server.url) as url:
        with DurableQ(url) as dq:
            dq.queue("orders").send(1)
        yield url


def examined(url: str, *, deep: bool = False) -> dict[str, Finding]:
    """The findings, the worst of each name; each that is not ok has advice."""
    found = operations.examine(url, deep=deep)
    assert all(finding.advice for finding in found if finding.level is not Level.OK)
    order = [Level.BAD, Level.WARN, Level.OK]
    found.sort(key=lambda finding: order.index(finding.level), reverse=True)
    return {finding.name: finding for finding in found}


def content(url: str) -> list[Any]:
    """Every row of the schema's tables, and its catalog."""
    rows: list[Any] = [described(url)]
    with connected(url) as connection:
        for table in sorted({row[0] for row in rows[0]["columns"]}):
            rows += connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
    return rows


@contextmanager
def setting(server: Server, name: str, value: str) -> Iterator[None]:
    """Change a setting of new connections for a block."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {USER} SET {name} = '{value}'".encode())
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {USER} RESET {name}".encode())


def test_a_sound_database_is_ok_and_is_not_changed(url: str) -> None:
    before = content(url)
    found = operations.examine(url)
    assert [finding.name for finding in found] == NAMES
    assert {f.name for f in found if f.level is not Level.OK} == {"handlers"}
    assert "PostgreSQL 1" in found[0].what
    assert content(url) == before


def test_a_schema_without_tables_is_a_warning_and_stays_empty(server: Server) -> None:
    with new_schema(server.url) as url:
        found = examined(url)
        assert found["database"].level is Level.WARN
        assert "durableq init" in found["database"].advice
        assert "tables" not in found
        assert "workers" not in found
        with psycopg.connect(server.url) as connection:
            name = split(url)[1]
            assert connection.execute("SELECT to_regnamespace(%s)", [name]).fetchone() == (None,)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("postgresql://durableq@/postgres?host=/nowhere", "cannot be reached"),
        ("postgresql://durableq@localhost:1/postgres", "cannot be reached"),
    ],
)
def test_a_server_that_is_not_there_is_bad(url: str, what: str) -> None:
    (finding,) = operations.examine(url)
    assert (finding.name, finding.level) == ("server", Level.BAD)
    assert what in finding.what
    assert "check host and port" in finding.advice


@pytest.mark.parametrize(
    ("change", "name", "what"),
    [
        ("UPDATE durableq_version SET version_num = '9999'", "database", "newer durableq"),
        ("DROP TABLE durableq_version", "database", "no durableq_version"),
        (
            "ALTER TABLE durableq_message DROP COLUMN group_id",
            "tables",
            "durableq_message.group_id",
        ),
        ("DROP INDEX durableq_message_ready", "tables", "missing: durableq_message_ready"),
        ("DROP TABLE durableq_once", "tables", "missing: durableq_once"),
        (
            "DROP TABLE durableq_counter_delta CASCADE",
            "tables",
            "durableq_counter_delta, durableq_",
        ),
        ("DROP VIEW durableq_dead_letter", "tables", "missing: durableq_dead_letter"),
        (
            "ALTER TABLE durableq_flow DROP CONSTRAINT durableq_flow_pkey",
            "tables",
            "the primary key of durableq_flow",
        ),
    ],
)
def test_a_missing_part_is_named(url: str, change: str, name: str, what: str) -> None:
    with connected(url) as connection:
        connection.execute(change.encode())
    found = examined(url)[name]
    assert found.level is Level.BAD
    assert what in found.what


def test_an_invalid_index_is_bad(url: str) -> None:
    with connected(url) as connection:
        connection.execute(
            "INSERT INTO durableq_once SELECT 'k' || i, NULL, 1, 1, 1, 1, "
            "NULL, 1, '' FROM generate_series(1, 2) AS i"
        )
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "CREATE UNIQUE INDEX CONCURRENTLY durableq_once_at ON durableq_once (created_at_ms)"
            )
    found = examined(url)["indexes"]
    assert (found.level, found.what.rpartition(": ")[2]) == (Level.BAD, "durableq_once_at")
    assert "REINDEX INDEX CONCURRENTLY" in found.advice


def test_a_user_without_rights_is_told_which(server: Server, url: str) -> None:
    name = split(url)[1]
    with connected(url) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        try:
            as_reader = url.replace(f"{USER}@", "reader@")
            assert examined(as_reader)["database"].level is Level.BAD
            connection.execute(
                f"GRANT USAGE ON SCHEMA {name} TO reader; "
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO reader".encode()
            )
            found = examined(as_reader)
            assert found["database"].level is Level.OK
            assert found["grants"].level is Level.BAD
            assert "DELETE, INSERT, UPDATE on durableq_counters" in found["grants"].what
            assert "GRANT SELECT, INSERT" in found["grants"].advice
            assert "each function" in found["functions"].what
            functions = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = %s"
            for (function,) in connection.execute(f"{functions}::regnamespace", [name]).fetchall():
                connection.execute(f"DROP FUNCTION {function}".encode())
            found = examined(as_reader)
            assert found["functions"].level is Level.WARN
            assert "slow and one at a time: send," in found["functions"].what
            assert "not shown to this one" in found["transactions"].what
        finally:
            connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_a_long_transaction_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_use, "LONG_SECONDS", 0)
    monkeypatch.setattr(doctor_use, "OLD_XMIN", 0)
    with connected(url) as idle:
        idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        idle.execute("SELECT 1 FROM durableq_queue")
        pid = idle.info.backend_pid
        found = examined(url)
        assert found["transactions"].level is found["oldest_xmin"].level is Level.WARN
        assert f"pid {pid} " in found["transactions"].what
        assert "idle in transaction" in found["transactions"].what
        assert f"a transaction, pid {pid} " in found["oldest_xmin"].what
        assert f"pg_terminate_backend({pid})" in found["oldest_xmin"].advice
        idle.execute("ROLLBACK")
    assert examined(url)["transactions"].level is Level.OK


def test_a_prepared_transaction_and_a_slot_hold_vacuum_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_use, "OLD_XMIN", 0)
    with connected(url) as connection:
        connection.execute("BEGIN; UPDATE durableq_queue SET paused = 0")
        connection.execute("PREPARE TRANSACTION 'forgotten'")
        try:
            found = examined(url)["oldest_xmin"]
            assert "a prepared transaction, forgotten," in found.what
            assert "ROLLBACK PREPARED 'forgotten'" in found.advice
        finally:
            connection.execute("ROLLBACK PREPARED 'forgotten'")
        assert examined(url)["oldest_xmin"].level is Level.OK


def test_who_holds_the_write_lock_all_the_while_is_named(url: str) -> None:
    with connected(url) as holder:
        (name,) = holder.execute("SELECT current_database()").fetchone() or ("",)
        key = lock_key(name, split(url)[1])
        holder.execute("BEGIN")
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [key])
        found = examined(url)["write_lock"]
        assert found.level is Level.WARN
        assert f"pid {holder.info.backend_pid} " in found.what
        assert "idle in transaction" in found.what
        holder.execute("ROLLBACK")
    assert examined(url)["write_lock"].level is Level.OK


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("statement_timeout", "5s", "statement_timeout is 5 s"),
        ("idle_in_transaction_session_timeout", "10s", "idle_in_transaction_session_timeout is 10"),
    ],
)
def test_a_setting_that_is_in_the_way_is_a_warning(
    server: Server, url: str, name: str, value: str, what: str
) -> None:
    with setting(server, name, value):
        found = examined(url)["settings"]
        assert found.level is Level.WARN
        assert what in found.what


def test_unsafe_settings_of_the_server_are_bad(server: Server, url: str) -> None:
    with closing(psycopg.connect(server.url, autocommit=True)) as connection:
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            found = examined(url)
            assert found["durability"].level is Level.BAD
            assert "full_page_writes is off" in found["durability"].what
            assert "autovacuum does not run" in found["settings"].what
            connection.execute("SET synchronous_commit = local")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")
            found = examined(url)
            assert found["durability"].level is Level.BAD
            assert "no standby of synchronous_standby_names (ghost)" in found["durability"].what
        finally:
            connection.execute("ALTER SYSTEM RESET ALL")
            connection.execute("SELECT pg_reload_conf()")


def test_few_connections_are_a_warning(server: Server, url: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 1")
        try:
            found = examined(url.replace(f"{USER}@", "few@"))["connections"]
            assert found.level is Level.WARN
            assert found.what == "1 of the 1 that this user may have are in use"
        finally:
            connection.execute("DROP ROLE few")


def test_dead_rows_are_a_warning(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tables, "DEAD_ROWS", 500)
    with connected(url) as connection:
        connection.execute("ALTER TABLE durableq_once SET (autovacuum_enabled = off)")
        connection.execute(
            "INSERT INTO durableq_once SELECT 'k' || i, NULL, 1, 1, 1, 1, NULL, 1, "
            "'' FROM generate_series(1, 1000) AS i"
        )
        connection.execute("DELETE FROM durableq_once")
        connection.execute("SELECT pg_stat_force_next_flush()")
        found = examined(url)["vacuum"]
        assert found.level is Level.WARN
        assert "1,000 in durableq_once beside 0, never vacuumed" in found.what
        connection.execute("VACUUM durableq_once")
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert examined(url)["vacuum"].level is Level.OK


def test_a_bloated_index_is_a_warning(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tables, "LARGE_BYTES", 100_000)
    with connected(url) as connection:
        connection.execute("ALTER TABLE durableq_once SET (autovacuum_enabled = off)")
        connection.execute(
            "INSERT INTO durableq_once SELECT 'k' || i, NULL, i, i, i, 1, NULL, 1, "
            "'' FROM generate_series(1, 10000) AS i"
        )
        connection.execute("VACUUM ANALYZE durableq_once")
        assert examined(url)["size"].level is Level.OK
        connection.execute("DELETE FROM durableq_once WHERE created_at_ms % 100 <> 0")
        connection.execute("VACUUM ANALYZE durableq_once")
        found = examined(url)["size"]
        assert found.level is Level.WARN
        assert "durableq_once" in found.what


def test_a_deep_examination_compares_the_indexes(url: str) -> None:
    assert "no extension amcheck" in examined(url, deep=True)["integrity"].what
    with connected(url) as connection:
        connection.execute("CREATE EXTENSION amcheck SCHEMA public")
        try:
            found = examined(url, deep=True)["integrity"]
        finally:
            connection.execute("DROP EXTENSION amcheck")
    assert found.level is Level.OK
    assert "indexes have every row of their tables" in found.what


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("state = 4", "1 in durableq_message with a wrong state"),
        ("receipt = ''", "1 in durableq_message with a wrong receipt"),
        ("key = 'k'", "1 in durableq_message with a wrong payload hash"),
        ("body = repeat('x', (128 << 20) + 3)", "1 in durableq_message with a wrong size"),
    ],
)
def test_a_deep_examination_finds_impossible_messages(url: str, change: str, fault: str) -> None:
    assert examined(url, deep=True)["rows"].level is Level.OK
    with connected(url) as connection:
        connection.execute(f"UPDATE durableq_message SET {change}".encode())
    found = examined(url, deep=True)["rows"]
    assert (found.level, found.what) == (Level.BAD, fault)


def test_a_deep_examination_finds_impossible_records(url: str) -> None:
    with DurableQ(url) as dq:
        dq.queue("orders").send(1, key="k")
        (message, *_) = dq.store.receive("orders", 2).messages
        assert message.state.label == "in_flight"
    with connected(url) as connection:
        connection.execute("UPDATE durableq_idempotency SET status = 2")
    assert examined(url, deep=True)["rows"].what == "1 in durableq_idempotency with a wrong status"


@pytest.fixture
def standby(server: Server, url: str) -> Iterator[Server]:
    """A standby of the server, which has the schema."""
    standby = Standby(server, "max_prepared_transactions=5")
    standby.start()
    yield standby
    standby.stop()


def test_a_standby_is_bad_and_is_read(standby: Server, url: str) -> None:
    there = f"{standby.url}&schema={split(url)[1]}"
    found = examined(there)
    assert found["server"].level is Level.BAD
    assert "a standby, which is read-only" in found["server"].what
    assert found["database"].level is Level.OK
    assert found["handlers"].queue == "orders"
    assert "standbys: walreceiver (async)" in examined(url)["replication"].what
