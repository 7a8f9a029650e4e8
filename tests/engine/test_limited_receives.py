"""Receives from queues with limits: what they cost, and limits that change between two of them.

A session remembers which queues had limits, and reads their state together with the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.engines import open_store
from durableq.engines.sql.columns import FEW_IN_FLIGHT
from durableq.engines.sqlite.driver import driver
from durableq.model.errors import DatabaseUnusable
from durableq.model.message import Completion, draft
from durableq.testing import FakeClock
from tests.engine import plain
from tests.engine.budget import spent
from tests.support import new_file

MANY = 1_000_000
RATE = {"rate": MANY, "burst": MANY}
PLACES = {"max_in_flight": MANY}
FEW_PLACES = {"max_in_flight": FEW_IN_FLIGHT}


def statements(dq: DurableQ, orders: Queue) -> list[str]:
    """Return the statements of a send, a receive and a completion."""

    def one() -> None:
        orders.send(None)
        orders.receive()[0].complete()

    return spent(dq, one).statements


@pytest.mark.parametrize(
    "limits", [RATE, PLACES, RATE | PLACES], ids=["rate", "max_in_flight", "both"]
)
def test_a_rate_and_a_limit_in_flight_cost_at_most_one_statement(
    dq: DurableQ, orders: Queue, limits: Mapping[str, float]
) -> None:
    """The charge: the state of both is read with the queue, a completion counts in one update.

    A rate costs none where its tokens are paid for.
    """
    without = len(statements(dq, orders))
    dq.store.declare_queue("orders", limits)
    least = without if "max_in_flight" not in limits else without + 1
    assert least <= len(statements(dq, orders)) <= without + 1
    dq.store.declare_queue("orders", dict.fromkeys(limits, 0))
    assert len(statements(dq, orders)) == without


def test_few_places_in_flight_cost_no_statement(dq: DurableQ, orders: Queue) -> None:
    without = len(statements(dq, orders))
    dq.store.declare_queue("orders", FEW_PLACES)
    assert len(statements(dq, orders)) == without


def test_a_lowered_limit_holds_at_the_next_receive(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.store.declare_queue("orders", {"max_in_flight": 5})
    orders.send_many(range(9))
    assert len(orders.receive(2)) == 2
    with DurableQ(db) as other:
        other.store.declare_queue("orders", {"max_in_flight": 3})
    assert len(orders.receive(2)) == 1
    assert orders.receive(2) == []


def test_a_low_limit_that_has_a_counter_loses_it_when_it_is_declared_again(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    """It was declared by an earlier version."""
    orders.send_many(range(9))
    dq.store.declare_queue("orders", {"max_in_flight": 3})
    with plain.connection(db) as raw:
        raw.execute("UPDATE durableq_queue SET limits = 2 WHERE name = 'orders'")
        raw.execute("UPDATE durableq_counters SET in_flight = 1")
        raw.commit()
    assert len(orders.receive(9)) == 2
    dq.store.declare_queue("orders", {"max_in_flight": 3})
    assert len(orders.receive(9)) == 1
    assert orders.receive(9) == []


@pytest.mark.parametrize("limits", [RATE, FEW_PLACES], ids=["rate", "max_in_flight"])
def test_a_breaker_that_is_switched_on_holds_at_the_next_receive(
    dq: DurableQ, orders: Queue, db: Path, limits: Mapping[str, float]
) -> None:
    dq.store.declare_queue("orders", limits)
    orders.send_many(range(9))
    assert len(orders.receive()) == 1
    with DurableQ(db) as other:
        store: Any = other.store
        store.declare_queue("orders", {"breaker": 1})
        store.set_breaker("orders", is_open=True)
    assert orders.receive() == []


def test_a_rate_that_is_switched_on_holds_at_the_next_receive(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    dq.store.declare_queue("orders", FEW_PLACES)
    orders.send_many(range(9))
    assert len(orders.receive()) == 1
    with DurableQ(db) as other:
        other.store.declare_queue("orders", {"rate": 0.01, "burst": 1})
    assert len(orders.receive(9)) == 1
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


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(db: Path, clock: FakeClock) -> Iterator[Any]:
    """A store with a queue from which it has received at a pace of ten messages in a ms."""
    with closing(open_store(str(new_file(db, FakeClock)), clock=clock)) as store:
        store.declare_queue("orders", {"rate": 20_000, "burst": 2_000})
        store.send("orders", [draft(number) for number in range(200)])
        for _ in range(3):
            store.receive("orders", 10)
            clock.advance(0.001)
        yield store


def arrival_ns(db: Path) -> int:
    """Return the theoretical arrival time of the rate, which a payment moves."""
    return int(plain.one(db, "SELECT max(tat_ns) FROM durableq_counters"))


def test_tokens_that_are_paid_for_cost_no_write(store: Any, db: Path, clock: FakeClock) -> None:
    paid_ns = arrival_ns(db)
    for _ in range(3):
        assert len(store.receive("orders", 10).messages) == 10
    assert arrival_ns(db) == paid_ns
    clock.advance(0.011)
    store.receive("orders", 10)
    assert arrival_ns(db) > paid_ns


def test_a_receive_that_is_undone_has_paid_for_nothing(
    store: Any, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid_ns = arrival_ns(db)
    session = store._database.session()
    while session.limited["orders"].covers(10, session.lease_now_ms):
        store.receive("orders", 10)
    assert arrival_ns(db) == paid_ns

    def fail(_: object) -> None:
        raise driver.OperationalError("disk I/O error")

    with monkeypatch.context() as at_commit:
        at_commit.setattr(store._database, "_commit", fail)
        with pytest.raises(driver.OperationalError):
            store.receive("orders", 10)
    assert arrival_ns(db) == paid_ns
    assert len(store.receive("orders", 1).messages) == 1
    assert arrival_ns(db) > paid_ns


def test_prepaid_tokens_outlive_a_transaction_of_user_code(store: Any, db: Path) -> None:
    paid_ns = arrival_ns(db)
    [message] = store.receive("orders", 1).messages
    with store.transaction([message.receipt]) as tx:
        tx.settle([Completion(message.receipt)], [])
    assert len(store.receive("orders", 1).messages) == 1
    assert arrival_ns(db) == paid_ns


def test_a_changed_rate_holds_though_tokens_are_paid_for(
    store: Any, db: Path, clock: FakeClock
) -> None:
    with closing(open_store(str(db), clock=clock)) as other:
        other.declare_queue("orders", {"rate": 1, "burst": 1})
    assert sum(len(store.receive("orders", 1).messages) for _ in range(5)) == 0


def test_a_missing_state_is_named(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.store.declare_queue("orders", RATE)
    orders.send_many(range(9))
    assert len(orders.receive()) == 1
    with plain.connection(db) as raw:
        raw.execute("DELETE FROM durableq_counters")
        raw.commit()
    with pytest.raises(DatabaseUnusable, match="state of a queue's limits is missing"):
        orders.receive()
