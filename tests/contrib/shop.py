"""An application under test, on a file that no test may touch."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from durableq import Batch, Delivery, DurableQ, Reject, RetryLater


class Shop:
    """The application, its queues, and what its handlers did."""

    def __init__(self) -> None:
        self.dq = dq = DurableQ("/nowhere/of-the-user.db")
        self.orders = dq.queue("orders", max_receives=3, backoff_base=10, visibility_timeout=60)
        self.receipts = dq.queue("receipts", idempotency_ttl=3600)
        self.handled: list[Any] = []
        dq.handler("orders")(self.charge)
        dq.handler("receipts", batch=10)(self.post)

    def charge(self, message: Delivery) -> str:
        """Charge an order, and send its receipt, in one transaction."""
        self.handled.append(message.body)
        match message.body:
            case {"fail": text}:
                raise ValueError(text)
            case {"reject": text}:
                raise Reject(text)
            case {"later": seconds}:
                raise RetryLater(seconds)
        with message.transaction() as tx:
            tx.execute("INSERT INTO ledger VALUES (:order)", message.body)
            tx.send("receipts", message.body, key=f"receipt-{message.body['order']}")
        return "charged"

    def post(self, batch: Batch) -> None:
        """Post receipts."""
        self.handled.append([message.body for message in batch])

    def create_ledger(self) -> None:
        """Make the table of the handler."""
        with self.dq.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE ledger (order_id INTEGER)"))

    def ledger(self) -> list[int]:
        """Return the orders that were charged."""
        with self.dq.engine.connect() as connection:
            return [*connection.execute(sa.text("SELECT order_id FROM ledger")).scalars()]
