"""Groups cost the same with any number of groups, and of messages in one: plans, steps, statements.

Steps are instructions of SQLite's virtual machine, which do not depend on the machine or its load.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ, Queue
from durableq.engines.sqlite import statements as sql
from durableq.engines.sqlite.driver import driver, is_affected
from durableq.model.message import Completion, draft
from tests.engine.budget import spent
from tests.engine.test_plans import MESSAGE, RECORD, ROWID, plan, steps_of

pytestmark = pytest.mark.skipif(
    is_affected(driver.sqlite_version_info), reason="each SQLite words its plans in its own way"
)
OF_GROUP = "SEARCH durableq_group USING PRIMARY KEY (queue_id=? AND group_id=?)"
NEXT = "durableq_message_blocked (queue_id=? AND group_id=?)"
COUNTERS = f"SEARCH durableq_counters {ROWID}"
SETTINGS = f"SEARCH durableq_queue {ROWID}"
PLANS = {
    "TAKE_PLACE": (
        sql.TAKE_PLACE,
        {
            f"SEARCH {MESSAGE} {ROWID}",
            f"SEARCH next USING COVERING INDEX {NEXT}",
            *(OF_GROUP, SETTINGS, COUNTERS),
            *("SCALAR SUBQUERY 1", "SCALAR SUBQUERY 2", "SCALAR SUBQUERY 3"),
        },
    ),
    "MAKE_ACTIVE": (
        sql.MAKE_ACTIVE,
        {
            f"SEARCH {MESSAGE} {ROWID}",
            f"SEARCH {MESSAGE} USING COVERING INDEX {NEXT}",
            *("SCALAR SUBQUERY 1", COUNTERS),
        },
    ),
    "FOLLOWING": (
        sql.FOLLOWING,
        {
            f"SEARCH {MESSAGE} USING INDEX {NEXT}",
            f"SEARCH durableq_idempotency {RECORD} LEFT-JOIN",
        },
    ),
    "GROUPS_NAMED": (sql.GROUPS_NAMED, {OF_GROUP}),
    "DROP_LAST": (sql.DROP_LAST, {OF_GROUP}),
    "LEAVE_PLACE": (sql.LEAVE_PLACE, {OF_GROUP}),
    "ADD_ACTIVE": (sql.ADD_ACTIVE, {OF_GROUP}),
    "PAY_TOKENS": (sql.PAY_TOKENS, {OF_GROUP}),
    "TAKE_TURN": (sql.TAKE_TURN, {COUNTERS}),
    "COMPLETED_AND_TURN": (sql.COMPLETED_AND_TURN, {COUNTERS}),
}


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders", group_concurrency=1)


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_uses_the_index(name: str, dq: DurableQ, db: Path) -> None:
    statement, expected = PLANS[name]
    assert plan(db, statement) == expected


def fill(dq: DurableQ, number: int, groups: int) -> None:
    """Send so many messages, to each group in turn."""
    bodies = range(number)
    for start in range(0, number, 5_000):
        batch = [draft(n, group=f"group {n % groups}") for n in bodies[start : start + 5_000]]
        dq.store.send("orders", batch)


def cycle(dq: DurableQ, limit: int = 1, *, by_group: bool = False) -> None:
    """Receive and complete."""
    received = dq.store.receive("orders", limit, by_group=by_group).messages
    assert len(received) == limit
    dq.store.complete([Completion(m.receipt) for m in received if m.receipt is not None])


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("limit", [1, 10])
def test_a_message_costs_the_same_with_any_number_of_groups(dq: DurableQ, limit: int) -> None:
    fill(dq, 2_000, 100)
    few = steps_of(dq, lambda: cycle(dq, limit))
    fill(dq, 20_000, 10_000)
    many = steps_of(dq, lambda: cycle(dq, limit))
    assert many <= few * 1.1


@pytest.mark.usefixtures("orders")
def test_a_message_costs_the_same_in_a_group_of_any_size(dq: DurableQ) -> None:
    fill(dq, 100, 1)
    small = steps_of(dq, lambda: cycle(dq))
    fill(dq, 100_000, 1)
    assert steps_of(dq, lambda: cycle(dq)) <= small * 1.1
    assert steps_of(dq, lambda: cycle(dq, 100, by_group=True)) <= small * 100 * 0.6


def test_a_completion_with_a_next_message_takes_one_statement_more(
    dq: DurableQ, orders: Queue
) -> None:
    """The next message takes its place; the turn is taken with the counter."""
    plain = dq.queue("plain")
    plain.send_many(range(10))
    fill(dq, 100, 10)
    plain_ones, messages = iter(plain.receive(10)), iter(orders.receive(10))
    before = len(spent(dq, lambda: next(plain_ones).complete()).statements)
    cost = spent(dq, lambda: next(messages).complete())
    assert len(cost.statements) == before + 1, cost.statements
    assert cost.prepares == []


def test_a_send_behind_others_of_its_group_writes_its_message_only(
    dq: DurableQ, orders: Queue
) -> None:
    """Beside a plain send it reads the settings and the counts of the group."""
    plain = dq.queue("plain")
    cost = len(spent(dq, lambda: plain.send(1)).statements)
    orders.send(1, group="a")
    assert len(spent(dq, lambda: orders.send(2, group="a")).statements) == cost + 2
