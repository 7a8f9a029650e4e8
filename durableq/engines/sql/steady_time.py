"""The stored anchors of steady time, one for each boot: followed by readers, renewed by writers."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql import metadata
from durableq.engines.sql.transactions import Transaction
from durableq.model.moving import Times
from durableq.runtime.clock import Anchor, Moment, SteadyClock

#: The names of anchors in durableq_meta begin so; release 0.1 has one of this name.
NAME: Final = "clock"
#: Greatest distance of two wall clocks that agree.
AGREE_MS: Final = 1_000


def _name(boot_id: str) -> str:
    return f"{NAME}:{boot_id}"


def stored(tx: Transaction, boot_id: str) -> Anchor | None:
    """Return the stored anchor of this boot, or else the newest of other boots and hosts."""
    own = Anchor.from_json(metadata.own_value(tx, _name(boot_id)))
    if own is not None:
        return own
    others = map(Anchor.from_json, metadata.own_values(tx, NAME).values())
    return max(filter(None, others), key=lambda anchor: anchor.steady_ms, default=None)


def take_over(tx: Transaction, clock: SteadyClock, other: Times) -> None:
    """Count time as another store does, so that its dates keep their meaning here.

    A date stays as far ahead, or as long ago, as it was. It is shown as the wall clock of this
    store has it; where those of both agree, so do the dates.

    Args:
        tx: a transaction of this store.
        clock: its clock.
        other: the time of the other store, just now.
    """
    now = clock.now()
    ahead_ms = other.now_ms + other.offset_ms - now.wall_ms
    agree = abs(ahead_ms) <= AGREE_MS
    steady_ms = now.wall_ms - other.offset_ms if agree else other.now_ms
    for name in metadata.own_values(tx, NAME):
        metadata.set_own_value(tx, name, None)
    anchor = now._replace(steady_ms=steady_ms, jump_ms=0, jumped_at_ms=0)
    metadata.set_own_value(tx, _name(anchor.boot_id), anchor.to_json())
    clock.renew(anchor)


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
