"""Traps of PostgreSQL: snapshots of before a wait, clocks, lost notifications, pages with room."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import pytest

from durableq.engines.postgres import end_watch, wakeup
from durableq.engines.postgres.end_watch import EndWatch
from durableq.engines.postgres.planning import NOW
from durableq.engines.postgres.store import PostgresStore
from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.model.message import Message, draft
from durableq.runtime.clock import SystemClock
from durableq.supervisor.liveness import this_process
from durableq.testing.contract.case import ORDERS
from tests.engine.test_postgres_hot import opened, plain
from tests.support import scaled, wait_for

HOUR_MS = 3_600_000
_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
    "AND (classid::bigint << 32 | objid::bigint) = %s"
)


class Behind(NamedTuple):
    """A receive that had to wait for the lock."""

    messages: list[Message]
    #: The server's clock while it waited.
    waited_ms: int


@pytest.fixture(params=[True, False], ids=["hot", "shared"])
def store(
    request: pytest.FixtureRequest, postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresStore]:
    """A store with a message, in a process whose wall clock is a day ahead of the server's."""
    right = SystemClock.wall_ms
    monkeypatch.setattr(SystemClock, "wall_ms", lambda clock: right(clock) + 24 * HOUR_MS)
    with closing(opened(postgres_tables_url, hot=request.param)) as store:
        store.send(ORDERS, [draft(1)])
        yield store


def receive_behind(store: PostgresStore, url: str, change: str = "") -> Behind:
    """Receive while another connection holds the lock, and perhaps changes something."""
    key = [store._database.key]
    with ThreadPoolExecutor(1) as pool:
        with plain(url) as other, other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(%s)", key)
            other.execute(change.encode())
            receiving = pool.submit(store.receive, ORDERS, 1, visibility_ms=HOUR_MS)
            wait_for(lambda: other.execute(_WAITING, key).fetchone() == (1,), what="the receive")
            other.execute("SELECT pg_sleep(0.02)")
            (waited_ms,) = other.execute(NOW.encode()).fetchone() or (0,)
        return Behind(receiving.result(scaled(30)).messages, waited_ms)


def test_a_receive_behind_the_lock_sees_the_changes_of_its_holder(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    change = "UPDATE durableq_queue SET paused = 1"
    assert receive_behind(store, postgres_tables_url, change).messages == []


def test_a_lease_counts_from_the_end_of_the_wait_on_the_servers_clock(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    behind = receive_behind(store, postgres_tables_url)
    assert len(behind.messages) == 1
    with plain(postgres_tables_url) as connection:
        leases = connection.execute("SELECT lease_until_ms FROM durableq_message").fetchall()
    ((until_ms,),) = leases
    length_ms = until_ms - LEASE_EPOCH_MS - behind.waited_ms
    assert HOUR_MS <= length_ms < 2 * HOUR_MS


def test_a_wait_looks_from_time_to_time_though_nothing_notifies(
    postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.1)
    with closing(opened(postgres_tables_url)) as store, closing(store.watch()) as watch:
        while watch.wait(0):
            pass
        assert watch.wait(1.0)


def test_a_wait_for_a_worker_lasts_until_its_end(
    postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_watch, "WAIT_SECONDS", 0.1)
    with (
        closing(opened(postgres_tables_url)) as here,
        closing(opened(postgres_tables_url)) as there,
        closing(EndWatch(here._database, lambda: None)) as watch,
    ):
        owner_id = there.register(this_process("there")).owner_id
        assert not watch._wait(owner_id), "it lives"
        there.close()
        wait_for(lambda: watch._wait(owner_id), what="its end")


def test_pages_have_no_spare_room_and_dead_rows_are_removed_soon(postgres_tables_url: str) -> None:
    """Updates of the state are never HOT: room in a page would only double the tables."""
    with closing(opened(postgres_tables_url)), plain(postgres_tables_url) as connection:
        ((options,),) = connection.execute(
            "SELECT reloptions FROM pg_class WHERE oid = 'durableq_message'::regclass"
        ).fetchall()
    assert "autovacuum_vacuum_scale_factor=0.01" in options
    assert not any(option.startswith("fillfactor") for option in options)
