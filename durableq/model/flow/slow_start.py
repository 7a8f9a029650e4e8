"""Slow start: after a circuit breaker has closed, a queue's capacity grows to all of it.

What was down comes back with cold caches and few connections; all that waits at once would bring it
down again.
"""

from __future__ import annotations

from typing import Final

#: The part of the capacity with which it starts.
START: Final = 0.1


def part(closed_at_ms: int, slow_start_ms: int, now_ms: int) -> float:
    """Return the part of a queue's capacity that may be used now, from START to 1.

    Args:
        closed_at_ms: when the breaker closed, in lease time; 0 if it did not, or is not closed.
        slow_start_ms: the time until all of it may be used; 0 for at once.
        now_ms: the lease clock.
    """
    since_ms = max(0, now_ms - closed_at_ms)
    if not closed_at_ms or since_ms >= slow_start_ms:
        return 1.0
    return START + (1 - START) * since_ms / slow_start_ms
