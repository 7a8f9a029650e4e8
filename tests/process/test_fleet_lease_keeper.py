"""A handler keeps its lease while it runs, even if it holds the interpreter."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, Supervisor
from tests.process.facts import REASONS, completed, receives, send
from tests.process.fleet_app import APP
from tests.support import scaled

LEASE_UNTIL_MS = "SELECT max(lease_until_ms) FROM durableq_message"


@pytest.fixture
def lease() -> float:
    """The length of a lease, in seconds: short, but enough for an extension on a loaded machine."""
    return scaled(1)


@pytest.fixture
def fleet(dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, lease: float) -> Supervisor:
    """Two workers that receive; leases are short."""
    os.mkfifo(ledger.pipe)
    dq.queue("orders", visibility_timeout=lease)
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    return fleet


def wait_for_leases(fleet: Supervisor, ledger: Ledger, db: Path, seconds: float) -> None:
    """Wait until a lease was extended by this time, or the message was received again.

    A handler that holds the interpreter may stop the lease keeper of its process between BEGIN and
    COMMIT. Then no process can take the message, for as long as the write lock is held.
    """
    fleet.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    enough_ms = plain.one(db, LEASE_UNTIL_MS) + seconds * 1000
    free_at = time.monotonic()

    def is_over() -> bool:
        nonlocal free_at
        if not plain.is_locked(db):
            free_at = time.monotonic()
        is_extended = plain.one(db, LEASE_UNTIL_MS) > enough_ms
        return (
            is_extended or len(ledger.lines("invoke")) > 1 or time.monotonic() > free_at + seconds
        )

    fleet.wait_until(is_over, f"{seconds} seconds of leases")


def test_a_handler_that_computes_for_longer_than_its_lease_keeps_it(
    dq: DurableQ, db: Path, ledger: Ledger, fleet: Supervisor, lease: float
) -> None:
    send(dq, "orders", {"k": "spin"})
    wait_for_leases(fleet, ledger, db, 2 * lease)
    ledger.open_gate()
    fleet.wait_until(lambda: completed(db, "orders") == 1, "it to be done")
    assert receives(ledger) == ["k#1"]
    assert plain.column(db, REASONS) == []


def test_a_handler_that_lets_no_line_of_python_run_for_longer_than_its_lease_keeps_it(
    dq: DurableQ, db: Path, ledger: Ledger, fleet: Supervisor, lease: float
) -> None:
    send(dq, "orders", {"k": "hold"})
    wait_for_leases(fleet, ledger, db, 2 * lease)
    ledger.open_pipe()
    fleet.wait_until(lambda: completed(db, "orders") == 1, "it to be done")
    assert receives(ledger) == ["k#1"]
    assert plain.column(db, REASONS) == []
    record = dq.store.require(Capability.IDEMPOTENCY).record("orders", "k")
    assert record is not None
    assert float(record.result or 0) > 2 * lease, "the interpreter was not held"
