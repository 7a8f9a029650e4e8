"""Each failure of a PostgreSQL server is a named error, with a sentence that names no password."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from durableq import (
    Busy,
    DatabaseUnreachable,
    DatabaseUnusable,
    DurableQ,
    InvalidInput,
    OutcomeUnknown,
    Queue,
    StorageFull,
)
from durableq.cli import output
from durableq.engines import open_store
from durableq.model.errors import PASSING
from tests.engine import plain
from tests.postgres import Server, Standby, running
from tests.support import scaled, wait_for

on_postgres = pytest.mark.parametrize("db", ["postgres"], indirect=True)
TRY_AGAIN, FIX_IT = 4, 1


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own."""
    with running("fsync=off", "max_connections=12", "superuser_reserved_connections=3") as server:
        yield server


def refusal(url: str, kind: type[Exception]) -> str:
    """Return the sentence with which a database is refused at its opening."""
    with pytest.raises(kind) as caught:
        open_store(url).close()
    assert type(caught.value) is kind, caught.value
    error: Any = caught.value
    if not isinstance(error, InvalidInput):
        is_passing = isinstance(error, PASSING)
        assert output.exit_code(error) == (TRY_AGAIN if is_passing else FIX_IT)
    says = str(error)
    assert "secret" not in says
    assert says.count("\n") == 0
    return says


def as_administrator(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def user(url: str, name: str, **changes: str) -> str:
    """Return a URL with another user."""
    changed = url.replace("//durableq@", f"//{name}@")
    for old, new in changes.items():
        changed = changed.replace(old, new)
    return changed


def test_a_host_that_does_not_answer_is_worth_another_try() -> None:
    says = refusal("postgresql://me:secret@127.0.0.1:9/shop", DatabaseUnreachable)
    assert says.startswith("postgresql://me:***@127.0.0.1:9/shop cannot be reached (")
    assert says.endswith(
        "Nothing was stored; try again. If it stays so, check host and port in the URL, and "
        "whether the server runs."
    )


def test_an_unknown_host_is_worth_another_try() -> None:
    """A container that is down has no name."""
    says = refusal("postgresql://me@nowhere.invalid/shop", DatabaseUnreachable)
    assert "cannot be reached" in says


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("?colour=red", 'invalid URI query parameter: "colour"'),
        ("?port=many", "port"),
        ("?sslmode=perhaps", "sslmode"),
        ("?service=unheard-of", "unheard-of"),
    ],
)
def test_an_option_that_libpq_does_not_know_is_refused(options: str, says: str) -> None:
    with pytest.raises((InvalidInput, DatabaseUnusable), match=says):
        open_store(f"postgresql://127.0.0.1:9/shop{options}")


def test_a_refused_user_or_database_is_to_be_put_right(server: Server) -> None:
    as_administrator(
        server.url,
        "CREATE ROLE known LOGIN PASSWORD 'secret'",
        "CREATE ROLE barred NOLOGIN",
        "CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
    )
    hba = server.data / "pg_hba.conf"
    hba.write_text(f"local all known scram-sha-256\n{hba.read_text()}")
    as_administrator(server.url, "SELECT pg_reload_conf()")
    wrong = user(server.url, "known:not-secret")
    wait_for(lambda: not answers(wrong), what="the new rules")
    assert "password authentication failed" in refusal(wrong, DatabaseUnusable)
    assert "no password supplied" in refusal(user(server.url, "known"), DatabaseUnusable)
    assert "not permitted to log in" in refusal(user(server.url, "barred"), DatabaseUnusable)
    elsewhere = {"/postgres?": "/nowhere?"}
    assert '"nowhere" does not exist' in refusal(
        user(server.url, "durableq", **elsewhere), DatabaseUnusable
    )
    closed = user(server.url, "known:secret", **{"/postgres?": "/closed?"})
    assert "permission denied for database" in refusal(closed, DatabaseUnusable)
    narrow = user(server.url, "durableq", **{"/postgres?": "/narrow?"})
    assert "stores texts as LATIN1" in refusal(narrow, DatabaseUnusable)
    beside = user(server.url, "known:secret") + "&schema=own"
    assert "permission denied for database" in refusal(beside, DatabaseUnusable)


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_server_without_room_for_a_connection_is_worth_another_try(server: Server) -> None:
    as_administrator(server.url, "CREATE ROLE guest LOGIN")
    taken = [psycopg.connect(user(server.url, "guest")) for _ in range(9)]
    says = refusal(user(server.url, "guest"), DatabaseUnreachable)
    assert "takes no more connections" in says
    assert "raise max_connections" in says
    for connection in taken:
        connection.close()


def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", 130012)
    assert "is PostgreSQL 13: durableq needs 14" in refusal(postgres_url, DatabaseUnusable)


WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
import durableq
try:
    durableq.DurableQ("postgresql://127.0.0.1/shop").store
except durableq.Unsupported as error:
    print(error)
"""


def test_a_missing_driver_is_named() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_DRIVER], capture_output=True, text=True, check=True
    )
    assert "pip install 'durableq[postgres]'" in ran.stdout


def test_a_standby_is_refused_and_taken_once_it_is_promoted(server: Server) -> None:
    """A failover: two hosts in the URL, and the primary dies."""
    first = DurableQ(server.url)
    first.queue("orders").send("before")
    first.close()
    standby = Standby(server, "max_connections=12")
    try:
        standby.start()
        assert "is read-only" in refusal(standby.url, DatabaseUnusable)
        hosts = f"{server.folder},{standby.folder}"
        both = f"postgresql://durableq@/postgres?host={hosts}&target_session_attrs=read-write"
        with DurableQ(both) as dq:
            orders = dq.queue("orders")
            orders.send("on the first")
            (message,) = orders.receive()
            caught_up = "SELECT count(*) FROM durableq_message"
            wait_for(lambda: plain_count(standby.url, caught_up) == 2, what="replication")
            server.kill()
            with pytest.raises(DatabaseUnreachable):
                orders.send("between")
            with pytest.raises(DatabaseUnreachable):
                orders.info()
            standby.run("pg_ctl", "promote", "-D", standby.data)
            wait_for(lambda: is_sent(orders), what="the promotion")
            message.complete()
            assert sorted(one.body for one in orders.receive(9)) == [
                "on the first",
                "on the second",
            ]
    finally:
        standby.stop()


def is_sent(orders: Queue) -> bool:
    try:
        orders.send("on the second", key="once")
    except PASSING:
        return False
    return True


def plain_count(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        ((count,),) = connection.execute(query.encode()).fetchall()
        return int(count)


@on_postgres
def test_a_database_that_becomes_read_only_is_worth_another_try(
    dq: DurableQ, orders: Queue, db: str
) -> None:
    store: Any = dq.store
    with store._database.connected() as (link, _):
        link.execute_text("SET default_transaction_read_only = on")
        link.execute_text("SET application_name = 'reading'")
    orders.send(1)  # that connection is replaced
    reading = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reading'"
    assert plain.one(db, reading) == 0
    connect = store._database.connect
    store._database.connect = lambda **given: read_only(connect(**given))
    with store._database.connected() as (link, _):
        link.is_spent = True
    with pytest.raises(DatabaseUnreachable, match="is read-only just now"):
        orders.send(2)
    store._database.connect = connect
    orders.send(3)
    assert orders.info().counters.sent == 2


def read_only(connection: Any) -> Any:
    connection.execute("SET default_transaction_read_only = on")
    return connection


def trigger(db: str, body: str) -> None:
    """Run PL/pgSQL before each message is stored."""
    schema = db.rpartition("schema=")[2]
    with plain.connection(db) as raw:
        raw.execute("CREATE SEQUENCE calls")
        raw.execute(
            f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql SET search_path TO {schema} "
            f"AS $$ BEGIN {body}; RETURN NEW; END $$"
        )
        raw.execute(
            "CREATE TRIGGER acting BEFORE INSERT ON durableq_message "
            "FOR EACH ROW EXECUTE FUNCTION act()"
        )


ONCE = "IF nextval('calls') = 1 THEN {} END IF"
LEAVE = "PERFORM pg_terminate_backend(pg_backend_pid());"


@on_postgres
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_an_operation_that_was_undone_for_others_is_run_again(
    orders: Queue, db: str, state: str
) -> None:
    trigger(db, ONCE.format(f"RAISE EXCEPTION 'in the way' USING ERRCODE = '{state}';"))
    orders.send(1)
    assert orders.info().counters.sent == 1


@on_postgres
def test_an_operation_that_is_undone_each_time_is_busy(orders: Queue, db: str) -> None:
    trigger(db, "RAISE EXCEPTION 'in the way' USING ERRCODE = '40001'")
    with pytest.raises(Busy, match="Nothing was stored; try again"):
        orders.send(1)
    assert orders.info().counters.sent == 0


@on_postgres
def test_a_full_disk_of_the_server(dq: DurableQ, orders: Queue, db: str) -> None:
    trigger(db, "RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'")
    with pytest.raises(StorageFull, match=r"has no room .*make room, try again"):
        orders.send(1)
    with dq.engine.begin() as connection, pytest.raises(StorageFull):
        orders.send(1, connection=connection)
    assert orders.info().counters.sent == 0


@on_postgres
def test_a_connection_lost_in_the_one_statement_of_a_send(orders: Queue, db: str) -> None:
    """It may have been committed; a repetition with the same key stores it once."""
    orders.send(0)  # which renews the stored time, in a transaction of its own
    trigger(db, ONCE.format(LEAVE))
    with pytest.raises(OutcomeUnknown, match="was lost in a write"):
        orders.send(1, key="k")
    orders.send(1, key="k")
    assert orders.info().counters.sent == 2


@on_postgres
def test_a_connection_lost_before_commit_is_replaced(dq: DurableQ, db: str) -> None:
    """A shared operation says COMMIT by itself: before that, nothing is stored."""
    orders = dq.queue("orders", max_backlog=10)
    trigger(db, ONCE.format(LEAVE))
    orders.send(1)
    assert orders.info().counters.sent == 1


@on_postgres
def test_connections_that_the_server_closed_meanwhile_are_replaced(orders: Queue, db: str) -> None:
    orders.send(1)
    sessions = "FROM pg_stat_activity WHERE application_name = 'durableq' AND query ~ ?"
    name = db.rpartition("schema=")[2]
    ended = plain.column(db, f"SELECT pg_terminate_backend(pid) {sessions}", name)
    assert ended
    wait_for(lambda: plain.one(db, f"SELECT count(*) {sessions}", name) == 0)
    orders.send(2)
    assert orders.info().counters.sent == 2


@on_postgres
@pytest.mark.parametrize("seconds", [0.05, 240])
def test_more_threads_than_connections_wait_for_them(db: str, seconds: float) -> None:
    with DurableQ(f"{db}&pool_size=3&busy_timeout={seconds}") as dq:
        orders = dq.queue("orders")
        store: Any = dq.store
        database, sender = store._database, threading.Thread(target=orders.send, args=[1])
        with ExitStack() as loans:
            for _ in range(3):
                loans.enter_context(database.connected())
            if seconds < 1:
                with pytest.raises(Busy, match=r"All 3 connections of this process.*pool_size=N"):
                    orders.send(1)
            else:
                sender.start()
        if seconds > 1:
            sender.join(scaled(60))
        assert orders.info().counters.sent == (seconds > 1)
        assert database.pool.free == 3


@on_postgres
def test_a_write_waits_for_the_others_as_long_as_the_url_says(dq: DurableQ, db: str) -> None:
    dq.queue("orders")
    with DurableQ(f"{db}&busy_timeout=0") as impatient:
        orders, store = impatient.queue("orders"), dq.store
        holding: Any = store
        with holding._database.write(), pytest.raises(Busy):
            orders.send(1)
        orders.send(2)
    assert dq.queue("orders").info().counters.sent == 1


@on_postgres
def test_a_closed_store_leaves_no_connection(db: str) -> None:
    url = db.replace("options=", "application_name=closing&options=")
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dq = DurableQ(url)
        database: Any = dq.store
        database = database._database
        with dq.engine.begin(), closing(dq.store.watch()):
            dq.queue("orders").send(1)
        assert plain.one(db, ours) > 1
        with database.connected():
            dq.close()
        gc.collect()
    wait_for(lambda: plain.one(db, ours) == 0, what="the end of the sessions")
    dq.queue("orders").send(2)  # it opens again
    dq.close()


@on_postgres
@pytest.mark.parametrize(
    ("option", "setting", "value"),
    [
        ("", "application_name", "durableq"),
        ("application_name=shop%20%26%20co", "application_name", "shop & co"),
        ("", "client_connection_check_interval", "200ms"),
        ("pool_size=2", "application_name", "durableq"),
        ("options=-csynchronous_commit%3Doff", "synchronous_commit", "on"),
        ("options=-csynchronous_commit%3Dremote_apply", "synchronous_commit", "remote_apply"),
        ("", "client_encoding", "UTF8"),
    ],
)
def test_the_settings_of_connections(db: str, option: str, setting: str, value: str) -> None:
    server, _, schema = db.partition("options=")
    url = f"{server}{option}&schema={schema.rpartition('=')[2]}"
    store: Any = open_store(url)
    with closing(store), store._database.connected() as (link, _):
        assert link.execute(f"SHOW {setting}").fetchone() == (value,)


ODD = ("o'hara", 'a"b', "$1 %s {x} \\", "Größe", "durableq_x", "x" * 63)


@pytest.mark.parametrize("schema", ODD)
def test_a_schema_of_any_name(postgres_server: str, schema: str) -> None:

    url = f"{postgres_server}&schema={quote(schema, safe='')}"
    try:
        with DurableQ(url) as dq:
            orders = dq.queue("orders")
            orders.send({"a": 1}, key="k")
            (message,) = orders.receive()
            with message.transaction() as tx:
                tx.send("orders", 2)
            with dq.engine.begin() as connection:
                orders.send(3, connection=connection)
            assert [one.body for one in orders.receive(5)] == [2, 3]
    finally:
        with psycopg.connect(postgres_server, autocommit=True) as raw:
            raw.execute(
                psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(
                    psycopg.sql.Identifier(schema)
                )
            )


def test_a_reserved_schema_is_refused(postgres_server: str) -> None:
    says = refusal(f"{postgres_server}&schema=pg_mine", DatabaseUnusable)
    assert 'unacceptable schema name "pg_mine"' in says
