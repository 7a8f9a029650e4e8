"""The counts of a queue: from its counters, and true also where those are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin.operations import audit
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
