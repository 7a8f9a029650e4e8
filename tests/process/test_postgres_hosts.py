"""Fleets on two hosts, which share a PostgreSQL server and see nothing else of each other.

A host is a pid namespace with an id of its own.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.postgres import Server, running
from tests.process.app import Ledger
from tests.process.child import OTHER_HOST, Nursery, Supervisor, runs
from tests.process.conftest import new_place
from tests.process.facts import REASONS, STATES, completed, receives, send, send_five
from tests.process.fleet_app import APP
from tests.process.test_container import check_allowed
from tests.support import scaled, wait_for

pytestmark = pytest.mark.xdist_group("postgres hosts")
MESSAGES = 150
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'durableq'"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of these tests, whose connections are cut, and which is killed."""
    check_allowed(*OTHER_HOST)
    with running() as server:
        yield server


@pytest.fixture
def db(server: Server) -> Iterator[str]:
    with new_place(server.url) as url:
        yield url


def workers_of(fleet: Supervisor) -> list[psutil.Process]:
    return [process for process in fleet.family if "durableq.worker" in process.cmdline()]


def both(nursery: Nursery, db: str, ledger: Ledger, messages: int) -> tuple[Supervisor, Supervisor]:
    """Start a fleet that handles so many messages, and then one on another host."""
    first = nursery.fleet(db, app=APP, procs=2, host="first")
    first.wait_until(lambda: len(ledger.lines("invoke")) == messages, "the messages in hand")
    second = nursery.fleet(db, app=APP, host="second")
    second.wait_event("ready")
    return first, second


def test_messages_of_a_killed_host_are_handled_on_another_at_once(
    dq: DurableQ, db: str, ledger: Ledger, nursery: Nursery
) -> None:
    send(dq, "orders", {"k0": "wait once", "k1": "wait once"})
    first, second = both(nursery, db, ledger, 2)
    first.kill()
    second.wait_until(lambda: len(ledger.lines("done")) == 2, "both to be done on the other host")
    assert receives(ledger) == ["k0#1", "k0#2", "k1#1", "k1#2"]
    assert plain.column(db, REASONS) == ["worker_lost"] * 2
    (left,) = dq.store.require(Capability.FLEET).workers()
    assert left.host_id == "second"
    plain.check_sound(db)


def test_a_killed_worker_is_left_to_its_supervisor_by_other_hosts(
    dq: DurableQ, db: str, ledger: Ledger, nursery: Nursery
) -> None:
    send_five(dq, "wait once")
    first, second = both(nursery, db, ledger, 1)
    assert plain.rows(db, STATES) == [(1, 1)] * 5
    for process in workers_of(first):
        process.kill()
    second.wait_until(lambda: completed(db, "bulk") == 5, "all to be done")
    assert receives(ledger) == ["k0#1", "k0#2", "k1#1", "k2#1", "k3#1", "k4#1"]
    assert plain.column(db, REASONS) == ["worker_lost"]


def test_a_stopped_host_keeps_its_messages_until_their_lease_ends(
    dq: DurableQ, db: str, ledger: Ledger, nursery: Nursery
) -> None:
    dq.queue("orders", visibility_timeout=scaled(2))
    send(dq, "orders", {"k": "wait once"})
    first, second = both(nursery, db, ledger, 1)
    stopped = first.family
    for process in stopped:
        process.suspend()
    second.wait_until(lambda: ledger.lines("done"), "the message to be done on the other host")
    assert plain.column(db, REASONS) == ["lease_expired"]
    assert len(dq.store.require(Capability.FLEET).workers()) == 3
    for process in stopped:
        process.resume()
    assert all(map(runs, stopped))


def test_lost_connections_cost_no_message_and_no_worker(
    dq: DurableQ, db: str, server: Server, ledger: Ledger, nursery: Nursery
) -> None:
    fleets = both(nursery, db, ledger, 0)
    send(dq, "orders", {f"k{number}": "pause" for number in range(MESSAGES)})
    dice, done = random.Random(7), threading.Event()

    def cut() -> None:
        with psycopg.connect(server.url, autocommit=True) as raw:
            while not done.wait(0.1):
                pids = [pid for (pid,) in raw.execute(OURS).fetchall()]
                raw.execute("SELECT pg_terminate_backend(%s)", (dice.choice(pids),))

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        fleets[1].wait_until(lambda: completed(db, "orders") == MESSAGES, "all to be done")
    finally:
        done.set()
        cutter.join()
    assert {line.of for line in ledger.lines("done")} == {f"k{n}" for n in range(MESSAGES)}
    assert [fleet.told("died") for fleet in fleets] == [[], []]
    fleet = dq.store.require(Capability.FLEET)
    wait_for(lambda: len(fleet.workers()) == 3, what="every worker to be listed")
    plain.check_sound(db)


def test_fleets_wait_for_a_killed_server_and_go_on(
    dq: DurableQ, db: str, server: Server, ledger: Ledger, nursery: Nursery
) -> None:
    fleets = both(nursery, db, ledger, 0)
    send(dq, "orders", {f"k{number}": "pause" for number in range(MESSAGES)})
    fleets[0].wait_until(lambda: len(ledger.lines("done")) > MESSAGES // 3, "the first third")
    server.kill()
    server.start()
    fleets[1].wait_until(lambda: completed(db, "orders") == MESSAGES, "all to be done")
    assert {line.of for line in ledger.lines("done")} == {f"k{n}" for n in range(MESSAGES)}
    assert [fleet.told("died") for fleet in fleets] == [[], []]
    plain.check_sound(db)
    for fleet in fleets:
        for process in fleet.family:
            if "work" in process.cmdline():
                process.send_signal(signal.SIGTERM)
        assert fleet.end() == 0
    assert dq.store.require(Capability.FLEET).workers() == []
