"""The revisions of the tables, and the kinds of databases that are found."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Every released revision, oldest first; this code works with the last.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
VERSION_TABLE: Final = "durableq_version"


class SchemaState(Enum):
    """The kind of file that was found."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"
    #: The source or the target of a transfer; see model/moving.py.
    MARKED = "marked"
    NEEDS_NEWER_SQLITE = "needs_newer_sqlite"


class Purpose(Enum):
    """The purpose of opening a file."""

    #: Create it if it is missing; otherwise it must be current.
    USE = "use"
    #: Create it if it is missing, or upgrade it.
    MIGRATE = "migrate"
    #: As MIGRATE, and also put the tables beside an application's own.
    ADOPT = "adopt"
