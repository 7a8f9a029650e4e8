"""Behind a pooler in transaction mode: nothing relies on a session."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import generators

from durableq import DurableQ
from durableq.admin import operations
from durableq.engines import open_store
from durableq.engines.postgres import wakeup
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.installing import functions_of
from durableq.engines.postgres.location import Location
from durableq.engines.postgres.store import PostgresStore
from durableq.model.health import Level
from durableq.model.message import draft
from durableq.store.core import WorkerInfo
from durableq.supervisor.liveness import this_process
from durableq.supervisor.peers import ENDED_SECONDS, DeadWorkers
from tests.proxies import Network, Pooler, packed
from tests.support import scaled, wait_for

pytestmark = pytest.mark.xdist_group("postgres pooler")


@pytest.fixture(params=[True, False], ids=["introduces itself", "does not"])
def pooler(request: pytest.FixtureRequest, postgres_server: str) -> Iterator[Pooler]:
    pooler = Pooler(postgres_server, introduces_itself=request.param)
    yield pooler
    pooler.close()


@pytest.fixture
def url(pooler: Pooler, postgres_url: str) -> str:
    """The URL of the test's schema through the pooler."""
    return f"{pooler.url}&schema={postgres_url.rpartition('schema=')[2]}"


def keeps_sessions(url: str) -> bool:
    with closing(Database(Location.parse(url))) as database:
        return database.keeps_sessions


def unseen(name: str) -> WorkerInfo:
    """A worker of another host."""
    return replace(this_process(name), pid_namespace="pid:[1]", boot_id="b", host_id="other")


def test_sessions_are_relied_on_only_where_they_are_kept(url: str, postgres_server: str) -> None:
    network = Network(postgres_server)
    assert keeps_sessions(postgres_server)
    assert keeps_sessions(network.url)
    assert not keeps_sessions(url)
    network.close()


def test_an_answer_whose_rest_the_server_holds_back_keeps_no_message_back(
    postgres_server: str,
) -> None:
    pooler = Pooler(postgres_server)
    _, _, port = pooler.url.partition("127.0.0.1:")
    address = "127.0.0.1", int(port.partition("/")[0])
    rows = b"\0SELECT repeat('x', 100) FROM generate_series(1, 1000)\0\0\0"
    ask = packed(b"P", rows) + packed(b"B", bytes(8)) + packed(b"E", bytes(5))
    with closing(pooler), socket.create_connection(address, scaled(20)) as client:
        client.sendall(packed(b"", (196608).to_bytes(4, "big") + bytes(1)))
        while not client.recv(4096).endswith(packed(b"Z", b"I")):
            pass
        client.sendall(ask)
        received = len(client.recv(4096))
        while received < 90_000:  # the server has a buffer of 8 KiB
            received += len(client.recv(4096))
        client.sendall(packed(b"S", b""))
        while not (data := client.recv(4096)).endswith(packed(b"Z", b"I")):
            assert data


def test_a_client_that_leaves_in_a_transaction_takes_no_session_with_it(
    url: str, pooler: Pooler
) -> None:
    server = url.partition("&schema=")[0]
    for _ in pooler.sessions:
        left = psycopg.connect(server)
        left.execute("SET LOCAL lock_timeout = 1")
        left.close()
    for _ in pooler.sessions:
        with closing(psycopg.connect(server, autocommit=True)) as after:
            assert after.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_statements_behind_one_that_is_not_answered_yet_are_not_torn(url: str) -> None:
    with closing(psycopg.connect(url.partition("&schema=")[0], autocommit=True)) as client:
        client.pgconn.enter_pipeline_mode()
        for number in range(20):
            client.pgconn.send_query_params(b"SELECT %d" % number, [])
            client.pgconn.pipeline_sync()
        for number in range(20):
            [answer] = client.wait(generators.fetch_many(client.pgconn))
            assert answer.get_value(0, 0) == b"%d" % number
            [synced] = client.wait(generators.fetch_many(client.pgconn))
            assert synced.status == psycopg.pq.ExecStatus.PIPELINE_SYNC


def test_messages_live_their_lives_without_prepared_statements(url: str, pooler: Pooler) -> None:
    with DurableQ(url) as dq:
        orders = dq.queue("orders", backoff_base=0)
        orders.send_many([{"n": n} for n in range(60)])
        for message in orders.receive(30):
            message.complete()
        with orders.receive(1)[0].transaction() as tx:
            tx.execute("SELECT 1")
            tx.send("orders", "inside")
        for message in orders.receive(100):
            message.complete()
        assert orders.info().counters.completed == 61
        assert {finding.level for finding in operations.audit(dq.store)} == {Level.OK}
    assert pooler.prepared == []
    for session in pooler.sessions:
        assert session.execute("SHOW plan_cache_mode").fetchone() == ("auto",)
        assert session.execute("SHOW enable_seqscan").fetchone() == ("on",)


def test_a_hot_verb_plans_as_it_does_in_a_session_of_ours(url: str, postgres_url: str) -> None:
    with DurableQ(url) as dq:
        dq.queue("orders").send(1)
        store: Any = dq.store
        call = functions_of(store._database).calls["fold"]
    with closing(psycopg.connect(postgres_url.partition("&schema=")[0])) as session:
        session.execute(call.replace("$1", "100").encode())
        assert session.execute("SHOW plan_cache_mode").fetchone() == ("force_generic_plan",)
        assert session.execute("SHOW enable_seqscan").fetchone() == ("off",)


def test_a_fleet_has_no_locks_and_its_workers_beat(url: str) -> None:
    with closing(open_store(url)) as store:
        assert isinstance(store, PostgresStore)
        worker = store.register(this_process("here"))
        assert store.beat(worker.owner_id)
        store.answer_for([worker.owner_id])
        store.follow(worker.owner_id, lambda: pytest.fail("it has no lock that could be free"))
        assert store.ended() == {}
        store.unregister(worker.owner_id)
        assert store.workers() == []
        assert not store.beat(worker.owner_id)


def test_the_messages_of_an_unseen_worker_wait_for_the_end_of_their_lease(url: str) -> None:
    with closing(open_store(url)) as store:
        store.declare_queue("orders", {"backoff_base_ms": 0})
        store.send("orders", [draft(1)])
        assert isinstance(store, PostgresStore)
        owner_id = store.register(unseen("there")).owner_id
        store.receive("orders", 1, owner_id=owner_id, visibility_ms=700)
        dead_workers, until = DeadWorkers(), time.monotonic() + 5 * ENDED_SECONDS
        while time.monotonic() < until:
            assert dead_workers.reclaim(store) is None
        assert len(store.leases_of(owner_id)) == 1
        wait_for(lambda: store.receive("orders", 1).messages, what="the end of the lease")


def test_a_wait_looks_each_second(url: str) -> None:
    with closing(open_store(url)) as store, closing(store.watch()) as watch:
        began = time.monotonic()
        assert watch.wait(30)
        assert time.monotonic() - began >= wakeup.LOOK_WITHOUT_SECONDS


def test_doctor_says_so_and_leaves_nothing_behind_in_a_session(url: str, pooler: Pooler) -> None:
    with DurableQ(url) as dq:
        dq.init()
    found = {finding.name: finding for finding in operations.examine(url)}
    assert found["sessions"].level is Level.WARN
    assert "through a pooler" in found["sessions"].what
    assert [f.name for f in found.values() if f.level is not Level.OK] == ["durability", "sessions"]
    for session in pooler.sessions:
        assert session.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
        assert session.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert session.execute("SHOW search_path").fetchone() == ('"$user", public',)
