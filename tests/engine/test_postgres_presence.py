"""The connection by which a process is seen to live, and by which it hears of writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from durableq.engines.postgres import end_watch, fleet, presence, wakeup
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.presence import Presence
from durableq.engines.postgres.session import Session
from durableq.engines.postgres.store import PostgresStore
from durableq.model.message import draft
from durableq.store.core import WorkerInfo
from durableq.supervisor.liveness import this_process
from tests.postgres import Server, new_schema, running
from tests.proxies import Network, options_of
from tests.support import scaled, wait_for

pytestmark = pytest.mark.xdist_group("postgres presence")
ROOT = Path(__file__).parents[2]
#: A worker that forks a child, which outlives it.
FORKS = """
import os, sys, time
from durableq.engines import open_store
from durableq.supervisor.liveness import this_process

store = open_store(sys.argv[1])
store.register(this_process("parent"))
if os.fork() == 0:
    assert [worker.name for worker in store.workers()] == ["parent"]
    print("child", os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of these tests, whose log is read."""
    with running("log_min_error_statement=info") as server:
        yield server


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    with new_schema(server.url) as url:
        yield url


@pytest.fixture
def network(server: Server) -> Iterator[Network]:
    network = Network(server.url)
    yield network
    network.close()


def through(network: Network, url: str) -> str:
    return f"{network.url}&schema={url.rpartition('schema=')[2]}"


@contextmanager
def opened(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        yield store


def unseen(name: str = "there") -> WorkerInfo:
    """A worker of another host."""
    return replace(this_process(name), pid_namespace="pid:[1]", boot_id="b", host_id="other")


@pytest.fixture
def here(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    """The store of a process that looks at the others; the server was started just now."""
    monkeypatch.setattr(fleet, "SETTLING_SECONDS", 0.0)
    with opened(url) as store:
        store.answer_for([])
        yield store


def test_a_registered_worker_is_seen_to_live_until_its_process_closes(
    url: str, here: PostgresStore
) -> None:
    with opened(url) as there, opened(url) as supervisor:
        first, second = (there.register(unseen()).owner_id for _ in range(2))
        assert here.ended() == {}
        supervisor.answer_for([second])
        there.close()
        wait_for(lambda: here.ended() == {first: False, second: True}, what="the ends")
        supervisor.answer_for([])
        assert here.ended() == {first: False, second: False}


def test_a_worker_is_never_listed_without_its_lock(
    url: str, here: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, dict[int, bool]]] = []

    class Watched(Session):
        """Looks from outside as soon as a row is there."""

        def commit(self, *, quietly: bool = False) -> None:
            super().commit(quietly=quietly)
            seen.append((len(here.workers()), here.ended()))

    monkeypatch.setattr(presence, "Session", Watched)
    with opened(url) as there:
        owner_ids = [there.register(unseen()).owner_id for _ in range(2)]
        assert seen == [(1, {}), (2, {})]
        assert [worker.owner_id for worker in here.workers()] == owner_ids


def test_an_unregistered_worker_leaves_its_lock(url: str, here: PostgresStore) -> None:
    with opened(url) as there:
        owner_id = there.register(unseen()).owner_id
        there.unregister(owner_id)
        assert here.workers() == []
        with psycopg.connect(url.rpartition("&")[0]) as raw:
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            assert raw.execute(held).fetchone() == (0,)


def test_a_lost_connection_is_replaced_with_its_locks(
    url: str, here: PostgresStore, network: Network
) -> None:
    with opened(through(network, url)) as there:
        own, of_other = there.register(unseen()).owner_id, here.register(unseen()).owner_id
        there.answer_for([of_other])
        for _ in range(3):
            network.cut()
            wait_for(lambda: here.ended() == {}, seconds=4, what="the lock to be there again")
            assert there.beat(own)


def is_another(presence: Presence) -> bool:
    """Return whether there is a connection again, after a loss."""
    return presence.lasts(0.0) and not presence.lasts(600)


def test_free_locks_mean_nothing_after_the_loss_of_the_own_connection(
    url: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(through(network, url)) as here, opened(url) as there:
        monkeypatch.setattr(fleet, "SETTLING_SECONDS", 0.0)
        here.answer_for([])
        owner_id = there.register(unseen()).owner_id
        there.close()
        wait_for(lambda: here.ended() == {owner_id: False}, what="its end")
        monkeypatch.setattr(fleet, "SETTLING_SECONDS", 600.0)
        presence = here._database.presence
        assert presence is not None
        assert presence.lasts(fleet.SETTLING_SECONDS), "the first connection follows no loss"
        network.cut()
        wait_for(lambda: is_another(presence), seconds=4, what="another one")
        assert here.ended() == {}


def test_free_locks_mean_nothing_after_a_restart_of_the_server(
    url: str, here: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url) as there:
        owner_id = there.register(unseen()).owner_id
        there.close()
        wait_for(lambda: here.ended() == {owner_id: False}, what="its end")
        monkeypatch.setattr(fleet, "SETTLING_SECONDS", 1e6)  # longer than the server runs
        assert here.ended() == {}


def test_a_worker_that_was_taken_for_dead_is_entered_again_by_its_beat(
    url: str, here: PostgresStore
) -> None:
    with opened(url) as there:
        entered = there.register(replace(unseen(), queues=("orders",)))
        here.unregister(entered.owner_id)
        assert here.workers() == []
        assert there.beat(entered.owner_id)
        (again,) = here.workers()
        assert replace(again, beat_at_ms=entered.beat_at_ms) == entered
        assert here.ended() == {}
        there.unregister(entered.owner_id)
        assert not there.beat(entered.owner_id), "it has left by itself"


def test_beats_and_registrations_do_not_wait_for_the_write_lock(
    url: str, here: PostgresStore
) -> None:
    here.declare_queue("orders", {})
    with psycopg.connect(url.rpartition("&")[0]) as raw:
        raw.execute(f"SELECT pg_advisory_xact_lock({here._database.key})".encode())
        owner_id = here.register(unseen()).owner_id
        assert here.beat(owner_id)
        assert here.beat(owner_id, queues=["orders"])
        here.unregister(owner_id)
        assert here.workers() == []


def test_a_beat_wakes_no_waiting_process(url: str, here: PostgresStore) -> None:
    here.declare_queue("orders", {})
    with opened(url) as there, closing(there.watch()) as watch:
        owner_id = here.register(unseen()).owner_id
        here.beat(owner_id)
        here.unregister(owner_id)
        here.send("orders", [draft(1)])
        assert watch.wait(scaled(10))
        with closing(there.watch()) as later:
            here.beat(here.register(unseen()).owner_id)
            assert not later.wait(0.3)


def test_the_lock_is_freed_though_a_forked_child_lives_on(url: str, here: PostgresStore) -> None:
    command = [sys.executable, "-c", FORKS, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline().split()[1])
        try:
            (worker,) = here.workers()
            assert here.ended() == {}
            parent.kill()
            parent.wait()
            ended = {worker.owner_id: False}
            wait_for(lambda: here.ended() == ended, seconds=4, what="its end")
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


def test_idle_sessions_may_be_limited(url: str, here: PostgresStore) -> None:
    limited = f"{url}&options=-cidle_session_timeout%3D200%20-cstatement_timeout%3D2000"
    with psycopg.connect(url.rpartition("&")[0], autocommit=True) as raw:

        def sessions() -> list[tuple[Any, ...]]:
            return raw.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'durableq'"
            ).fetchall()

        before = len(sessions())
        with opened(limited) as there:
            owner_id = there.register(unseen()).owner_id
            wait_for(lambda: len(sessions()) == before + 1, what="the end of all but one")
            assert here.ended() == {}
            assert there.beat(owner_id)


def test_many_waits_have_one_connection(url: str, here: PostgresStore) -> None:
    with opened(url) as there, psycopg.connect(url.rpartition("&")[0], autocommit=True) as raw:
        there.register(unseen())
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'durableq'"
        before = raw.execute(count).fetchone()
        watches = [there.watch() for _ in range(8)]
        here.declare_queue("orders", {})
        assert all(watch.wait(scaled(10)) for watch in watches)
        assert raw.execute(count).fetchone() == before
        for watch in watches:
            watch.close()


def test_a_lost_connection_counts_as_a_write_and_the_next_one_listens(
    url: str, here: PostgresStore, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 600.0)
    with opened(through(network, url)) as there, closing(there.watch()) as watch:
        assert not watch.wait(0)
        network.cut()
        assert watch.wait(scaled(4))
        presence = there._database.presence
        assert presence is not None
        wait_for(lambda: presence.lasts(0.0), what="another connection")
        while watch.wait(0):  # it has counted as one, too
            pass
        here.declare_queue("orders", {})
        assert watch.wait(scaled(4))


class Ends:
    """Counts the ends that were told."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> None:
        self.number += 1


def test_the_end_of_a_followed_worker_is_told_once(
    url: str, here: PostgresStore, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(end_watch, "WAIT_SECONDS", 1)
    ends = Ends()
    with opened(url) as first, opened(url) as second:
        one, two = (store.register(unseen()).owner_id for store in (first, second))
        here.follow(one, ends)
        here.follow(two, ends)
        first.close()
        wait_for(lambda: here.ended() == {one: False}, what="the end of another one")
        waits = "SELECT query_start FROM pg_stat_activity WHERE wait_event = 'advisory'"
        with psycopg.connect(server.url, autocommit=True) as raw:
            began = wait_for(lambda: raw.execute(waits).fetchall(), what="the wait")
            wait_for(lambda: raw.execute(waits).fetchall() not in ([], began), what="the next")
        assert ends.number == 0
        second.close()
        wait_for(lambda: ends.number, what="its end")
        here.follow(None, ends)
        assert ends.number == 1
    log = (server.folder / "log").read_text(errors="replace")
    assert "lock timeout" not in log, "the server's log has no error of a wait that was too long"


def test_a_vanished_host_is_noticed_within_half_a_minute(network: Network, url: str) -> None:
    expected = {
        "SO_KEEPALIVE": 1,
        "TCP_KEEPIDLE": 10,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 20_000,
    }
    for more, changed in (("", {}), ("&keepalives_idle=7", {"TCP_KEEPIDLE": 7})):
        with opened(through(network, url) + more) as store:
            presence: Any = store._database.presence
            presence.answer_for([])
            with store._database.connected() as (link, _):
                assert options_of(link.connection) == expected | changed
            assert options_of(presence._connection) == expected | changed
    assert Location.parse(url).conninfo.startswith("postgresql://durableq@/"), "a socket has none"


def test_a_statement_whose_client_is_gone_ends_soon(url: str, here: PostgresStore) -> None:
    connection = here._database.connect()
    pid = connection.info.backend_pid
    connection.pgconn.send_query(b"SELECT pg_sleep(600)")
    asked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    with psycopg.connect(url.rpartition("&")[0], autocommit=True) as raw:
        wait_for(lambda: raw.execute(asked, (pid,)).fetchone() == (1,), what="the statement")
        connection.pgconn.finish()
        wait_for(lambda: raw.execute(asked, (pid,)).fetchone() == (0,), what="its end")
