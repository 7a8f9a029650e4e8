"""A process is killed while it holds a message that expires: it does so once, without a retry."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from durableq import DurableQ, Queue
from durableq.admin.operations import audit
from durableq.model.health import is_healthy
from tests.engine import plain
from tests.process.app import APP, EFFECT, Ledger
from tests.process.child import Nursery
from tests.process.facts import completed, events_of
from tests.support import scaled, wait_for

#: The message expires when its lease ends, or a moment before.
SECONDS = min(15, scaled(1.5))
EXPIRES_AT = "SELECT expires_at_ms FROM durableq_message"
TAKERS = 3
ON_EXPIRY = pytest.mark.parametrize(
    ("on_expiry", "end"), [("drop", "expired"), ("dead", "buried")], ids=["drop", "dead"]
)


@pytest.fixture
def orders(db: Path, dq: DurableQ) -> Iterator[Queue]:
    """A queue in which a retry would wait for longer than the tests."""
    yield dq.queue("orders", backoff_base=3600)
    assert is_healthy(audit(dq.store))


def check_ended_once(orders: Queue, db: Path, message_id: str, *events: tuple[str, str]) -> None:
    """Check that these are the events of one message, and that it was counted once."""
    assert events_of(db, message_id) == [*events]
    [*_, (end, _)] = events
    info, dead = orders.info(), orders._app.queue("orders-dlq").info()
    assert info.counters.expired == int(end == "expired")
    assert info.counters.moved_out == dead.counts.present == int(end == "buried")
    assert info.counts.present == 0


@ON_EXPIRY
def test_a_message_whose_holder_is_killed_expires_at_the_end_of_its_lease(
    orders: Queue, db: Path, nursery: Nursery, on_expiry: Literal["drop", "dead"], end: str
) -> None:
    """Several processes wait for that end: one of them ends the message, none receives it."""
    orders._app.queue("orders", visibility_timeout=SECONDS, on_expiry=on_expiry)
    reading, writing = os.pipe()
    takers = [
        nursery.run(sys.executable, "-m", "tests.process.takers", str(db), "1", stdin=reading)
        for _ in range(TAKERS)
    ]
    holder = nursery.start("hold_next", db)
    for child in (*takers, holder):
        child.wait_line("WAITS" if child is holder else "READY")
    message_id = orders.send("price", expires_in=SECONDS)
    holder.wait_line("READY")
    holder.kill()
    os.close(writing)  # the end of their stdin: now they begin
    os.close(reading)
    wait_for(
        lambda: not orders.info().counts.in_flight or any(len(child.said) > 1 for child in takers),
        seconds=SECONDS + 10,
        what="the end of the lease",
    )
    for child in takers:
        child.kill()
    assert [child.said for child in takers] == [["READY"]] * TAKERS
    lost = ("lease_expired", "lease_expired")
    check_ended_once(orders, db, message_id, lost, (end, "message_expired"))


@ON_EXPIRY
def test_a_message_that_expired_in_a_killed_worker_is_not_retried(
    orders: Queue,
    db: Path,
    ledger: Ledger,
    nursery: Nursery,
    on_expiry: Literal["drop", "dead"],
    end: str,
) -> None:
    """Its supervisor takes the lease back at once, an hour before its end."""
    orders._app.queue("orders", on_expiry=on_expiry)
    plain.script(db, EFFECT)
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    message_id = orders.send({"do": "wait once"}, expires_in=SECONDS)
    fleet.wait_until(lambda: ledger.lines("invoke"), "its handler")
    [holder] = ledger.pids("invoke")
    until_ms = plain.one(db, EXPIRES_AT)
    wait_for(lambda: time.time() * 1_000 > until_ms + 50, what="its expiry")
    assert orders.info().counts.in_flight == 1, "a running handler is not interrupted"
    fleet.worker(holder).kill()
    fleet.wait_until(lambda: not orders.info().counts.in_flight, "the end of the lease")
    orders.send({}, key="next")
    fleet.wait_until(lambda: completed(db, "orders"), "the fleet to go on")
    assert [line.of for line in ledger.lines("invoke")] == [message_id, "next"]
    lost = ("failed", "worker_lost")
    check_ended_once(orders, db, message_id, lost, (end, "message_expired"))
