"""Other openings of a database file in this process: plain files and other SQLite libraries."""

from __future__ import annotations

import gc
import io
import os
import sys
from pathlib import Path
from typing import Any

from durableq.engines.sqlite.driver import driver


def owner(descriptors: set[int], path: Path) -> str:
    """Return the object that holds one of the descriptors, if it is not the driver's; or empty.

    A connection of the standard library that belongs to another thread cannot be asked for its
    file, and a bare `os.open` has no object: neither is found.
    """
    library = _other_library()
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, io.FileIO):
            if not thing.closed and thing.fileno() in descriptors:
                return f"{thing.name!r}, opened as a plain file"
        elif library is not None and issubclass(kind, library) and _is_on(thing, path):
            return "a connection of the standard library's sqlite3"
    return ""


def _other_library() -> Any:
    """Return the standard library's class of connections if that is not the driver's."""
    module = sys.modules.get("sqlite3")
    other = getattr(module, "Connection", None)
    return None if other is driver.Connection else other


def _is_on(connection: Any, path: Path) -> bool:
    try:
        listed = connection.cursor().execute("PRAGMA database_list").fetchall()
        return any(file and os.path.samefile(file, path) for _, _, file, *_ in map(tuple, listed))
    except Exception:  # noqa: BLE001 - closed, another thread's, or with a row factory of its own
        return False
