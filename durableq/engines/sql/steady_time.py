"""The stored anchor of steady time: followed by readers, renewed by writers."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from durableq.engines.sql import upkeep
from durableq.engines.sql.transactions import Database, Transaction
from durableq.model.errors import DurableQError
from durableq.runtime.steady_clock import Anchor, SteadyClock

#: Name of the anchor in durableq_meta.
NAME: Final = "clock"


def stored(tx: Transaction) -> Anchor | None:
    """Return the stored anchor."""
    return Anchor.from_json(upkeep.meta_value(tx, NAME))


def follow(tx: Transaction, clock: SteadyClock) -> None:
    """Adopt the stored anchor if the clock's own is old or from before a jump."""
    if clock.is_due():
        clock.adopt(stored(tx))


def keep(database: Database, clock: SteadyClock) -> None:
    """Renew the stored anchor if it is due and no other process has renewed it.

    It has a transaction of its own, because the caller's may be undone. Steady time is correct
    without it: if the database cannot be written now, the next write renews it.
    """
    if not clock.is_due():
        return
    with suppress(DurableQError):
        with database.read() as tx:
            follow(tx, clock)
        if not clock.is_due():
            return
        with database.write(patient=False) as tx:
            follow(tx, clock)
            is_due, now = clock.is_due(), clock.now()
            if is_due:
                upkeep.set_meta(tx, NAME, now.to_json())
        if is_due:
            clock.renew(now)
