"""Transactions of user code: the look at the leases, before the code runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.messages import revision, under_receipt, zero
from durableq.engines.sql.definitions.tables import message, queue

_of_queue: Any = message.c.queue_id + zero == queue.c.id

# The revision of the tables, and how many of these messages are leased under their receipt.
HELD = Statement(
    select(
        revision,
        select(func.count(message.c.id))
        .where(in_list(message.c.id, "ids"), _of_queue, *under_receipt)
        .scalar_subquery(),
    ).where(queue.c.name == parameter("queue")),
    order=("queue", "ids", "token"),
    for_one=True,
)
