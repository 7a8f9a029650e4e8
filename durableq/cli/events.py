"""`durableq events`: the history of all messages, and its new events."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from durableq.cli import output, rendering
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.cli.screen import RED, YELLOW, Line
from durableq.cli.times import since_ms
from durableq.model.arguments import listed
from durableq.model.info import HistoryFilter
from durableq.model.message import Event, HistoryEvent
from durableq.model.text import shown, visible
from durableq.runtime.outage import wait_out
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import Capability, Store

log = logging.getLogger("durableq.cli")

#: Events that are shown without --since and --limit.
LAST: Final = 100
#: Events that are read and printed at a time.
PAGE: Final = 500
#: Between two looks of --follow: a busy database is written all the time.
PAUSE_SECONDS: Final = 0.1
#: Longest wait of --follow without a look.
LOOK_SECONDS: Final = 60.0
#: Characters of a reason on a terminal.
WHY_COLUMNS: Final = 200
_KINDS: Final = {event.value: event for event in Event}
_COLOURS: Final = {
    Event.BURIED: RED,
    **dict.fromkeys((Event.FAILED, Event.UNAVAILABLE, Event.LEASE_EXPIRED, Event.BREAKER), YELLOW),
}
_KIND_COLUMNS: Final = max(map(len, _KINDS))


def events(
    session: Session,
    queue: list[str] | None = option(
        "--queue QUEUE", "Only this queue; may be repeated.", None, show_default="all queues"
    ),
    kind: list[str] | None = option(
        "--kind KIND",
        f"Only this kind: {', '.join(_KINDS)}. May be repeated.",
        None,
        show_default="all",
    ),
    since: str | None = option(
        "--since TIME", "Only events since 10m ago, or since 2027-01-31T09:00.", None
    ),
    limit: int | None = option(
        "--limit N",
        "The last N events.",
        None,
        min=1,
        max=100_000,
        show_default=f"{LAST}; with --since all",
    ),
    follow: bool = option("-f, --follow", "Go on until Ctrl-C.", False),
) -> None:
    """List the events of all messages, newest last.

    The history has failures, deaths, decisions and changes by hand; a message that succeeds at its
    first receive has no event. It is kept as long as its message, and then for the retention of the
    queue. An event in a dead-letter queue is of that queue: orders-dlq. With --json each event is a
    line of JSON.

    Example: durableq events --follow --queue orders --kind buried
    """
    if since is not None and limit is not None:
        raise output.Misuse(
            "--limit counts back from the newest event, --since does not: drop one."
        )
    wanted = HistoryFilter(tuple(queue or ()), [_kind(one) for one in kind or ()])
    from_ms = None if since is None else since_ms(since, "--since")
    with session.opened() as store:
        inspect = store.require(Capability.INSPECT)
        if from_ms is None:
            mark = inspect.mark_before(LAST if limit is None else limit, wanted)
        else:
            mark = inspect.mark_since(from_ms)
        printer = _Printer(store, wanted, mark, as_json=session.as_json)
        printer.print_all()
        if follow:
            _follow(store, printer)


def _kind(text: str) -> Event:
    """Return a kind of event by its name.

    Raises:
        Misuse: there is none of that name.
    """
    found = _KINDS.get(text)
    if found is None:
        raise output.Misuse(f"--kind is one of {listed(_KINDS)}, got {shown(text)}.")
    return found


class _Printer:
    """Prints events from a mark on.

    Args:
        store: has the history.
        wanted: which events.
        mark: before the first of them.
        as_json: whether each is a line of JSON.
    """

    def __init__(self, store: Store, wanted: HistoryFilter, mark: str, *, as_json: bool) -> None:
        self._inspect = store.require(Capability.INSPECT)
        self._wanted = wanted
        self._mark = mark
        self._as_json = as_json
        self._why_columns = WHY_COLUMNS if sys.stdout.isatty() else None

    def print_all(self) -> None:
        """Print all events after the mark, which moves on."""
        while True:
            page = self._inspect.events(self._mark, PAGE, self._wanted)
            if self._as_json:
                output.json_lines(map(rendering.event_document, page.events))
            else:
                output.lines(map(self._line, page.events))
            if page.mark == self._mark:
                return
            self._mark = page.mark

    def _line(self, event: HistoryEvent) -> Line:
        is_of_queue = event.message_id.startswith("-")
        of = f"queue {event.queue}" if is_of_queue else f"{event.message_id} of {event.queue}"
        why = visible(_why(event), self._why_columns)
        words = [f"{event.event:<{_KIND_COLUMNS}} {of}", f": {why}" if why else ""]
        by = f" [{event.actor}]" if event.actor else ""
        when, kind = rendering.moment(event.at_ms), event.event.value
        text = f"{when} {''.join(words)}{by}"
        return Line(text, len(when) + 1, kind, _COLOURS.get(event.event, ""))


def _why(event: HistoryEvent) -> str:
    """Return why an event happened; of a breaker, its new phase first."""
    phase, reason = event.detail.get("phase"), event.detail.get("reason")
    parts: Sequence[Any] = (phase, reason) if event.event is Event.BREAKER else ()
    return ": ".join(str(part) for part in parts if part) or rendering.event_words(event)


def _follow(store: Store, printer: _Printer) -> None:
    """Print events as they are written, until Ctrl-C or until nothing reads the output."""
    reader = _pipe()
    with closing(store.watch()) as watch:  # before the first look: no write is missed
        while True:
            wait_out(printer.print_all, log)
            time.sleep(PAUSE_SECONDS)
            watch.wait(LOOK_SECONDS, *reader)
            if reader and wait_readable(0, *reader):
                raise BrokenPipeError


class _Descriptor:
    """A file descriptor to wait for."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return it."""
        return self._number


def _pipe() -> list[_Descriptor]:
    """Return stdout if it is a pipe, whose end can be waited for."""
    try:
        number = sys.stdout.fileno()
        return [_Descriptor(number)] if stat.S_ISFIFO(os.fstat(number).st_mode) else []
    except (OSError, ValueError):
        return []
