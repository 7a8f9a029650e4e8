"""A budget of statements, prepares and Python calls for each operation; it fails when one grows.

Unlike a timing it is the same on each machine. A change that spends more says why here.
Newer versions of Python make fewer calls: they inline comprehensions.
"""

from __future__ import annotations

import re

from durableq import DurableQ, Queue
from durableq.engines.sql import sending
from durableq.engines.sqlite.store import SQLStore
from durableq.model.message import SendOptions
from tests.engine.budget import spent

#: BEGIN, the revision, the queue, its counter, the message, COMMIT.
STATEMENTS_OF_A_SEND = 6


def test_one_send(dq: DurableQ, orders: Queue) -> None:
    cost = spent(dq, lambda: orders.send({"order": 7}))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 17, cost.calls


def test_one_send_with_all_options(dq: DurableQ, orders: Queue) -> None:
    options: SendOptions = {"key": "k", "attributes": {"a": 1}, "delay": 60, "priority": 3}
    cost = spent(dq, lambda: orders.send({"order": 7}, **options))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND, cost.statements
    assert cost.prepares == []
    assert len(cost.calls) <= 24, cost.calls


def test_a_send_of_a_hundred_adds_one_statement_a_message(dq: DurableQ, orders: Queue) -> None:
    bodies = [{"order": number} for number in range(100)]
    cost = spent(dq, lambda: orders.send_many(bodies))
    assert len(cost.statements) == STATEMENTS_OF_A_SEND - 1 + len(bodies), cost.statements[:9]
    assert cost.prepares == []
    assert len(cost.calls) <= 125, cost.calls[:20]


def test_the_rows_of_a_send_are_in_the_order_of_its_statement(dq: DurableQ) -> None:
    store = dq.store
    assert isinstance(store, SQLStore)
    text = store._database.session().sql.INSERT
    assert tuple(re.findall(r"(?<![:\w]):(\w+)", text)) == sending.ROW
