"""The anchor of steady time in the file: followed by readers, renewed by writers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from durableq.engines.sql import upkeep
from durableq.engines.sqlite.database import Database
from durableq.model.errors import DurableQError
from durableq.runtime.steady_clock import Anchor, SteadyClock

#: Name of the anchor in durableq_meta.
NAME: Final = "clock"


def stored(raw: Any) -> Anchor | None:
    """Return the anchor in the file."""
    return Anchor.from_json(upkeep.meta_value(raw, NAME))


def follow(raw: Any, clock: SteadyClock) -> None:
    """Reckon from the anchor in the file, if the one at hand is old or from before a jump."""
    if clock.is_due():
        clock.adopt(stored(raw))


def keep(database: Database, clock: SteadyClock) -> None:
    """Renew the anchor in the file if it is due and no other process has done so.

    It has a transaction of its own: the caller's may be undone. Steady time is as right without
    it, so a file that cannot be written just now is left to the next write.
    """
    if not clock.is_due():
        return
    with suppress(DurableQError):
        with database.read() as raw:
            follow(raw, clock)
        if not clock.is_due():
            return
        with database.write(patient=False) as raw:
            follow(raw, clock)
            is_due, now = clock.is_due(), clock.now()
            if is_due:
                upkeep.set_meta(raw, NAME, now.to_json())
        if is_due:
            clock.renew(now)
