"""Workers whose PostgreSQL server goes away wait, go on by themselves, and lose nothing."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from durableq import DurableQ, Queue
from durableq.model.errors import PASSING
from tests.postgres import Server, running
from tests.process.app import APP, EFFECT, Ledger
from tests.process.child import Child, Nursery
from tests.support import scaled, wait_for

SCHEMA = "shop"
MESSAGES = 120
KILLS = 2
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'durableq' AND random() < 0.5"
)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose commits are on the disk."""
    with running("fsync=on") as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return f"{server.url}&options=-csearch_path%3D{SCHEMA}&schema={SCHEMA}"


@pytest.fixture
def orders(url: str) -> Iterator[Queue]:
    with DurableQ(url) as dq:
        orders = dq.queue("orders", visibility_timeout=2, backoff_base=0, max_receives=100)
        dq.init()
        with psycopg.connect(url.rpartition("&schema=")[0]) as connection:
            connection.execute(EFFECT)
        yield orders


@pytest.fixture
def fleet(url: str, orders: Queue, tmp_path: Path) -> Iterator[Child]:
    nursery = Nursery(tmp_path)
    yield nursery.work("--app", APP, "--db", url, "--procs", "2", "--queue", "orders")
    nursery.close()
    Ledger(url).path.unlink(missing_ok=True)


def effects(url: str) -> Counter[str]:
    with psycopg.connect(url.rpartition("&schema=")[0]) as connection:
        return Counter(key for (key,) in connection.execute("SELECT key FROM effect").fetchall())


def send(orders: Queue, key: str) -> None:
    """Send as an application does that repeats a call which met a passing condition."""

    def is_sent() -> bool:
        try:
            orders.send({}, key=key)
        except PASSING:
            return False
        return True

    wait_for(is_sent, seconds=60, what="a send")


def cut_connections(url: str, done: threading.Event) -> None:
    """End half of the sessions, again and again, at any moment of theirs."""
    while not done.wait(random.uniform(0.02, 0.15)):
        with (
            suppress(psycopg.Error),
            psycopg.connect(url.rpartition("&schema=")[0], autocommit=True) as connection,
        ):
            connection.execute(CUT)


def test_cut_connections_and_a_killed_server_lose_nothing_and_repeat_nothing(
    server: Server, url: str, orders: Queue, fleet: Child
) -> None:
    done = threading.Event()
    cutter = threading.Thread(target=cut_connections, args=[url, done])
    cutter.start()
    keys = [f"key-{number}" for number in range(MESSAGES)]
    try:
        for number, key in enumerate(keys, 1):
            send(orders, key)
            if number % (MESSAGES // (KILLS + 1)) == 0:
                server.kill()
                server.start()
    finally:
        done.set()
        cutter.join(scaled(60))
    # A send whose outcome was unknown was repeated, and its second message is a duplicate.
    fleet.wait_until(lambda: effects(url).keys() >= set(keys), "all effects")
    fleet.wait_until(lambda: orders.info().counts.present == 0, "the end of duplicates")
    assert effects(url) == Counter(keys), "an effect is missing, or there twice"
    assert "died" not in fleet.complaints, "a worker did not wait"
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0


def test_a_fleet_that_starts_before_its_server_waits_for_it(
    server: Server, url: str, orders: Queue, tmp_path: Path
) -> None:
    orders.send({}, key="k")
    server.kill()
    nursery = Nursery(tmp_path)
    try:
        fleet = nursery.work("--app", APP, "--db", url, "--queue", "orders")
        fleet.wait_until(lambda: "cannot be reached" in fleet.complaints, "the log says why")
        assert "; waiting" in fleet.complaints
        server.start()
        fleet.wait_until(lambda: effects(url) == Counter(["k"]), "the effect")
        fleet.signal(signal.SIGTERM)
        assert fleet.end() == 0
    finally:
        nursery.close()
        Ledger(url).path.unlink(missing_ok=True)
