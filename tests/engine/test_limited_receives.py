"""Receives from queues with limits: what they cost, and limits that change between two of them.

A session remembers which queues had limits, and reads their state together with the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.model.errors import DatabaseUnusable
from tests.engine import plain
from tests.engine.budget import spent

MANY = 1_000_000
RATE = {"rate": MANY, "burst": MANY}
PLACES = {"max_in_flight": MANY}


def statements(dq: DurableQ, orders: Queue) -> list[str]:
    """Return the statements of a send, a receive and a completion."""

    def one() -> None:
        orders.send(None)
        orders.receive()[0].complete()

    return spent(dq, one).statements


@pytest.mark.parametrize(
    "limits", [RATE, PLACES, RATE | PLACES], ids=["rate", "max_in_flight", "both"]
)
def test_a_rate_and_a_limit_in_flight_cost_one_statement(
    dq: DurableQ, orders: Queue, limits: Mapping[str, float]
) -> None:
    """The charge: the state of both is read with the queue, a completion counts in one update."""
    without = len(statements(dq, orders))
    dq.store.declare_queue("orders", limits)
    assert len(statements(dq, orders)) == without + 1
    dq.store.declare_queue("orders", dict.fromkeys(limits, 0))
    assert len(statements(dq, orders)) == without


def test_a_lowered_limit_holds_at_the_next_receive(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.store.declare_queue("orders", {"max_in_flight": 5})
    orders.send_many(range(9))
    assert len(orders.receive(2)) == 2
    with DurableQ(db) as other:
        other.store.declare_queue("orders", {"max_in_flight": 3})
    assert len(orders.receive(2)) == 1
    assert orders.receive(2) == []


def test_a_breaker_that_is_switched_on_holds_at_the_next_receive(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    dq.store.declare_queue("orders", RATE)
    orders.send_many(range(9))
    assert len(orders.receive()) == 1
    with DurableQ(db) as other:
        store: Any = other.store
        store.declare_queue("orders", {"breaker": 1})
        store.set_breaker("orders", is_open=True)
    assert orders.receive() == []


def test_a_share_of_retries_that_is_switched_on_holds_at_the_next_receive(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    dq.store.declare_queue("orders", RATE)
    orders.send_many(range(9))
    failed = orders.receive(9)
    with DurableQ(db) as other:
        other.store.declare_queue("orders", {"retry_share": 0.2})
    for message in failed:
        message.fail("refused", retry_in=0)
    assert len(orders.receive(9)) <= 1


def test_a_missing_state_is_named(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.store.declare_queue("orders", RATE)
    orders.send_many(range(9))
    assert len(orders.receive()) == 1
    with plain.connection(db) as raw:
        raw.execute("DELETE FROM durableq_counters")
        raw.commit()
    with pytest.raises(DatabaseUnusable, match="state of a queue's limits is missing"):
        orders.receive()
