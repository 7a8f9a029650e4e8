"""Bugs to plant in the counts of queues."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import queues


def audit_the_counters_by_themselves() -> None:
    """An audit compares the counters with a number that comes from them."""
    module: Any = queues
    count = module.all_queues
    module.all_queues = lambda tx, **_: count(tx)
