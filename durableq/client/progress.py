"""The reports of handlers, on their way to the store.

A handler never waits for the store, nor does its event loop: it leaves its newest report, and a
thread writes those of all messages together, at most once a second. The thread ends when none has
come for a second, so a process whose handlers report nothing has none.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from durableq.model.errors import PASSING, StaleReceipt
from durableq.model.message import Outcome
from durableq.model.progress import ProgressReport
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import describe
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from durableq.client.delivery import Delivery

log = logging.getLogger("durableq.client")

#: The time between two writes of one process.
EVERY_SECONDS: Final = 1.0


class ProgressWriter:
    """Writes the newest report of each message to a store. Thread-safe."""

    def __init__(self, opened: Store) -> None:
        self._store = opened
        #: The reports that are not written yet.
        self._waiting: dict[Delivery, ProgressReport] = {}
        self._next_at = 0.0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def report(self, delivery: Delivery, report: ProgressReport) -> None:
        """Keep a report to be written, in place of an older one of its message."""
        with self._changed:
            self._waiting[delivery] = report
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while reports := self._take():
            try:
                self._write(reports)
            except PASSING as error:
                self._put_back(reports)
                text = "progress is stored later: %s"
                log.debug(text, describe(error), extra=logs.facts("unreported"))
            except Exception as error:  # noqa: BLE001 - no handler depends on its progress
                text = "progress is not stored: %s"
                log.warning(text, visible(str(error), 200), extra=logs.facts("unreported"))

    def _take(self) -> dict[Delivery, ProgressReport]:
        """Wait until the next write, and take its reports; none: the thread ends."""
        with self._changed:
            while not self._is_closing and (left := self._next_at - time.monotonic()) > 0:
                self._changed.wait(left)
            taken, self._waiting = self._waiting, {}
            reports = {
                delivery: report
                for delivery, report in taken.items()
                if not (delivery.settled or delivery.lost)
            }
            if not reports:
                self._thread = None
            self._next_at = time.monotonic() + EVERY_SECONDS
            return reports

    def _write(self, reports: dict[Delivery, ProgressReport]) -> None:
        """Write reports. A lease that has ended refuses its own, which is what shall happen."""
        self._store.require(Capability.PROGRESS).report_progress([*reports.values()])

    def _put_back(self, reports: dict[Delivery, ProgressReport]) -> None:
        """Let reports wait again, except for those that newer ones have replaced."""
        with self._changed:
            if not self._is_closing:  # the next process that has the message reports anew
                self._waiting = {**reports, **self._waiting}


_writers: Final[WeakKeyDictionary[Store, ProgressWriter]] = WeakKeyDictionary()
_lock = threading.Lock()


def report(opened: Store, delivery: Delivery, report: ProgressReport) -> None:
    """Hand the report of a delivery to the writer of its store.

    Raises:
        StaleReceipt: the delivery is settled, or its lease is known to be lost.
        Unsupported: the engine keeps no progress.
    """
    if delivery.settled or delivery.lost:
        why = Outcome.GONE.why if delivery.settled else Outcome.STALE.why
        raise StaleReceipt(delivery.id, why)
    opened.require(Capability.PROGRESS)
    with _lock:
        writer = _writers.get(opened)
        if writer is None:
            writer = _writers[opened] = ProgressWriter(opened)
    writer.report(delivery, report)


def close(opened: Store) -> None:
    """Write the reports that wait for a store, before it is closed."""
    with _lock:
        writer = _writers.pop(opened, None)
    if writer is not None:
        writer.close()


def _after_fork() -> None:
    """Let a child have writers of its own: threads, and locks that they hold, stay behind."""
    global _lock  # noqa: PLW0603 - it may be held for ever
    _lock = threading.Lock()
    _writers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
