"""Upkeep in short slices, by whoever comes by when it is due: no process of its own is needed.

Who tends is decided by a note in the file. Under the write lock lies a bounded amount of work:
not more rows are looked at than a window, not more are removed than the limit, not more pages
are moved than a few. Where in the tables the next window begins stands in the note.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, func, select

from durableq.engines.sql import redrive, upkeep
from durableq.engines.sql.statements import compiled, lived, parameter
from durableq.engines.sql.tables import history, is_state, message, queue
from durableq.engines.sql.write_transaction import WriteTransaction, ids_json
from durableq.engines.sqlite import checkpoints
from durableq.engines.sqlite.database import (
    DRIVER_TIMEOUT_SECONDS,
    JOURNAL_SIZE_LIMIT,
    Database,
    among,
)
from durableq.engines.sqlite.doctor_file import log_bytes
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.errors import translate
from durableq.engines.sqlite.schema import INCREMENTAL_VACUUM
from durableq.model.errors import Busy
from durableq.model.health import MaintenanceReport
from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
from durableq.model.message import State

#: Rows looked at in one slice.
WINDOW: Final = 2_000
#: Given back in one slice.
FREE_PAGES: Final = 64
#: Kept free: what comes next would only take them again.
SPARE_PAGES: Final = 1_000
NOTE: Final = "tending"

_q, _m, _h = queue.c, message.c, history.c
_rows = (
    select(_m.id, _m.queue_id, _m.state, _m.delayed_until_ms, _m.enqueued_at_ms)
    .where(_m.id > parameter("after"))
    .order_by(_m.id)
    .limit(parameter("window"))
    .subquery()
)
_events = (
    select(_h.id, _h.queue_id, _h.message_id, _h.at_ms)
    .where(_h.id > parameter("after"))
    .order_by(_h.id)
    .limit(parameter("window"))
    .subquery()
)
_ROWS = compiled(select(func.count(), func.max(_rows.c.id)))
_EVENTS = compiled(select(func.count(), func.max(_events.c.id)))
_OVERDUE = compiled(
    select(_rows.c.id, _rows.c.queue_id)
    .join(queue, _q.id == _rows.c.queue_id)
    .where(
        ~is_state(State.IN_FLIGHT, _rows.c.state),
        *lived(_rows.c.enqueued_at_ms, _rows.c.delayed_until_ms, _q.retention_ms),
    )
    .order_by(_rows.c.id)
    .limit(parameter("limit"))
)
_OLD_EVENTS = compiled(
    select(_events.c.id)
    .join(queue, _q.id == _events.c.queue_id)
    .where(
        _events.c.at_ms <= parameter("now_ms") - _q.retention_ms,
        ~select(_m.id).where(_m.id == _events.c.message_id).exists(),
    )
    .order_by(_events.c.id)
    .limit(parameter("limit"))
)
_DROP_EVENTS = compiled(delete(history).where(among(_h.id, "ids")))


class _Note(NamedTuple):
    """When the next slice is due, and after which rows it begins."""

    due_ms: int = 0
    message_id: int = 0
    event_id: int = 0

    def is_due(self, now_ms: int) -> bool:
        """Return whether it is time; a date too far ahead is of a clock that was set back."""
        return not now_ms < self.due_ms <= now_ms + MAINTENANCE_EVERY_MS


def maintain(
    database: Database, begin: Callable[[Any], WriteTransaction], now_ms: int, limit: int
) -> MaintenanceReport:
    """Do one slice if it is due and nobody else does; see Store.tend."""
    with database.read() as raw:
        seen = upkeep.get_metadata(raw, NOTE)
    tended = MaintenanceReport()
    if not _read(seen).is_due(now_ms):
        return tended
    with suppress(Busy), database.write(patient=False) as raw:
        if upkeep.get_metadata(raw, NOTE) == seen:  # else another process was quicker
            tx = begin(raw)
            tended, note = _slice(tx, _read(seen), limit)
            upkeep.compare_and_set(tx, NOTE, json.dumps(note), expected=seen)
            tx.write_counters()
    if tended.due:
        _checkpoint(database)
    return tended


def _read(text: str | None) -> _Note:
    return _Note(*json.loads(text)) if text else _Note()


def _slice(tx: WriteTransaction, note: _Note, limit: int) -> tuple[MaintenanceReport, _Note]:
    """Remove what time has ended and give back some room; return also what to note."""
    raw, now_ms = tx.raw, tx.now_ms
    at = {"after": note.message_id, "window": WINDOW}
    rows = _ROWS(raw, **at).fetchone()
    overdue = _OVERDUE(raw, now_ms=now_ms, limit=limit, **at).fetchall()
    upkeep.expire(tx, overdue)
    records = upkeep.prune_records(tx, limit)
    at["after"] = note.event_id
    events = _EVENTS(raw, **at).fetchone()
    old = [row[0] for row in _OLD_EVENTS(raw, now_ms=now_ms, limit=limit, **at).fetchall()]
    if old:
        _DROP_EVENTS(raw, ids=ids_json(old))
        redrive.clamp(tx)
    freed = _free(raw)
    message_id = _next(rows, [row[0] for row in overdue], limit)
    event_id = _next(events, old, limit)
    more = (
        (bool(overdue) and message_id > 0)
        or (bool(old) and event_id > 0)
        or records == limit
        or freed > 0
    )
    due_ms = now_ms + (MAINTENANCE_AGAIN_MS if more else MAINTENANCE_EVERY_MS)
    tended = MaintenanceReport(True, len(overdue), records, len(old), freed)
    return tended, _Note(due_ms, message_id, event_id)


def _next(window: tuple[int, int], removed: list[int], limit: int) -> int:
    """Return after which row the next window begins: 0, the first one, if this was the last."""
    number, last = window
    if len(removed) == limit:
        return removed[-1]
    return last if number == WINDOW else 0


def _free(raw: Any) -> int:
    """Give a few pages back to the file system, if many are free; return their bytes."""
    free, pages, size, vacuum = (
        raw.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("freelist_count", "page_count", "page_size", "auto_vacuum")
    )
    if vacuum != INCREMENTAL_VACUUM or free - FREE_PAGES < max(SPARE_PAGES, pages // 4):
        return 0
    for _ in range(FREE_PAGES):  # one each: not every driver steps this pragma to its end
        raw.execute("PRAGMA incremental_vacuum(1)").fetchall()
    left: int = raw.execute("PRAGMA freelist_count").fetchone()[0]
    freed: int = (free - left) * size
    return freed


def _checkpoint(database: Database) -> None:
    """Bring the log into the file; cut the log itself only if it is large and nobody reads it."""
    raw = database.session().raw
    try:
        if checkpoints.IS_GUARDED:
            database.checkpointer.run(raw)
            return
        _, frames, copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames == copied and log_bytes(database.location) > JOURNAL_SIZE_LIMIT:
            raw.execute("PRAGMA busy_timeout = 0")
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout = {DRIVER_TIMEOUT_SECONDS * 1000:.0f}")
    except driver.Error as error:
        meaning = translate(error, database.location.path)
        if not isinstance(meaning, Busy):
            raise meaning or error from error
