"""SIGKILL in a fleet: a worker, its supervisor, all of them. Nothing waits for a lease to end."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import psutil

from durableq import DurableQ
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, Supervisor, runs
from tests.process.facts import (
    REASONS,
    STATES,
    completed,
    on_both_engines,
    receives,
    send,
    send_five,
)
from tests.process.fleet_app import APP
from tests.support import wait_for

pytestmark = on_both_engines


def wait_for_five(fleet: Supervisor, ledger: Ledger, db: Path) -> None:
    fleet.wait_until(lambda: ledger.lines("invoke"), "a worker to begin the first of five")
    assert plain.rows(db, STATES) == [(1, 1)] * 5


def has_no_zombie(fleet: Supervisor) -> bool:
    """Whether exactly its two workers are there, both alive."""
    children = psutil.Process(fleet.pid).children()
    return len(children) == 2 and all(map(runs, children))


def test_a_kill_counts_against_the_running_message_only(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send_five(dq, "wait once")
    fleet = nursery.fleet(db, app=APP, procs=2)
    wait_for_five(fleet, ledger, db)
    (owner_id,) = ledger.pids("invoke")
    fleet.worker(owner_id).kill()
    fleet.wait_until(lambda: len(ledger.lines("done")) == 5, "all to be done by others")
    assert receives(ledger) == ["k0#1", "k0#2", "k1#1", "k2#1", "k3#1", "k4#1"]
    assert owner_id not in ledger.pids("done")
    assert plain.column(db, REASONS) == ["worker_lost"]
    plain.check_sound(db)


def test_a_killed_worker_is_replaced_and_leaves_no_zombie(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    fleet = nursery.fleet(db, app=APP, procs=2)
    first, second = fleet.wait_event("ready"), fleet.wait_event("ready", times=2)
    fleet.worker(first.pid).kill()
    third = fleet.wait_event("ready", times=3)
    assert third.worker == first.worker
    assert third.pid not in {first.pid, second.pid}
    (died,) = fleet.told("died")
    assert (died.pid, "SIGKILL" in died.text) == (first.pid, True)
    wait_for(lambda: has_no_zombie(fleet), what="two workers and no zombie")
    assert {worker.pid for worker in dq.store.require(Capability.FLEET).workers()} == {
        second.pid,
        third.pid,
    }


def test_workers_of_a_killed_supervisor_finish_their_handlers_and_end(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send_five(dq, "wait")
    fleet = nursery.fleet(db, app=APP, procs=2)
    wait_for_five(fleet, ledger, db)
    fleet.wait_event("ready", times=2)
    workers = fleet.family
    fleet.kill()
    wait_for(lambda: fleet.complaints.count("the supervisor is gone") == 2, what="both to notice")
    ledger.open_gate()
    wait_for(lambda: not any(map(runs, workers)), what="both to end")
    assert [line.of for line in ledger.lines("done")] == ["k0"]
    assert completed(db, "bulk") == 1
    assert plain.rows(db, STATES) == [(0, 0)] * 4
    assert plain.column(db, REASONS) == []
    assert dq.store.require(Capability.FLEET).workers() == []


def test_without_its_supervisor_a_handler_that_does_not_end_is_stopped_after_the_grace(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send(dq, "orders", {"k": "spin once"})
    orphaned = nursery.fleet(db, app=APP, procs=2, grace=0.3)
    orphaned.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    workers = orphaned.family
    orphaned.kill()
    wait_for(lambda: not any(map(runs, workers)), what="both workers to end")
    assert plain.rows(db, STATES) == [(1, 1)], "its lease was not waited for"
    next_fleet = nursery.fleet(db, app=APP, drain=True)
    assert next_fleet.end() == 0
    assert receives(ledger) == ["k#1", "k#2"]
    assert completed(db, "orders") == 1
    assert plain.column(db, REASONS) == ["worker_lost"]


def test_messages_of_a_killed_fleet_are_reclaimed_by_another_fleet_at_once(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    killed = nursery.fleet(db, app=APP, procs=2)
    killed.wait_event("ready", times=2)
    send(dq, "orders", {"k0": "wait once", "k1": "wait once"})
    killed.wait_until(lambda: len(ledger.lines("invoke")) == 2, "both workers to be busy")
    survivor = nursery.fleet(db, app=APP)
    worker = survivor.wait_event("ready").pid
    for process in [psutil.Process(killed.pid), *killed.family]:
        process.kill()
    assert killed.end() == -signal.SIGKILL
    survivor.wait_until(lambda: len(ledger.lines("done")) == 2, "both to be done here")
    assert ledger.pids("done") == [worker] * 2
    assert plain.column(db, REASONS) == ["worker_lost"] * 2
    assert [found.pid for found in dq.store.require(Capability.FLEET).workers()] == [worker]
    plain.check_sound(db)


def test_messages_of_another_pid_namespace_are_reclaimed_when_their_lease_ends(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    store = dq.store
    send(dq, "orders", {"of the dead": "nothing", "of the unseen": "nothing"})
    gone = replace(this_process("gone"), created_ms=1)
    dead, unseen = (
        store.require(Capability.FLEET).register(worker)
        for worker in (gone, replace(gone, pid_namespace="pid:[1]"))
    )
    store.receive("orders", 1, owner_id=dead.owner_id)
    (held,) = store.receive("orders", 1, owner_id=unseen.owner_id).messages
    fleet = nursery.fleet(db, app=APP)
    fleet.wait_until(lambda: completed(db, "orders") == 1, "one to be done")
    assert plain.rows(db, STATES) == [(1, 1)]
    assert plain.column(db, REASONS) == ["worker_lost"]
    assert unseen in store.require(Capability.FLEET).workers()
    assert held.receipt
    store.extend([held.receipt], 1)
    fleet.wait_until(lambda: completed(db, "orders") == 2, "the other as well")
    assert plain.column(db, REASONS) == ["worker_lost", "lease_expired"]
