"""Sends of PostgreSQL notify while somebody waits, and no message waits for a look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from threading import Thread

import psycopg
import pytest

from durableq.engines.postgres.arrays import text, texts, whole
from durableq.engines.postgres.installing import functions_of
from durableq.engines.postgres.location import LISTENING
from durableq.engines.postgres.store import PostgresStore
from durableq.engines.postgres.wakeup import NotifyWatch
from durableq.model.message import draft
from durableq.testing.contract.case import ORDERS
from tests.engine.test_postgres_hot import opened, plain
from tests.support import scaled, wait_for


@pytest.fixture
def store(postgres_tables_url: str) -> Iterator[PostgresStore]:
    with closing(opened(postgres_tables_url)) as store:
        yield store


def notified(connection: psycopg.Connection, seconds: float, *, first: bool = False) -> int:
    """Return the number of notifications that come within a time; or until the first has come."""
    return len(list(connection.notifies(timeout=seconds, stop_after=1 if first else None)))


def is_waited_for(store: PostgresStore, url: str) -> bool:
    """Return whether a process says that it waits for writes."""
    with plain(url) as connection:
        (taken,) = connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", [store._database.key ^ LISTENING]
        ).fetchone() or (True,)
    return not taken


def begin_send(store: PostgresStore, connection: psycopg.Connection) -> None:
    """Send a message in a transaction that stays open, as one whose commit takes long."""
    moment = store._database.time.moment()
    first = (whole(30_000), whole(moment.now_ms + moment.offset_ms), whole(moment.offset_ms), None)
    rest = (text(ORDERS), whole(1), texts(["1"]), *[None] * 7)
    connection.execute("BEGIN")
    statement = functions_of(store._database).calls["send"]
    result = connection.pgconn.exec_params(
        statement.encode(), [*first, *rest], param_formats=[1] * (len(first) + len(rest))
    )
    assert result.ntuples == 1, result.error_message


def test_a_send_notifies_only_while_a_process_waits(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    with plain(postgres_tables_url) as listener:
        listener.execute(f"LISTEN {store._database.channel}".encode())
        store.send(ORDERS, [draft(1)])
        assert notified(listener, 0.3) == 0
        with closing(store.watch()):
            store.send(ORDERS, [draft(2), draft(3)])
            assert notified(listener, scaled(5), first=True) == 1
        wait_for(lambda: not is_waited_for(store, postgres_tables_url), what="the end of the wait")
        store.send(ORDERS, [draft(4)])
        assert notified(listener, 0.3) == 0


def test_a_process_that_begins_to_wait_waits_for_sends_that_did_not_see_it(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    watches: list[NotifyWatch] = []
    with plain(postgres_tables_url) as sender:
        begin_send(store, sender)
        thread = Thread(target=lambda: watches.append(store.watch()))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        sender.execute("COMMIT")
        thread.join(scaled(30))
    with closing(watches[0]):
        assert len(store.receive(ORDERS, 1).messages) == 1


def test_a_busy_process_is_not_notified_and_looks_before_it_waits_again(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    with closing(store.watch()) as watch:
        assert is_waited_for(store, postgres_tables_url)
        store.send(ORDERS, [draft(1)])
        assert watch.wait(scaled(10))
        store.send(ORDERS, [draft(2)])
        wait_for(
            lambda: not is_waited_for(store, postgres_tables_url),
            seconds=30,
            what="the process to be busy",
        )
        store.send(ORDERS, [draft(3)])
        while watch._event.is_set:
            watch._event.clear()
        assert watch.wait(scaled(10)), "the third send was missed"
        assert is_waited_for(store, postgres_tables_url)
        assert not watch.wait(0.1)


def test_a_waiting_process_stays_notified_while_nothing_comes(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    with closing(store.watch()) as watch:
        for _ in range(3):
            assert not watch.wait(0.4)
        assert is_waited_for(store, postgres_tables_url)
        began = time.monotonic()
        store.send(ORDERS, [draft(1)])
        assert watch.wait(scaled(3))
        assert time.monotonic() - began < scaled(3)


def test_a_lost_connection_is_replaced_and_notified_again(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    with closing(store.watch()) as watch:
        with plain(postgres_tables_url) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND mode = 'ShareLock' AND granted "
                "AND (classid::bigint << 32 | objid::bigint) = %s",
                [store._database.key ^ LISTENING],
            )
        assert watch.wait(scaled(10)), "what was sent meanwhile may be missed"
        wait_for(
            lambda: is_waited_for(store, postgres_tables_url), seconds=30, what="the lock again"
        )
        store.send(ORDERS, [draft(1)])
        assert watch.wait(scaled(10))
