"""The circuit breaker on a SQLite file: its rows, their removal, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue, Unavailable
from durableq.engines import open_store
from durableq.engines.sqlite import statements as sql
from durableq.model.errors import DatabaseUnusable
from durableq.model.limits import MAINTENANCE_EVERY_MS
from durableq.model.message import Completion, Failure, Reason, draft
from durableq.testing import FakeClock
from durableq.testing.contract.case import FullStore
from tests.engine import plain
from tests.engine.budget import spent
from tests.support import new_file

ROWS = "SELECT queue_id, message_id, unavailable FROM durableq_failure"
DOWN = Failure(Reason.UNAVAILABLE, "Unavailable", "down")
ERROR = Failure(Reason.HANDLER_ERROR, "OSError", "refused", retry_in_ms=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(db: Path, clock: FakeClock) -> Iterator[FullStore]:
    store: Any = open_store(str(new_file(db, FakeClock)), clock=clock)
    store.declare_queue("orders", {"breaker": 1, "breaker_minimum": 1_000, "max_receives": 99})
    yield store
    store.close()


def fail(store: FullStore, failure: Failure, number: int) -> None:
    store.send("orders", [draft(None)] * number)
    receipts = [one.receipt for one in store.receive("orders", number).messages]
    store.fail([(receipt, failure) for receipt in receipts if receipt is not None])


def maintain(store: FullStore, clock: FakeClock, limit: int = 200) -> None:
    clock.advance(MAINTENANCE_EVERY_MS / 1000)
    assert store.maintain(limit).due


def test_maintenance_removes_records_of_messages_that_are_gone(
    store: FullStore, db: Path, clock: FakeClock
) -> None:
    fail(store, DOWN, 5)
    assert plain.rows(db, ROWS) == [(1, number, 1) for number in range(1, 6)]
    store.set_breaker("orders", is_open=False)
    [gone, *_] = store.receive("orders", 1).messages
    assert gone.receipt is not None
    store.complete([Completion(gone.receipt)])
    assert len(plain.rows(db, ROWS)) == 5, "a success writes nothing"
    maintain(store, clock)
    assert plain.rows(db, ROWS) == [(1, number, 1) for number in range(2, 6)]


def test_maintenance_removes_records_from_before_the_window(
    store: FullStore, db: Path, clock: FakeClock
) -> None:
    fail(store, ERROR, 3)
    maintain(store, clock)
    assert len(plain.rows(db, ROWS)) == 3
    clock.advance(0.001)
    maintain(store, clock)
    assert plain.rows(db, ROWS) == []


def test_records_are_removed_in_slices(store: FullStore, db: Path, clock: FakeClock) -> None:
    fail(store, ERROR, 10)
    clock.advance(60)
    left = []
    for _ in range(4):
        maintain(store, clock, limit=3)
        left.append(len(plain.rows(db, ROWS)))
    assert left == [7, 4, 1, 0]


def test_deleting_a_queue_deletes_its_records(store: FullStore, db: Path) -> None:
    fail(store, ERROR, 3)
    store.delete_queue("orders", force=True)
    assert plain.rows(db, ROWS) == []
    assert plain.rows(db, "SELECT 1 FROM durableq_history WHERE message_id < 0") == []


def test_a_missing_state_is_named(store: FullStore, db: Path) -> None:
    with plain.connection(db) as raw:
        raw.execute("DELETE FROM durableq_flow")
        raw.commit()
    with pytest.raises(DatabaseUnusable, match="state of a queue's limits is missing"):
        store.receive("orders", 1)
    assert store.queues()


PLANS = {
    "READY_FRESH": {"durableq_message_ready (queue_id=?)"},
    "COUNT_LEASES": {"durableq_message_leased (queue_id=?)"},
    "FAILURE_OF": {"PRIMARY KEY (queue_id=? AND message_id=?)"},
}


@pytest.mark.parametrize("name", PLANS)
def test_its_statements_use_an_index(store: FullStore, db: Path, name: str) -> None:
    text = str(getattr(sql, name))
    bound = dict.fromkeys(re.findall(r"(?<![:\w])[:?](\w+)", text), 1)
    values: Any = tuple(bound.values()) if "?1" in text else bound
    with plain.connection(db) as raw:
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert not [line for line in plan if line.startswith("SCAN durableq") or "B-TREE" in line]
    assert all(any(wanted in line for line in plan) for wanted in PLANS[name]), plan


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(new_file(db)) as dq:
        queue = dq.queue("orders")
        dq.init()
        yield queue


def test_a_breaker_costs_a_receive_two_statements_and_a_success_none(orders: Queue) -> None:
    def one() -> None:
        orders.send(None)
        orders.receive()[0].complete()

    without = len(spent(orders._app, one).statements)
    orders._app.store.declare_queue("orders", {"breaker": 1})
    assert len(spent(orders._app, one).statements) == without + 2


def test_without_a_breaker_unavailable_costs_as_much_as_any_failure(orders: Queue) -> None:
    orders._app.store.declare_queue("orders", {"max_receives": 1_000})
    orders.send(None)

    def fail_with(error: Exception) -> int:
        def one() -> None:
            orders.receive()[0].fail(error, retry_in=0)

        return len(spent(orders._app, one).statements)

    assert fail_with(Unavailable()) == fail_with(OSError())
