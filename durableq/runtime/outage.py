"""Transient conditions of the file: a process waits for their end and continues."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from durableq.model.errors import (
    PASSING,
    Busy,
    DatabaseUnreachable,
    DurableQError,
    OutcomeUnknown,
    StorageFull,
)
from durableq.runtime import logs
from durableq.runtime.wakeup import WakeupEvent

T = TypeVar("T")

#: The sentences that tell a caller what to do follow one of these.
_ADVICE: Final = re.compile(r"[.:] (?=Nothing |Repeat |Try |the write may)")

#: Pause before a call that met a transient condition is repeated.
PAUSE_SECONDS: Final = 1.0
#: How often a condition that lasts is logged again.
REPEAT_SECONDS: Final = 60.0
#: Exit code of a worker that could not start for a transient condition: EX_TEMPFAIL.
TEMPORARY: Final = 75
#: Exit code of a worker whose database was migrated to another revision while it was open.
MIGRATED: Final = 76
#: Exit code of a worker whose database was moved to another address.
MOVED: Final = 77


def cause_of(error: BaseException | None) -> DurableQError | None:
    """Return the transient condition that led to an error, or None.

    An application may use the file while it is imported: then the condition is the cause of an
    AppError.
    """
    while error is not None:
        if isinstance(error, PASSING):
            return error
        error = error.__cause__
    return None


def describe(error: BaseException) -> str:
    """Return an error as a phrase for a log, without advice to try again: the process does that."""
    if isinstance(error, StorageFull):
        return "the disk of the database is full"
    if isinstance(error, DatabaseUnreachable):
        return _without_advice(error)
    if isinstance(error, Busy):
        return "the database is busy: another process is writing"
    if isinstance(error, OutcomeUnknown):
        return f"a commit failed ({_without_advice(error.__cause__ or error)})"
    return _text(error)


def _without_advice(error: BaseException) -> str:
    return _ADVICE.split(_text(error), maxsplit=1)[0].rstrip(".")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a handler may raise a Busy of its own making
        return type(error).__name__


class Outage:
    """Logs a transient condition: its beginning, then once a minute, and its end.

    Args:
        emit: called with an event, as one word, and a sentence.
    """

    def __init__(self, emit: Callable[[str, str], None]) -> None:
        self._emit = emit
        self._since: float | None = None
        self._emit_at = 0.0

    def report(self, error: DurableQError, event: str = "busy", what: str = "") -> None:
        """Log the condition, unless that was done in the last minute.

        Args:
            error: one of PASSING.
            event: word for the log.
            what: the postponed work, if it is not all of it.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = self._emit_at = now
        if now < self._emit_at:
            return
        self._emit_at = now + REPEAT_SECONDS
        lasting = f" for {now - self._since:.0f} s" if now > self._since else ""
        about = f"{what}: " if what else ""
        text = f"{about}{describe(error)}; waiting{lasting}, and going on when that has passed"
        self._emit(event, text)

    def end(self) -> None:
        """Log the end of the condition, if there was one."""
        if self._since is None:
            return
        seconds = time.monotonic() - self._since
        self._since = None
        self._emit("busy_over", f"the database can be used again, after {seconds:.0f} s")


def logged(log: logging.Logger) -> Callable[[str, str], None]:
    """Return a function that logs an event and its sentence as a warning."""

    def emit(event: str, text: str) -> None:
        log.warning("%s", text, extra=logs.facts(event))

    return emit


def persist(call: Callable[[], T], stopping: WakeupEvent, outage: Outage) -> T | None:
    """Repeat a call until no transient condition prevents it; return None if asked to stop.

    Raises:
        DurableQError: any error without a transient cause.
    """
    return _repeated(call, outage, stopping.wait)


def wait_out(call: Callable[[], T], log: logging.Logger) -> T:
    """Repeat a call until no transient condition prevents it; only a signal ends the wait.

    Raises:
        DurableQError: any error without a transient cause.
    """
    return _repeated(call, Outage(logged(log)), time.sleep)


def _repeated(
    call: Callable[[], T], outage: Outage, wait: Callable[[float], bool | None]
) -> T | Any:
    """Repeat a call, with pauses; return None if `wait` returns True.

    Raises:
        DurableQError: any error without a transient cause.
    """
    while True:
        try:
            result = call()
        except DurableQError as error:
            cause = cause_of(error)
            if cause is None:
                raise
            outage.report(cause)
            if wait(PAUSE_SECONDS):
                return None
        else:
            outage.end()
            return result
