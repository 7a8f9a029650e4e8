"""The stored anchors of steady time, one for each boot: followed by readers, renewed by writers."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql import metadata
from durableq.engines.sql.transactions import Transaction
from durableq.runtime.clock import Anchor, Moment, SteadyClock

#: The names of anchors in durableq_meta begin so; release 0.1 has one of this name.
NAME: Final = "clock"


def _name(boot_id: str) -> str:
    return f"{NAME}:{boot_id}"


def stored(tx: Transaction, boot_id: str) -> Anchor | None:
    """Return the stored anchor of this boot, or else the newest of other boots and hosts."""
    own = Anchor.from_json(metadata.own_value(tx, _name(boot_id)))
    if own is not None:
        return own
    others = map(Anchor.from_json, metadata.own_values(tx, NAME).values())
    return max(filter(None, others), key=lambda anchor: anchor.steady_ms, default=None)


def drop_old(tx: Transaction, before_ms: int) -> set[str]:
    """Drop the anchors of before this steady time; return the boots of the others."""
    kept = set()
    for name, text in metadata.own_values(tx, NAME).items():
        anchor = Anchor.from_json(text)
        if anchor is None or anchor.steady_ms < before_ms:
            metadata.set_own_value(tx, name, None)
        else:
            kept.add(anchor.boot_id)
    return kept


def follow(tx: Transaction, clock: SteadyClock) -> Moment:
    """Return the time, after adopting the stored anchor if the clock's own is due."""
    moment = clock.moment()
    if moment.is_due:
        clock.adopt(stored(tx, clock.boot_id()))
        moment = clock.moment()
    return moment


def renew(tx: Transaction, clock: SteadyClock) -> Anchor | None:
    """Adopt the stored anchor; if it is due too, store and return a new one."""
    if not follow(tx, clock).is_due:
        return None
    now = clock.now()
    metadata.set_own_value(tx, _name(now.boot_id), now.to_json())
    return now
