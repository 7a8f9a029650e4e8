"""Progress on disk: maintenance removes the rows of leases that have ended; a copy has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.client.delivery import Delivery
from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
from durableq.model.progress import progress_report
from durableq.store.core import Capability
from durableq.testing import FakeClock
from tests.engine import plain

COUNT = "SELECT count(*) FROM durableq_progress"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def report(dq: DurableQ, deliveries: list[Delivery]) -> None:
    """Report that each of these messages is half done."""
    reports = [progress_report(delivery.receipt, 0.5) for delivery in deliveries]
    outcomes = dq.store.require(Capability.PROGRESS).report_progress(reports)
    assert not any(outcome.refused for outcome in outcomes)


@plain.ON_BOTH
def test_maintenance_removes_the_rows_of_leases_that_have_ended(
    db: plain.Place, clock: FakeClock
) -> None:
    with DurableQ(db, clock=clock) as dq:
        orders = dq.queue("orders", visibility_timeout=3600)
        orders.send_many(range(250))
        first, *others = orders.receive(250)
        report(dq, [first, *others])
        for delivery in others:
            delivery.release()
        assert plain.one(db, COUNT) == 250
        maintenance = dq.store.require(Capability.MAINTENANCE)
        clock.advance(MAINTENANCE_EVERY_MS / 1_000)
        while maintenance.maintain().due:
            clock.advance(MAINTENANCE_AGAIN_MS / 1_000)
        assert plain.one(db, COUNT) == 1
        first.complete()
        maintenance.prune()
        assert plain.one(db, COUNT) == 0


def test_a_copy_has_no_progress(tmp_path: Path) -> None:
    with DurableQ(tmp_path / "queue.db") as dq:
        orders = dq.queue("orders")
        orders.send(1)
        report(dq, orders.receive())
    operations.back_up(str(tmp_path / "queue.db"), tmp_path / "copy.db")
    operations.restore(tmp_path / "copy.db", str(tmp_path / "restored.db"))
    with DurableQ(tmp_path / "restored.db") as dq:
        assert dq.store.require(Capability.PROGRESS).progress_in(None, 10) == []
