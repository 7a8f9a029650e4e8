"""SIGTERM: running handlers finish, other messages are released as if never received."""

from __future__ import annotations

import signal
from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import EFFECT, Ledger
from tests.process.child import Nursery


def test_a_worker_drains_on_sigterm(db: Path, ledger: Ledger, nursery: Nursery) -> None:
    with DurableQ(db) as dq:
        bulk = dq.queue("bulk")
        for number in range(5):
            bulk.send({"do": "wait"}, key=f"k{number}")
    plain.script(db, EFFECT)
    worker = nursery.worker(db, "bulk")
    worker.wait_until(lambda: ledger.lines("invoke"), "the first of five in hand")
    states = "SELECT state, receive_count FROM durableq_message"
    assert plain.rows(db, states) == [(1, 1)] * 5
    worker.signal(signal.SIGTERM)
    ledger.open_gate()
    assert worker.end() == 0
    assert [line.of for line in ledger.lines("invoke", "done")] == ["k0", "k0"]
    assert plain.column(db, "SELECT key FROM effect") == ["k0"]
    assert plain.rows(db, states) == [(0, 0)] * 4
    assert plain.column(db, "SELECT key FROM durableq_idempotency") == ["k0"]
    assert plain.column(db, "SELECT count(*) FROM durableq_worker") == [0]
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [0]
    plain.check_sound(db)


def test_a_supervisor_passes_sigterm_on_and_ends_when_its_workers_have(
    db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    with DurableQ(db) as dq:
        dq.queue("orders").send({"do": "wait"}, key="k")
    plain.script(db, EFFECT)
    fleet = nursery.start("fleet", db, 2)
    fleet.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    fleet.signal(signal.SIGTERM)
    fleet.wait_line("stopping: workers finish their running handlers")
    ledger.open_gate()
    assert fleet.end() == 0
    assert plain.column(db, "SELECT key FROM effect") == ["k"]
    assert plain.column(db, "SELECT count(*) FROM durableq_worker") == [0]
