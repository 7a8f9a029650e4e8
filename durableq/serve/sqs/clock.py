"""The time of receives, from which the longest lease counts."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from durableq.client.app import DurableQ
from durableq.runtime.clock import Clock, SystemClock
from durableq.serve.context import Context

#: The clock of an application, and by how much its wall clock was ahead of its lease clock.
_clocks: Final[WeakKeyDictionary[DurableQ, tuple[Clock, int]]] = WeakKeyDictionary()


def now_ms(context: Context) -> int:
    """Return ms of the wall clock as it went when it was first asked.

    A step of the wall clock, as NTP makes one after a start, ends no lease, and bounds none.
    """
    found = _clocks.get(context.app)
    if found is None:
        clock = context.app.clock or SystemClock()
        found = _clocks[context.app] = clock, clock.wall_ms() - clock.lease_ms()
    clock, ahead_ms = found
    return clock.lease_ms() + ahead_ms
