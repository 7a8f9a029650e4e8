"""Transactions of user code: the look at the leases, before the code runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import column, func, literal_column, select, table

from durableq.engines.sql.definitions.elements import Statement, in_list, parameter
from durableq.engines.sql.definitions.tables import is_state, message, queue
from durableq.model.message import State

_version = table("durableq_version", column("version_num"))
_zero: Any = literal_column("0")
_of_queue: Any = message.c.queue_id + _zero == queue.c.id

# The revision of the tables, and how many of these messages are leased under their receipt.
HELD = Statement(
    select(
        select(_version.c.version_num).scalar_subquery(),
        select(func.count(message.c.id))
        .where(
            in_list(message.c.id, "ids"),
            _of_queue,
            message.c.receipt == parameter("token"),
            is_state(State.IN_FLIGHT),
        )
        .scalar_subquery(),
    ).where(queue.c.name == parameter("queue")),
    order=("queue", "ids", "token"),
    for_one=True,
)
