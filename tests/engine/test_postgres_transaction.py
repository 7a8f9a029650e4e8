"""message.transaction() and joined sends on PostgreSQL, where they differ from those on a file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row

from durableq import Busy, Conflict, DurableQ, OutcomeUnknown, Queue, StaleReceipt, Unsupported
from durableq.client.transaction import Transaction
from tests.engine import plain
from tests.support import scaled, wait_for

pytestmark = pytest.mark.parametrize("db", ["postgres"], indirect=True)


@pytest.fixture
def ledger(dq: DurableQ) -> Any:
    with dq.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE ledger (id INTEGER PRIMARY KEY, paid INTEGER)"))
        connection.execute(sa.text("INSERT INTO ledger VALUES (1, 0), (2, 0)"))


def paid(db: str) -> list[int]:
    return plain.column(db, "SELECT paid FROM ledger ORDER BY id")


def is_locked(orders: Queue, db: str) -> bool:
    """Return whether a session writes alone."""
    store: Any = orders._app.store
    with plain.connection(db) as raw:
        key = store._database.key
        if not raw.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()[0]:
            return True
        raw.execute("SELECT pg_advisory_unlock(%s)", [key])
        return False


def test_after_a_failed_statement_nothing_is_written(orders: Queue, ledger: None, db: str) -> None:
    """PostgreSQL takes no more statements, so the message must not be settled as if it did."""
    orders.send(1)
    (message,) = orders.receive()
    for use in (
        lambda tx: tx.execute("SELECT 1"),
        lambda tx: tx.send("orders", 2),
        lambda _: orders.info(),
        lambda _: None,
    ):
        with (  # noqa: PT012
            pytest.raises(Conflict, match="has failed, and PostgreSQL takes no more"),
            message.transaction() as tx,
        ):
            tx.execute("UPDATE ledger SET paid = 1")
            with pytest.raises(sa.exc.IntegrityError):
                tx.execute("INSERT INTO ledger VALUES (1, 0)")
            use(tx)
    assert paid(db) == [0, 0]
    assert orders.info().counts.in_flight == 1


def test_a_savepoint_lets_a_statement_fail(orders: Queue, ledger: None, db: str) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        tx.execute("UPDATE ledger SET paid = 1")
        tx.execute("SAVEPOINT mine")
        with pytest.raises(sa.exc.IntegrityError):
            tx.execute("INSERT INTO ledger VALUES (1, 0)")
        tx.execute("ROLLBACK TO mine")
        tx.send("orders", 2)
    assert paid(db) == [1, 1]
    assert (orders.info().counts.ready, orders.info().counters.completed) == (1, 1)


def test_the_lock_is_taken_again_after_a_rollback_to_a_savepoint(
    orders: Queue, ledger: None, db: str
) -> None:
    """It gives up the lock that tx.send took; the end of the block writes alone all the same."""
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        tx.execute("SAVEPOINT mine")
        tx.send("orders", 2)
        assert is_locked(orders, db)
        tx.execute("ROLLBACK TO mine")
        assert not is_locked(orders, db)
        tx.send("orders", 3)
        assert is_locked(orders, db)
    assert [one.body for one in orders.receive(5)] == [3]


def test_no_lock_is_held_before_the_first_send(orders: Queue, ledger: None, db: str) -> None:
    orders.send_many([1, 2])
    first, second = orders.receive(2)
    with first.transaction() as tx:
        tx.execute("UPDATE ledger SET paid = 1 WHERE id = 1")
        with open_elsewhere(db) as other:
            other.queue("orders").send(3)  # it does not wait
    second.complete()
    assert orders.info().counts.ready == 1


def open_elsewhere(db: str) -> DurableQ:
    """The same queues, as another process has them."""
    return DurableQ(db)


@pytest.mark.parametrize("ending", ["COMMIT AND CHAIN", "COMMIT; BEGIN", "ROLLBACK AND CHAIN"])
def test_a_statement_that_ends_the_transaction_and_begins_another_is_noticed(
    orders: Queue, ledger: None, ending: str
) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with pytest.raises(Conflict, match="ended this transaction"), message.transaction() as tx:
        tx.execute(ending)
    assert orders.info().counts.in_flight == 1
    with (  # noqa: PT012
        pytest.raises(Conflict, match="ended this transaction"),
        message.transaction() as tx,
    ):
        tx.execute(ending)
        tx.send("orders", 2)
    assert orders.info().counters.sent == 1


def test_a_lease_that_is_lost_meanwhile_undoes_all(orders: Queue, ledger: None, db: str) -> None:
    """No lock is held while user code runs, so another process can take the message over."""
    orders.send(1)
    (message,) = orders.receive()

    def lose(tx: Transaction) -> None:
        tx.execute("UPDATE ledger SET paid = 1")
        with open_elsewhere(db) as other:
            other.store.extend([message.receipt], 1)
            (taken,) = wait_for(other.queue("orders").receive)
            taken.complete()

    with pytest.raises(StaleReceipt), message.transaction() as tx:
        lose(tx)
    assert paid(db) == [0, 0]
    assert orders.info().counters.completed == 1


def test_user_code_keeps_its_own_lock_timeout(dq: DurableQ, orders: Queue) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        tx.execute("SET LOCAL lock_timeout = '7s'")
        tx.send("orders", 2)
        assert tx.execute("SHOW lock_timeout").scalar_one() == "7s"
    with dq.engine.begin() as connection:
        orders.send(3, connection=connection)
        assert connection.execute(sa.text("SHOW lock_timeout")).scalar_one() == "0"


def test_user_code_has_the_servers_settings_of_plans_and_hot_verbs_have_ours(
    dq: DurableQ, orders: Queue
) -> None:
    names = ("plan_cache_mode", "enable_seqscan", "enable_hashjoin", "jit", "search_path")
    show = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with dq.engine.begin() as connection:
        theirs = tuple(connection.execute(sa.text(show)).one())
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        assert tuple(tx.execute(show).one()) == theirs
    store: Any = dq.store
    with store._database.connected() as (link, _):
        ours = link.execute(show).fetchone()
    assert ours == ("force_generic_plan", "off", "off", "off", theirs[-1])


def in_threads(*calls: Callable[[], object]) -> list[BaseException]:
    """Call functions side by side, and return what they raised."""
    raised: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it is returned
            raised.append(error)

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
        assert not thread.is_alive()
    return raised


def test_a_deadlock_with_rows_of_user_code_is_busy_and_undoes_one(
    orders: Queue, ledger: None, db: str
) -> None:
    """One waits for our lock with a row of the user's, and the other for the row with our lock."""
    orders.send_many([1, 2])
    first, second = orders.receive(2)
    has_row, has_lock = threading.Event(), threading.Event()

    def row_first() -> None:
        with first.transaction() as tx:
            tx.execute("UPDATE ledger SET paid = paid + 1 WHERE id = 1")
            has_row.set()
            assert has_lock.wait(scaled(60))

    def lock_first() -> None:
        with second.transaction() as tx:
            assert has_row.wait(scaled(60))
            tx.send("orders", 3)
            has_lock.set()
            tx.execute("UPDATE ledger SET paid = paid + 1 WHERE id = 1")

    (error,) = in_threads(row_first, lock_first)
    assert isinstance(error, Busy), error
    assert "deadlock" in str(error)
    assert orders.info().counters.completed == 1
    assert paid(db) == [1, 0]


def test_a_join_behind_the_lock_of_its_own_thread_is_refused(dq: DurableQ, orders: Queue) -> None:
    """PostgreSQL cannot see that the two are one thread: it would wait for the whole timeout."""
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx, dq.engine.begin() as connection:
        orders.send(2, connection=connection)
        connection.rollback()
        tx.send("orders", 3)
        with (
            dq.engine.begin() as other,
            pytest.raises(Conflict, match=r"inside message\.transaction"),
        ):
            orders.send(4, connection=other)
    assert orders.info().counts.ready == 1


def test_an_error_of_a_constraint_at_commit_is_user_codes_own(
    orders: Queue, ledger: None, db: str
) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with plain.connection(db) as raw:
        raw.execute(
            "CREATE TABLE child (of_id INTEGER REFERENCES ledger DEFERRABLE INITIALLY DEFERRED)"
        )
    with pytest.raises(psycopg.errors.ForeignKeyViolation), message.transaction() as tx:
        tx.execute("INSERT INTO child VALUES (77)")
    assert orders.info().counts.in_flight == 1


def test_the_tables_are_found_under_any_search_path(orders: Queue, db: str) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with message.transaction() as tx:
        tx.execute("SET LOCAL search_path TO pg_catalog")
        tx.send("orders", 2)
    with plain.postgres(db) as raw:
        raw.execute("SET search_path TO pg_catalog")
        orders.send(3, connection=raw)
    assert [one.body for one in orders.receive(5)] == [2, 3]


def test_a_caller_may_have_its_own_rows_and_types(orders: Queue, db: str) -> None:
    class Loud(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return f"loud {bytes(data)!r}"

    with plain.postgres(db) as raw:
        raw.row_factory = dict_row
        for name in ("int8", "text", "varchar"):
            raw.adapters.register_loader(name, Loud)
        sent = orders.send({"a": 1}, key="k", connection=raw)
        assert raw.execute("SELECT 'x'::text AS y").fetchone() == {"y": "loud b'x'"}
    (message,) = orders.receive()
    assert (message.id, message.body, message.key) == (sent, {"a": 1}, "k")


def test_a_send_in_the_drivers_own_block_of_a_transaction(orders: Queue, db: str) -> None:
    with plain.connection(db) as raw, raw.transaction():
        orders.send(1, connection=raw)
        assert orders.info().counts.ready == 0
    assert orders.info().counts.ready == 1


def test_connections_that_cannot_carry_a_send(
    orders: Queue, ledger: None, db: str, postgres_server: str
) -> None:
    refused: list[tuple[str, type[Exception], str]] = [
        ("SELECT 1/0", Conflict, "has failed"),
        ("SET TRANSACTION READ ONLY", Conflict, "only reads"),
        ("SET client_encoding TO LATIN1", Unsupported, "client_encoding"),
    ]
    for statement, kind, says in refused:
        with plain.postgres(db) as raw:
            with suppress(psycopg.errors.DivisionByZero):
                raw.execute(statement.encode())
            with pytest.raises(kind, match=says):
                orders.send(1, connection=raw)
            raw.rollback()
    with plain.postgres(db) as raw, raw.pipeline(), pytest.raises(Conflict, match="pipeline"):
        orders.send(1, connection=raw)
    with plain.connection(db) as administrator:
        name = f"other_{os.getpid()}"
        administrator.execute(f"CREATE DATABASE {name}".encode())
        try:
            with (
                psycopg.connect(postgres_server, dbname=name) as raw,
                pytest.raises(Unsupported, match=rf"to another database \({name}\)"),
            ):
                orders.send(1, connection=raw)
        finally:
            administrator.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert orders.info().counters.sent == 0


def test_a_refused_send_leaves_the_callers_transaction_usable(
    dq: DurableQ, ledger: None, db: str
) -> None:
    """Also when our lock was not free in time."""
    orders = DurableQ(db).queue("orders")
    store: Any = orders._app.store
    store._database.lock_in_transaction = store._database.lock_in_transaction.replace(
        "lock_timeout = 30000", "lock_timeout = 10"
    )
    with plain.connection(db) as other, dq.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ledger SET paid = 5"))
        other.execute(f"SELECT pg_advisory_lock({store._database.key})")
        with pytest.raises(Busy, match="lock timeout"):
            orders.send(1, connection=connection)
        other.execute("SELECT pg_advisory_unlock_all()")
        orders.send(2, connection=connection)
    assert paid(db) == [5, 5]
    assert [one.body for one in orders.receive(5)] == [2]
    orders._app.close()


def test_a_snapshot_that_is_too_old_is_busy(dq: DurableQ) -> None:
    """It would count the messages of a queue that has a limit as they were."""
    orders = dq.queue("orders", max_backlog=100)
    serializable = dq.engine.execution_options(isolation_level="REPEATABLE READ")
    with serializable.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("SELECT count(*) FROM durableq_message"))
        orders.send("in between")
        with pytest.raises(Busy):
            orders.send(1, connection=connection)
        transaction.rollback()
    assert orders.info().counts.ready == 1


def test_a_connection_lost_at_commit_leaves_the_outcome_unknown(
    orders: Queue, ledger: None, db: str
) -> None:
    """The answer is lost, not the write: a trigger ends the session while it commits."""
    with plain.connection(db) as raw:
        raw.execute(
            "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        raw.execute(
            "CREATE CONSTRAINT TRIGGER leaving AFTER UPDATE ON ledger DEFERRABLE INITIALLY "
            "DEFERRED FOR EACH ROW EXECUTE FUNCTION leave()"
        )
    orders.send(1)
    (message,) = orders.receive()
    with pytest.raises(OutcomeUnknown, match="at COMMIT"), message.transaction() as tx:
        tx.execute("UPDATE ledger SET paid = 1")
    message.complete()


def test_an_error_of_another_database_is_not_ours(orders: Queue, ledger: None, db: str) -> None:
    orders.send(1)
    (message,) = orders.receive()
    with (
        plain.postgres(db) as theirs,
        pytest.raises(psycopg.errors.AdminShutdown),
        message.transaction(),
    ):
        theirs.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert orders.info().counts.in_flight == 1
    message.complete()


def test_a_child_forked_in_a_transaction_cannot_end_it(
    orders: Queue, ledger: None, db: str
) -> None:
    orders.send_many([1, 2])
    message, _ = orders.receive(2)
    with message.transaction() as tx:
        tx.execute("UPDATE ledger SET paid = 1")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(Conflict, match="forked inside a transaction"):
                    tx.execute("UPDATE ledger SET paid = 2")
                orders.send(3)  # on a connection of its own
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        tx.execute("UPDATE ledger SET paid = paid + 2")
    assert paid(db) == [3, 3]
    assert orders.info().counts.ready == 1


PARENT = """
import os, sys
from durableq import DurableQ

dq = DurableQ(sys.argv[1])
dq.engine.connect().close()
watch = dq.store.watch()
dq.queue("orders").info()
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_child_that_lives_on_does_not_keep_its_parents_sessions(dq: DurableQ, db: str) -> None:
    """Else its locks would outlive a killed worker whose handler has forked."""
    url = db.replace("options=", "application_name=parent&options=")
    command = [sys.executable, "-c", PARENT, url]
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parent'"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"forked\n"
            wait_for(lambda: plain.one(db, sessions) == 0, what="the end of the parent's sessions")
        finally:
            parent.communicate()  # the child ends with its input
