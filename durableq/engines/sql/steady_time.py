"""The stored anchor of steady time: followed by readers, renewed by writers."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql import metadata
from durableq.engines.sql.transactions import Transaction
from durableq.runtime.clock import Anchor, Moment, SteadyClock

#: Name of the anchor in durableq_meta.
NAME: Final = "clock"


def stored(tx: Transaction) -> Anchor | None:
    """Return the stored anchor."""
    return Anchor.from_json(metadata.own_value(tx, NAME))


def follow(tx: Transaction, clock: SteadyClock) -> Moment:
    """Return the time, after adopting the stored anchor if the clock's own is due."""
    moment = clock.moment()
    if moment.is_due:
        clock.adopt(stored(tx))
        moment = clock.moment()
    return moment


def renew(tx: Transaction, clock: SteadyClock) -> Anchor | None:
    """Adopt the stored anchor; if it is due too, store and return a new one."""
    if not follow(tx, clock).is_due:
        return None
    now = clock.now()
    metadata.set_own_value(tx, NAME, now.to_json())
    return now
