"""The values of `once`, in order of key, and one of them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from durableq.cli import once
from durableq.dashboard.pages import body
from durableq.dashboard.visit import Visit
from durableq.model.once import OnceEntry
from durableq.store.core import Capability

#: Values in a page.
PAGE: Final = 50


class Row(NamedTuple):
    """A value in the table."""

    entry: OnceEntry
    #: fresh, stale, or none before the first value.
    state: str
    computed_by: str
    #: The address of its own page.
    address: str


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page; with `?key=` those of one entry."""
    store, key = visit.store.require(Capability.ONCE), visit.query("key")
    if key:
        entry = store.once_entry(visit.key())
        tree = None if entry is None or entry.value is None else body.tree(entry.value)
        row = None if entry is None else _row(entry)
        forget = "/values/forget?" + urlencode({"key": key})
        return {"key": key, "row": row, "tree": tree, "forget_address": forget}
    after = visit.key("after") if visit.query("after") else None
    entries = store.once_entries(PAGE + 1, after)
    rows = [_row(entry) for entry in entries[:PAGE]]
    further = ""
    if len(entries) > PAGE:
        further = "/values?" + urlencode({"after": rows[-1].entry.key})
    return {"key": "", "rows": rows, "next_address": further}


def _row(entry: OnceEntry) -> Row:
    address = "/values?" + urlencode({"key": entry.key})
    return Row(entry, once.state_of(entry), once.computed_by(entry), address)
