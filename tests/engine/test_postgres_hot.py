"""Hot verbs of PostgreSQL: they run beside each other, and answer as the shared operations do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Thread

import psycopg
import pytest

from durableq.engines import open_store
from durableq.engines.postgres.store import PostgresStore
from durableq.model.errors import (
    Busy,
    Conflict,
    InvalidBody,
    InvalidInput,
    UnknownQueue,
)
from durableq.model.message import Draft, draft
from durableq.testing.contract.case import DEAD, ORDERS, FullStore

DRAFTS = [
    draft({"n": 1}),
    draft(b"\x00\xff", key="ключ"),
    draft("text", attributes={"a": "b", "n": 1}),
    draft([], delay=5),
    draft(None, priority=7, key="second", delay=0),
]


def opened(url: str, *, hot: bool = True) -> PostgresStore:
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    store._database.is_hot = hot
    store.declare_queue(ORDERS, {})
    return store


@pytest.fixture
def store(postgres_tables_url: str) -> Iterator[PostgresStore]:
    with closing(opened(postgres_tables_url)) as store:
        yield store


@contextmanager
def plain(url: str) -> Iterator[psycopg.Connection]:
    """Yield a connection beside durableq's, which finds its tables."""
    server, _, schema = url.rpartition("schema=")
    with closing(psycopg.connect(server.rstrip("&?"), autocommit=True)) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        yield connection


def deltas(url: str) -> list[tuple[int, int]]:
    """Return the numbers sent and completed by hot verbs that are not folded yet."""
    with plain(url) as connection:
        return connection.execute("SELECT sent, completed FROM durableq_counter_delta").fetchall()


def without_ids(store: FullStore) -> list[object]:
    found = store.peek(ORDERS, 100)
    return [message._replace(id="", sent_at_ms=0, enqueued_at_ms=0) for message in found]


def test_a_hot_send_and_a_shared_one_store_the_same(postgres_tables_url: str) -> None:
    stored = []
    for hot in (True, False):
        with closing(opened(postgres_tables_url, hot=hot)) as store:
            ids = store.send(ORDERS, DRAFTS)
            assert [message.id for message in store.peek(ORDERS, 100)] == ids
            stored.append(
                [
                    message._replace(
                        id="",
                        sent_at_ms=0,
                        enqueued_at_ms=0,
                        delayed_until_ms=message.delayed_until_ms - message.sent_at_ms
                        if message.delayed_until_ms
                        else 0,
                    )
                    for message in store.peek(ORDERS, 100)
                ]
            )
            assert store.queue(ORDERS).counters.sent == len(DRAFTS)
            store.delete_queue(ORDERS, force=True)
    assert stored[0] == stored[1]
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_maintenance_folds_the_counts_of_hot_verbs(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    for _ in range(3):
        store.send(ORDERS, DRAFTS)
    assert store.queue(ORDERS).counters.sent == 3 * len(DRAFTS)
    store.maintain()
    assert deltas(postgres_tables_url) == []
    assert store.queue(ORDERS).counters.sent == 3 * len(DRAFTS)


def test_a_limit_that_is_switched_on_counts_the_sends_of_hot_verbs(
    store: PostgresStore,
) -> None:
    store.send(ORDERS, DRAFTS)
    store.declare_queue(ORDERS, {"max_backlog": len(DRAFTS) + 1, "on_full": 2})
    ids = store.send(ORDERS, [draft(1), draft(2)])
    assert [bool(message_id) for message_id in ids] == [True, False]


@pytest.mark.parametrize(
    ("queue", "drafts", "error"),
    [
        ("unknown", DRAFTS, UnknownQueue),
        (DEAD, DRAFTS, Conflict),
        (ORDERS, [draft("x" * 2**20)], InvalidBody),
        (ORDERS, [draft(1, key="k\0")], InvalidInput),
    ],
    ids=["queue", "dead letters", "size", "nul"],
)
def test_a_send_that_is_refused_stores_nothing(
    store: PostgresStore,
    queue: str,
    drafts: list[Draft],
    error: type[Exception],
    postgres_tables_url: str,
) -> None:
    with pytest.raises(error):
        store.send(queue, drafts)
    assert store.queue(ORDERS).counters.sent == 0
    assert store.peek(ORDERS, 10) == []
    assert deltas(postgres_tables_url) == []


def test_hot_verbs_wait_for_an_operation_that_runs_alone(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    thread = Thread(target=store.send, args=(ORDERS, DRAFTS))
    with store._database.write():
        thread.start()
        thread.join(0.3)
        assert deltas(postgres_tables_url) == []
        assert thread.is_alive()
    thread.join(30)
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_a_hot_verb_that_waits_for_too_long_is_busy(store: PostgresStore) -> None:
    store._database.wait_ms = "50"
    errors: list[Exception] = []

    def send() -> None:
        try:
            store.send(ORDERS, DRAFTS)
        except Busy as error:
            errors.append(error)

    with store._database.write():
        thread = Thread(target=send)
        thread.start()
        thread.join(30)
    assert len(errors) == 1
    assert store.peek(ORDERS, 10) == []


def test_hot_verbs_run_beside_each_other(store: PostgresStore, postgres_tables_url: str) -> None:
    """One that has not committed holds up no other."""
    key = store._database.key
    with plain(postgres_tables_url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [key])
        store.send(ORDERS, DRAFTS)
        assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_a_connection_that_ended_between_two_verbs_is_replaced(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    store.send(ORDERS, DRAFTS)
    with plain(postgres_tables_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND query LIKE %s",
            [f"%{postgres_tables_url.rpartition('=')[2]}%"],
        )
    store.send(ORDERS, DRAFTS)
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)] * 2
