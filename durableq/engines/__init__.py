"""The engines: every storage technology there is, and nothing else knows their names."""

from __future__ import annotations

import random
from collections.abc import Callable

from durableq.clock import Clock
from durableq.errors import InvalidInput
from durableq.store import Store


def open_store(
    url: str, *, clock: Clock | None = None, dice: Callable[[], float] = random.random
) -> Store:
    """Open the store that a URL names, creating its file if there is none.

    Args:
        url: a path or `sqlite:///path` for a file, `memory://` for one process's memory.
        clock: where the time comes from; None means this machine's clocks.
        dice: numbers in [0, 1) for the backoff's jitter.

    Raises:
        InvalidInput: no engine serves this kind of URL.
        DatabaseUnusable: the file cannot be used; it was left untouched.
    """
    if _is_memory(url):
        from durableq.engines.memory import MemoryStore

        return MemoryStore(clock=clock, dice=dice)
    from durableq.engines.sql.store import SQLStore

    return SQLStore(url, clock=clock, dice=dice)


def create_store(url: str, *, clock: Clock | None = None, beside_other_tables: bool = False) -> str:
    """Create or upgrade the tables behind a URL; return what was found there.

    Args:
        url: as for open_store.
        clock: as for open_store.
        beside_other_tables: also in a file that holds another application's tables.

    Returns:
        `empty`, `older`, `current` or `foreign`.

    Raises:
        DatabaseUnusable: the file cannot be used; it was left untouched.
    """
    if _is_memory(url):
        return "empty"
    from durableq.engines.sql.schema import Purpose
    from durableq.engines.sql.store import SQLStore

    purpose = Purpose.ADOPT if beside_other_tables else Purpose.MIGRATE
    store = SQLStore(url, clock=clock, purpose=purpose)
    store.close()
    return store.found.value


def _is_memory(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in {"memory", "sqlite"}:
        raise InvalidInput(f"No engine serves {scheme}:// URLs; there are sqlite:// and memory://.")
    return bool(separator) and scheme == "memory"
