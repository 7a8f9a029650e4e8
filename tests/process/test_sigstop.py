"""SIGSTOP: a worker that slept past its lease and does not know it."""

from __future__ import annotations

import signal
from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import EFFECT, Ledger
from tests.process.child import Nursery


def test_a_worker_stopped_past_its_lease_can_no_longer_write_its_effect(
    db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    with DurableQ(db) as dq:
        orders = dq.queue("orders", visibility_timeout=0.6, max_receives=10)
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
    assert plain.totals(db, "orders")["completed"] == 1
    plain.check_sound(db)
    zombie.signal(signal.SIGTERM)
    assert zombie.end() == 0, "a refusal is no reason to die"
