"""Incremental maintenance: any worker runs a short slice when it is due.

A note in the table of metadata decides which process runs it, and says at which row the next slice
begins. The write lock is held for a bounded amount of work: a slice reads WINDOW rows of a table,
removes at most `limit` of them, and gives back a few pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from durableq.engines.sql import (
    breaker,
    endpoint,
    items,
    once,
    orphans,
    progress,
    redrive,
    regrouping,
    samples,
)
from durableq.engines.sql.expiring import expire_messages
from durableq.engines.sql.leaving import left
from durableq.engines.sql.metadata import compare_and_set, get_metadata
from durableq.engines.sql.ranking import rank_slice
from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.errors import Busy
from durableq.model.health import Finding, MaintenanceReport
from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
from durableq.model.message import Event, Reason
from durableq.store.capabilities import Maintenance
from durableq.store.core import Pruned

#: Rows of a table that one slice reads.
WINDOW: Final = 2_000
#: Name of the note; files of release 0.1 have it.
NOTE: Final = "tending"


class _Note(NamedTuple):
    """The time of the next slice, and the rows after which it begins."""

    due_ms: int = 0
    message_id: int = 0
    event_id: int = 0
    #: Queue and message of a record of a failure.
    failed_in: int = 0
    failed_id: int = 0
    #: The time of the last samples.
    sampled_ms: int = 0

    def is_due(self, now_ms: int) -> bool:
        """Return whether the slice is due; a time far ahead is from before a clock was set back."""
        return not now_ms < self.due_ms <= now_ms + MAINTENANCE_EVERY_MS


class SQLMaintenance(Operations, Maintenance):
    """The capability of maintenance, in SQL."""

    def prune(self, limit: int = 1000) -> Pruned:
        """Remove expired messages, records and history."""
        with self._database.write() as tx:
            overdue = tx.run(tx.sql.ALL_OVERDUE, now_ms=tx.now_ms, limit=limit).fetchall()
            expired = _expire(tx, overdue) + expire_messages(tx, limit)
            records = _prune_records(tx, limit)
            events = tx.run(tx.sql.PRUNE_HISTORY, now_ms=tx.now_ms, limit=limit).rowcount
            redrive.clamp(tx)
            values, old_items = once.prune(tx, limit), items.prune(tx, limit)
            idle_groups, reports = regrouping.prune(tx, limit), progress.prune(tx, limit)
            others = idle_groups + reports + endpoint.prune(tx, limit)
            return Pruned(expired, records, events, values, old_items, others)

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Run one short slice if it is due and no other process runs one."""
        with self._database.read() as tx:
            seen = get_metadata(tx, NOTE)
            note = _read(seen)
            if not note.is_due(tx.now_ms):
                return MaintenanceReport()
            taken = samples.take(tx, note.sampled_ms)
        report = MaintenanceReport()
        with suppress(Busy), self._database.write(patient=False) as write:
            if get_metadata(write, NOTE) == seen:  # otherwise another process was first
                report, note = _slice(write, note, limit, self._free_space)
                samples.keep(write, taken)
                note = note._replace(sampled_ms=taken.at_ms)
                compare_and_set(write, NOTE, json.dumps(note), expected=seen)
        if report.due:
            self._after_slice()
        return report

    def orphans(self) -> list[Finding]:
        """Return the rows that belong to no other row."""
        with self._database.read() as tx:
            return orphans.find(tx)

    def _free_space(self, tx: Transaction) -> int:
        """Give unused space back, a bounded amount; return the number of bytes."""
        raise NotImplementedError

    def _after_slice(self) -> None:
        """Do the engine's own part of a slice, outside its transaction."""
        raise NotImplementedError


def _expire(tx: WriteTransaction, overdue: Sequence[tuple[int, int]]) -> int:
    """End waiting messages, given by id and queue, past their retention; return the number."""
    if not overdue:
        return 0
    ended = left(tx, tx.run(tx.sql.END_WAITING, ids=tx.list_of([row[0] for row in overdue])))
    for message_id, queue_id in overdue:
        if message_id in ended:
            tx.count(queue_id, tx.sql.EXPIRED)
            tx.record(message_id, queue_id, Event.EXPIRED, reason=Reason.EXPIRED)
    return len(ended)


def _prune_records(tx: WriteTransaction, limit: int) -> int:
    """Remove at most `limit` expired records, of keys and of sends; return the number."""
    removed: int = tx.run(tx.sql.PRUNE_KEYS, now_ms=tx.now_ms, limit=limit).rowcount
    left_over = limit - removed
    ids: int = tx.run(tx.sql.PRUNE_DEDUPLICATION, now_ms=tx.now_ms, limit=left_over).rowcount
    return removed + ids


def _read(text: str | None) -> _Note:
    return _Note(*json.loads(text)) if text else _Note()


def _slice(
    tx: WriteTransaction, note: _Note, limit: int, free_pages: Callable[[Transaction], int]
) -> tuple[MaintenanceReport, _Note]:
    """Remove a bounded number of expired rows; return the report and the next note."""
    now_ms = tx.now_ms
    at = {"after": note.message_id, "window": WINDOW}
    rows = tx.run(tx.sql.MESSAGE_WINDOW, **at).fetchone()
    overdue = tx.run(tx.sql.OVERDUE, now_ms=now_ms, limit=limit, **at).fetchall()
    expired = _expire(tx, overdue)
    too_late = expire_messages(tx, limit)
    records, values = _prune_records(tx, limit), once.prune(tx, limit)
    idle_groups, reports = regrouping.prune(tx, limit), progress.prune(tx, limit)
    old_items, of_sqs = items.prune(tx, limit), endpoint.prune(tx, limit)
    at["after"] = note.event_id
    events = tx.run(tx.sql.EVENT_WINDOW, **at).fetchone()
    old = [row[0] for row in tx.run(tx.sql.OLD_EVENTS, now_ms=now_ms, limit=limit, **at).fetchall()]
    if old:
        tx.run(tx.sql.DROP_EVENTS, ids=tx.list_of(old))
        redrive.clamp(tx)
    failed = breaker.prune_failures(tx, (note.failed_in, note.failed_id), WINDOW, limit)
    is_ranked, freed = not rank_slice(tx, WINDOW), free_pages(tx)
    message_id = _next(rows, [row[0] for row in overdue], limit)
    event_id = _next(events, old, limit)
    more = (
        (bool(overdue) and message_id > 0)
        or (bool(old) and event_id > 0)
        or limit in (too_late, records, values, idle_groups, reports, old_items, of_sqs)
        or freed > 0
        or not is_ranked
    )
    due_ms = now_ms + (MAINTENANCE_AGAIN_MS if more else MAINTENANCE_EVERY_MS)
    counts = (expired + too_late, records, len(old), freed, values, old_items)
    report = MaintenanceReport(True, *counts)
    return report, _Note(due_ms, message_id, event_id, *failed)


def _next(window: tuple[int, int], removed: list[int], limit: int) -> int:
    """Return the row after which the next window begins; 0, the first one, after the last."""
    number, last = window
    if len(removed) == limit:
        return removed[-1]
    return last if number == WINDOW else 0
