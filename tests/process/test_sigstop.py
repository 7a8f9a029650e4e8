"""SIGSTOP: a worker that slept past its lease and does not know it."""

from __future__ import annotations

import signal
from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import EFFECT, Ledger
from tests.process.child import Nursery
from tests.process.facts import REASONS, completed, on_both_engines, receives, send
from tests.process.fleet_app import APP as FLEET_APP
from tests.support import scaled

pytestmark = on_both_engines


def test_a_worker_stopped_past_its_lease_can_no_longer_write_its_effect(
    db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    with DurableQ(db) as dq:
        orders = dq.queue("orders", visibility_timeout=scaled(0.6), max_receives=10)
        orders.send({"do": "wait once"}, key="k")
    plain.script(db, EFFECT)
    zombie = nursery.worker(db, "orders")
    zombie.wait_until(lambda: ledger.lines("invoke"), "the first worker to hold the message")
    zombie.signal(signal.SIGSTOP)
    other = nursery.worker(db, "orders")
    other.wait_until(lambda: ledger.lines("done"), "the second worker to complete it")
    ledger.open_gate()
    zombie.signal(signal.SIGCONT)
    zombie.wait_until(lambda: "is stale" in zombie.complaints, "the refusal")
    assert ledger.pids("invoke") == [zombie.pid, other.pid]
    assert plain.rows(db, "SELECT * FROM effect") == [("k", other.pid)]
    assert plain.counters(db, "orders")["completed"] == 1
    plain.check_sound(db)
    zombie.signal(signal.SIGTERM)
    assert zombie.end() == 0, "a refusal is no reason to die"


def test_a_supervisor_extends_no_lease_of_a_stopped_worker_and_its_handler_is_told(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    dq.queue("orders", visibility_timeout=scaled(0.6))
    plain.script(db, EFFECT)
    send(dq, "orders", {"k": "lose once"})
    fleet = nursery.fleet(db, app=FLEET_APP, procs=2)
    fleet.wait_event("ready", times=2)
    fleet.wait_until(lambda: ledger.lines("invoke"), "a worker to hold the message")
    (stopped,) = ledger.pids("invoke")
    fleet.worker(stopped).suspend()
    fleet.wait_until(lambda: completed(db, "orders") == 1, "the other worker to complete it")
    ledger.open_gate()
    fleet.worker(stopped).resume()
    fleet.wait_until(lambda: ledger.lines("lost"), "the handler to be told")
    fleet.wait_until(lambda: "its lease was lost" in fleet.complaints, "the log line")
    fleet.wait_until(lambda: "is stale" in fleet.complaints, "its transaction to be refused")
    assert plain.rows(db, "SELECT * FROM effect") == []
    assert receives(ledger) == ["k#1", "k#2"]
    assert plain.column(db, REASONS) == ["lease_expired"]
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    assert fleet.told("died") == [], "a refusal is no reason to die"
