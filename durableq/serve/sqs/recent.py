"""Purges and deletions of the last 60 seconds, for the rules of a strict server.

The server remembers them, not the database: a restart ends them early.
"""

from __future__ import annotations

import time
from typing import Final
from weakref import WeakKeyDictionary

from durableq.store.core import Store

SECONDS: Final = 60.0


class Recent:
    """The names of queues, and when something was last done to each."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def note(self, key: str) -> None:
        """Note that it was done now."""
        now = time.monotonic()
        self._ends = {name: end for name, end in self._ends.items() if end > now}
        self._ends[key] = now + SECONDS

    def has(self, key: str) -> bool:
        """Return whether it was done in the last 60 seconds."""
        return self._ends.get(key, 0.0) > time.monotonic()

    def drop(self, key: str) -> None:
        """Forget it."""
        self._ends.pop(key, None)


_purges: WeakKeyDictionary[Store, Recent] = WeakKeyDictionary()
_deletions: WeakKeyDictionary[Store, Recent] = WeakKeyDictionary()


def purges(store: Store) -> Recent:
    """Return the purges of queues of a store."""
    return _purges.setdefault(store, Recent())


def deletions(store: Store) -> Recent:
    """Return the deletions of queues of a store."""
    return _deletions.setdefault(store, Recent())
