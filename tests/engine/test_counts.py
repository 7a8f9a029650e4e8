"""The counts of a queue: from its counters, and true also where those are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin.operations import audit
from durableq.engines.sqlite.driver import driver
from durableq.model.health import Level
from durableq.model.queues import Counts
from durableq.store.core import Capability
from tests.engine import plain


def counts(dq: DurableQ) -> Counts:
    return dq.store.require(Capability.INSPECT).queue("orders").counts


@pytest.fixture
def queue(dq: DurableQ) -> DurableQ:
    orders = dq.queue("orders")
    orders.send_many([1, 2, 3])
    orders.send(4, delay=60)
    orders.receive()
    return dq


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE durableq_counters SET sent = 0",
        "UPDATE durableq_counters SET completed = 2",
        "DELETE FROM durableq_counters",
    ],
)
def test_wrong_counters_neither_hide_ready_messages_nor_make_a_negative_count(
    queue: DurableQ, db: Path, damage: str
) -> None:
    plain.script(db, damage)
    assert counts(queue) == Counts(ready=2, delayed=1, in_flight=1)


def test_wrong_counters_invent_no_message_in_a_queue_without_ready_ones(
    queue: DurableQ, db: Path
) -> None:
    plain.script(db, "DELETE FROM durableq_message WHERE state = 0")
    assert counts(queue) == Counts(ready=0, delayed=1, in_flight=1)


def test_an_audit_counts_each_message_and_trusts_no_counter(queue: DurableQ, db: Path) -> None:
    plain.script(db, "UPDATE durableq_counters SET sent = sent + 5 WHERE sent > 0")
    assert counts(queue).ready == 7, "the counters are believed"
    (found,) = [finding for finding in audit(queue.store) if finding.level is Level.BAD]
    assert found.what == "orders: 4 messages, but its counters say 9: 5 too few"


def test_a_send_that_fails_inside_a_transaction_counts_nothing(dq: DurableQ, db: Path) -> None:
    """The user code goes on after the error, and the transaction commits."""
    orders = dq.queue("orders", max_backlog=10, max_backlog_bytes=100)
    orders.send(1)
    plain.script(
        db,
        "CREATE TRIGGER refused BEFORE INSERT ON durableq_message WHEN NEW.body = '345' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    (message,) = orders.receive()
    with message.transaction() as tx:
        tx.send("orders", 2)
        with pytest.raises(driver.IntegrityError, match="refused"):
            tx.send("orders", 345)
    info = dq.store.require(Capability.INSPECT).queue("orders")
    assert (info.counters.sent, info.limits.backlog_bytes, info.counts.ready) == (2, 1, 1)
