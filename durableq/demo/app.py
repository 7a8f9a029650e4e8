"""The example application: charge each order once. `durableq work` runs it by default.

An order may be sent twice, fail, die and come back easier. The queue ensures that it is charged
once: the ledger has no unique column that would catch a second charge.
"""

from __future__ import annotations

import functools
import time
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.demo import gateway
from durableq.demo.order import Difficulty, Order
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import Reject
from durableq.model.message import DeadLetter, Reason
from durableq.model.settings import QueueOptions

QUEUE: Final = "orders"
SETTINGS: Final = QueueOptions(
    visibility_timeout=10, max_receives=3, backoff_base=0.1, backoff_max=0.5
)
#: Duration of the simulated charge.
CHARGE_SECONDS: Final = {
    Difficulty.EASY: 0.02,
    Difficulty.MEDIUM: 0.04,
    Difficulty.HARD: 0.06,
    Difficulty.ERROR: 0.01,
}

LEDGER: Final = """
CREATE TABLE IF NOT EXISTS demo_ledger (
    id {id} PRIMARY KEY,
    order_key TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    charged_as TEXT NOT NULL,
    message_id TEXT NOT NULL
)
"""
#: PostgreSQL refuses one of two processes that create a missing table at once.
LEDGER_LOCK: Final = 0x1ED6E4
CHARGE: Final = """
INSERT INTO demo_ledger (order_key, amount_cents, charged_as, message_id)
VALUES (:order_key, :amount_cents, :charged_as, :message_id)
"""

dq = DurableQ()
orders = dq.queue(QUEUE, **SETTINGS)


@dq.handler(QUEUE)
def charge(message: Delivery) -> dict[str, int]:
    """Charge an order. The first charge of a process creates a missing ledger."""
    _make_ledger_once(dq.url)
    return record(message, authorise(message))


def authorise(message: Delivery) -> Order:
    """Take the money through the gateway: the part that may fail.

    Raises:
        Reject: the message is not an order that can be charged.
        GatewayTimeout: the gateway did not answer this time.
        FraudCheckTooSlow: it did not answer in time, and may never.
    """
    order = Order.from_body(message.body)
    if message.key is not None and message.key != order.key:
        raise Reject(f"the key is {message.key!r}, the order's is {order.key!r}")
    time.sleep(CHARGE_SECONDS[order.difficulty])
    gateway.check(order, message.receive_count, message.recovery_count)
    return order


def record(message: Delivery, order: Order) -> dict[str, int]:
    """Write the charge into the ledger in the commit that ends the message."""
    with message.transaction() as tx:
        tx.execute(
            CHARGE,
            {
                "order_key": order.key,
                "amount_cents": order.amount_cents,
                "charged_as": order.difficulty.value,
                "message_id": message.id,
            },
        )
        tx.result = order.payment
    return order.payment


@dq.recovery(QUEUE)
def recover(dead_letter: DeadLetter) -> Decision:
    """Decide about a dead order: discard it, or retry it with a smaller body."""
    try:
        order = Order.from_body(dead_letter.body)
    except Reject as error:
        return Hold(str(error))
    if order.difficulty is Difficulty.ERROR:
        return Discard(f"{order.key}: no later attempt can charge it")
    if _is_transient(dead_letter):
        return Requeue(f"{order.key}: nothing is wrong with the order itself")
    easier = order.made_easier()
    if easier != order:
        return Retry(
            easier.to_body(), f"{order.key}: {easier.difficulty} instead of {order.difficulty}"
        )
    return Hold(f"{order.key}: an easy order failed, for a reason this policy does not know")


def make_ledger(shop: DurableQ) -> None:
    """Create the ledger's table if it is missing."""
    with shop.engine.begin() as connection:
        if shop.engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LEDGER_LOCK})")
            connection.exec_driver_sql(LEDGER.format(id="BIGINT GENERATED ALWAYS AS IDENTITY"))
        else:
            connection.exec_driver_sql(LEDGER.format(id="INTEGER"))


@functools.cache
def _make_ledger_once(_url: str) -> None:
    """Create the table at a process's first charge, so that later charges do not check it."""
    make_ledger(dq)


def _is_transient(dead_letter: DeadLetter) -> bool:
    if dead_letter.reason in {Reason.WORKER_LOST, Reason.LEASE_EXPIRED, Reason.TIMEOUT}:
        return True
    last = dead_letter.last_failure
    return last is not None and last.error_type == gateway.GatewayTimeout.__qualname__
