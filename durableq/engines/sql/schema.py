"""The revisions of the tables, and the kinds of databases that are found."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Every released revision, oldest first; this code works with the last.
REVISIONS: Final = tuple(f"{number:04}" for number in range(1, 17))
VERSION_TABLE: Final = "durableq_version"
#: As Alembic creates it.
CREATE_VERSION: Final = (
    f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, "
    f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
)
_DEAD_LETTER_VIEW: Final = """\
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, m.burial_reason AS reason,
       {died_at} AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body, m.burial_fingerprint AS fingerprint
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))"""


def dead_letter_view(died_at: str) -> str:
    """Return a view for people: the dead letters with their last failure.

    Args:
        died_at: an expression for the date of `m.enqueued_at_ms`.
    """
    return _DEAD_LETTER_VIEW.format(died_at=died_at)


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
    #: Only read it: it must be there and current, and the database refuses every write.
    READ = "read"
