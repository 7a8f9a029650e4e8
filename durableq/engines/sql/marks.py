"""Marks in the place of the revision of the tables, and the notes beside them."""

from __future__ import annotations

from typing import Any, Final

from durableq.engines.sql.schema import VERSION_TABLE
from durableq.model.errors import DatabaseMoved
from durableq.model.health import Finding, bad
from durableq.model.moving import NOTE, Mark, Note, refused

#: The marks, by the text that stands for the revision.
MARKS: Final = {mark.value: mark for mark in Mark}
VERSION: Final = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
_NOTE: Final = f"SELECT value FROM durableq_meta WHERE name = '{NOTE}'"  # noqa: S608


def find(raw: Any, here: Any = str) -> tuple[Mark | None, Note | None]:
    """Return the mark of a store and the note about its transfer.

    Args:
        raw: a connection of the driver.
        here: turns a text into one for the store's schema.
    """
    row = raw.execute(here(VERSION)).fetchone()
    mark = MARKS.get(row[0]) if row else None
    if mark is None:
        return None, None
    text = raw.execute(here(_NOTE)).fetchone()
    return mark, Note.from_json(text[0] if text else None)


def marked(raw: Any, place: str, here: Any = str) -> DatabaseMoved:
    """Return the refusal to use a store that had a mark just now; see `refusal`."""
    mark, note = find(raw, here)
    return refused(mark or Mark.MOVED, note, place)


def finding(name: str, raw: Any, place: str, here: Any = str) -> Finding:
    """Return the doctor's finding about a store with a mark; see `refusal`."""
    what, _, advice = str(marked(raw, place, here)).partition(". Nothing was written. ")
    return bad(name, what, advice)


def refusal(raw: Any, place: str, here: Any = str) -> DatabaseMoved | None:
    """Return the refusal to use a store with a mark; None if it has none.

    Args:
        raw: a connection of the driver.
        place: the address of the store, without its password.
        here: as for `find`.
    """
    mark, note = find(raw, here)
    return None if mark is None else refused(mark, note, place)
