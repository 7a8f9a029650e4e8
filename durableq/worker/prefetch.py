"""How many messages a lane leases at a time, where the application does not say."""

from __future__ import annotations

from typing import Final

#: So much work of one queue a lane may have in hand: idle neighbours hardly miss it.
MOMENT_SECONDS: Final = 0.010
MOST: Final = 100


class AdaptivePrefetch:
    """Learns how long each queue's handler takes. Its small races cost nothing but a little skew.

    It begins with one message at a time, comes to trust a fast handler within some tens of
    messages, and a slow one again within a few.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, queue: str, seconds: float) -> None:
        """Learn from one message."""
        before = self._seconds.get(queue, MOMENT_SECONDS)
        weight = 0.2 if seconds < before else 0.5
        self._seconds[queue] = before + weight * (seconds - before)

    def room(self, queue: str) -> int:
        """Return how many messages are a moment's work."""
        seconds = self._seconds.get(queue, MOMENT_SECONDS)
        return max(1, min(MOST, int(MOMENT_SECONDS / max(seconds, 1e-6))))
