"""`durableq status`: queues, rates, workers, recovery and storage at a glance."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from durableq.admin import limits
from durableq.admin.schedules import WAITS
from durableq.cli import output, rendering
from durableq.cli.breaker import PHASES
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.cli.schedule import STATES
from durableq.cli.screen import RED, YELLOW, Line, moves_cursor
from durableq.model.flow.breaker import Phase
from durableq.model.progress import Progress
from durableq.model.text import visible
from durableq.model.units import span
from durableq.store.core import Store

if TYPE_CHECKING:
    from durableq.admin.schedules import ScheduleView
    from durableq.admin.status import Overview, QueueView, WorkerView
    from durableq.recovery.circuit_breaker import BreakerState

#: Between the two samples of a single status: a rate needs two.
SAMPLE_SECONDS: Final = 0.2
#: Between the samples of --watch without --every.
EVERY_SECONDS: Final = 1.0
#: Messages of a worker that are named in its row, and the characters of their ids.
SHOWN, SHOWN_CHARS = 2, 20
#: Messages whose progress is shown, and the beginning of its text.
SHOWN_PROGRESS, TEXT_COLUMNS = 10, 30
#: A handler that has run this long has its start shown.
SLOW_MS: Final = 1000
#: Samples in a sparkline.
HISTORY: Final = 30
#: Begins the sentence about a queue whose messages no worker handles.
_NEGLECT: Final = "No running worker"


def status(
    session: Session,
    watch: bool = option("-w, --watch", "Refresh until Ctrl-C.", False),
    every: float | None = option(
        "--every SECONDS", "Interval of --watch.", None, min=0.1, max=3600, show_default="1"
    ),
) -> None:
    """Show queues, rates, workers, recovery and storage.

    DEAD counts the messages in the queue's dead-letter queue, HELD those of them that wait for a
    person. OLDEST is the longest wait of a ready message. IN/S and OUT/S are messages per second.
    A line for each queue with limits tells what they allow now. A terminal shows the columns from
    DUPLICATES on only where they are not all 0.
    Messages whose handlers report their progress have a table of their own.
    With --json and --watch each refresh is a line of JSON.

    Example: durableq status --watch
    """
    if every is not None and not watch:
        raise output.Misuse("--every is how often --watch looks: add --watch, or drop --every.")
    seconds = EVERY_SECONDS if every is None else every
    with session.opened(is_named=False) as store:
        if watch and session.as_json:
            for seen in _looks(store, seconds):
                output.json_line(document(session.address, seen))
        elif watch:
            _watch(store, session.address, seconds)
        else:
            *_, last = _looks(store, SAMPLE_SECONDS, 2)
            if session.as_json:
                output.document(document(session.address, last))
            else:
                _print(session.address, last, {})


def document(url: str, seen: Overview) -> dict[str, Any]:
    """Return an overview as JSON."""
    return {
        "database": url,
        "queues": [
            described | {"handled_by": seen.readers.of(described["name"])}
            for view in seen.queues
            for described in _queue_documents(view)
        ],
        "workers": [_worker_document(view) for view in seen.workers],
        "breakers": {
            name: {"phase": state.phase, "since_ms": state.since_ms, "trips": state.trips}
            for name, state in seen.breakers.items()
        },
        "schedules": [view.document() for view in seen.schedules],
        "idempotency": seen.keys._asdict(),
        "storage": seen.storage._asdict(),
        "progress": [one._asdict() for one in seen.progress],
    }


def _looks(store: Store, seconds: float, number: int = 0) -> Iterator[Overview]:
    """Yield an overview every `seconds`, `number` times; without end if that is 0."""
    from durableq.admin.status import look

    seen = look(store)
    yield seen
    while number != 1:
        time.sleep(seconds)
        seen = look(store, seen)
        yield seen
        number -= 1


def _watch(store: Store, address: str, every: float) -> None:
    """Show an overview every `every` seconds; on a terminal each replaces the last one."""
    flows: dict[str, deque[float]] = {}
    for seen in _looks(store, every):
        for view in seen.queues:
            if view.flow is not None:
                line = flows.setdefault(view.info.name, deque(maxlen=HISTORY))
                line.append(view.flow.out_per_second)
        if moves_cursor(sys.stdout):
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(address, seen, flows)
        if not moves_cursor(sys.stdout):
            output.line()


def _print(address: str, seen: Overview, flows: dict[str, deque[float]]) -> None:
    columns = dict(_QUEUES)
    if sys.stdout.isatty():  # a person looks: what never happened says nothing
        for name in _RARE:
            if not any(map(columns[name], seen.queues)):
                del columns[name]
    if flows:
        columns["OUT"] = lambda view: output.sparkline(flows.get(view.info.name, ()))
    output.rows(seen.queues, columns, _QUEUE_COLOURS, is_one_line=True)
    output.line()
    if seen.workers:
        output.rows(seen.workers, _WORKERS, _WORKER_COLOURS, is_one_line=True)
    else:
        output.line("No workers.")
    output.line()
    if seen.progress:
        output.rows(seen.progress[:SHOWN_PROGRESS], _PROGRESS, is_one_line=True)
        if (more := len(seen.progress) - SHOWN_PROGRESS) > 0:
            output.line(f"{more} more: durableq status --json")
        output.line()
    neglected = list(filter(None, (seen.readers.neglect(view.info) for view in seen.queues)))
    for sentence in neglected:
        output.line(Line(f"{sentence[0].upper()}{sentence[1:]}.", mark=_NEGLECT, colour=YELLOW))
    if neglected:
        output.line()
    output.lines(output.fields([*_facts_below(seen), ("database", address)]))


def _facts_below(seen: Overview) -> Iterator[tuple[str, str | Line]]:
    """Yield the facts that stand below the tables, by name."""
    for name, state in seen.breakers.items():
        yield f"breaker of {name}", _breaker(state)
    for view in seen.queues:
        if told := ", ".join(limits.words(view.info)):
            phase = view.info.limits.breaker or Phase.CLOSED
            mark = f"breaker: {phase.label}"
            yield f"limits of {view.info.name}", Line(told, mark=mark, colour=PHASES[phase])
    for planned in seen.schedules:
        yield f"schedule {planned.name}", _schedule(planned)
    yield "keys", f"{seen.keys.in_progress} in progress, {seen.keys.completed} completed"
    kept = seen.storage
    sizes = f"{output.mebibytes(kept.size_bytes)}, log {output.mebibytes(kept.log_bytes)}"
    if kept.index_bytes:
        indexes = output.mebibytes(kept.index_bytes)
        sizes = f"{output.mebibytes(kept.size_bytes)}, {indexes} of it indexes"
    yield "storage", f"{kept.engine} {kept.version}, {sizes}, synchronous {kept.durability}"


def _breaker(state: BreakerState) -> Line:
    """Return the state of a breaker of recovery in words."""
    trips = f", opened {state.trips} times in a row" if state.trips > 1 else ""
    since, phase = span(rendering.now_ms() - state.since_ms), state.phase
    begins = f"{phase.label} for {since}"
    return Line(f"{begins}{trips}", mark=begins, colour=PHASES[phase])


def _schedule(view: ScheduleView) -> Line:
    """Return the next slot of a schedule, and its state unless it only waits."""
    info, state = view.info, view.state
    told = [] if state == WAITS else [state]
    if info.next_ms is not None:
        told.append(f"next slot {rendering.moment(info.next_ms)}")
    if info.late_ms and state != WAITS:
        told.append(f"due for {span(info.late_ms)}")
    return Line(", ".join(told), mark=state, colour=STATES.get(state, ""))


def _oldest(view: QueueView) -> str:
    at_ms = view.info.oldest_ready_ms
    return "-" if at_ms is None else span(rendering.now_ms() - at_ms)


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.1f}"


_QUEUES: Final[dict[str, Callable[[QueueView], Any]]] = {
    "QUEUE": lambda v: f"{v.info.name} (paused)" if v.info.settings.paused else v.info.name,
    "READY": lambda v: v.info.counts.ready,
    "DELAYED": lambda v: v.info.counts.delayed,
    "IN_FLIGHT": lambda v: v.info.counts.in_flight,
    "DEAD": lambda v: v.dead_letters.present,
    "HELD": lambda v: v.dead_letters.held,
    "OLDEST": _oldest,
    "IN/S": lambda v: "-" if v.flow is None else _rate(v.flow.in_per_second),
    "OUT/S": lambda v: "-" if v.flow is None else _rate(v.flow.out_per_second),
    "SENT": lambda v: v.info.counters.sent,
    "COMPLETED": lambda v: v.counters.completed,
    "DUPLICATES": lambda v: v.counters.duplicates,
    "DISCARDED": lambda v: v.counters.discarded,
    "CANCELLED": lambda v: v.counters.cancelled,
    "EXPIRED": lambda v: v.counters.expired,
    "PURGED": lambda v: v.counters.purged,
}


#: Ends that a terminal shows only where there were some.
_RARE: Final = ("DUPLICATES", "DISCARDED", "CANCELLED", "EXPIRED", "PURGED")


def _holds(view: WorkerView) -> str:
    """Return at most SHOWN ids of a worker's messages, and the number of the others."""
    ids, number = view.holding, SHOWN
    while number > 1 and len(", ".join(ids[:number])) > SHOWN_CHARS:
        number -= 1
    more = f" +{len(ids) - number}" if len(ids) > number else ""
    return ", ".join(ids[:number]) + more if ids else "-"


def _since(view: WorkerView) -> str:
    """Return how long a slow handler has run."""
    info = view.info
    # As of the last beat: a quick handler has ended by now, a slow one still runs.
    slow = info.oldest_began_ms and info.beat_at_ms - info.oldest_began_ms >= SLOW_MS
    return span(rendering.now_ms() - info.oldest_began_ms) if view.holding and slow else "-"


_WORKERS: Final[dict[str, Callable[[WorkerView], Any]]] = {
    "WORKER": lambda v: v.info.name,
    "PID": lambda v: v.info.pid,
    "STATE": lambda v: v.state,
    "HOLDS": _holds,
    "SINCE": _since,
    "HANDLED": lambda v: v.info.handled,
    "FAILED": lambda v: v.info.failed,
    "RESTARTS": lambda v: v.info.restarts,
    "RSS": lambda v: "-" if v.usage is None else f"{v.usage.rss_bytes >> 20} MiB",
    "CPU": lambda v: "-" if v.cpu_percent is None else f"{v.cpu_percent:.1f} %",
    "STARTED": lambda v: rendering.moment_and_age(v.info.started_at_ms),
}


_PROGRESS: Final[dict[str, Callable[[Progress], Any]]] = {
    "MESSAGE": lambda p: p.message_id,
    "QUEUE": lambda p: p.queue,
    "PROGRESS": lambda p: f"{output.bar(p.fraction)} {p.percent:3} %",
    "REPORTED": lambda p: rendering.ago(p.at_ms),
    "TEXT": lambda p: visible(p.text, TEXT_COLUMNS),
}
_QUEUE_COLOURS: Final[dict[str, Callable[[QueueView], str]]] = {
    "QUEUE": lambda v: YELLOW if v.info.settings.paused else "",
    "DEAD": lambda v: RED if v.dead_letters.present else "",
    "HELD": lambda v: YELLOW if v.dead_letters.held else "",
}
#: A worker that is not alive has its liveness as state.
_STATES: Final = {"dead": RED, "unknown": YELLOW, "reload failed": RED}
_WORKER_COLOURS: Final[dict[str, Callable[[WorkerView], str]]] = {
    "STATE": lambda v: _STATES.get(v.state, ""),
}


def _queue_documents(view: QueueView) -> Iterator[dict[str, Any]]:
    """Yield a queue, and its private dead-letter queue."""
    flow = view.flow
    yield rendering.queue_document(view.info) | {
        "paused": bool(view.info.settings.paused),
        "dead": dataclasses.asdict(view.dead_letters) | {"present": view.dead_letters.present},
        "in_per_second": None if flow is None else round(flow.in_per_second, 3),
        "out_per_second": None if flow is None else round(flow.out_per_second, 3),
    }
    if view.has_private_dlq:
        yield rendering.queue_document(view.dead)


def _worker_document(view: WorkerView) -> dict[str, Any]:
    used = view.usage
    return dataclasses.asdict(view.info) | {
        "holder": view.info.owner_id,  # deprecated name of owner_id
        "in_hand": view.info.in_flight,  # deprecated name, until 0.3
        "state": view.state,
        "alive": view.is_alive,
        "holds": len(view.holding),
        "holding": list(view.holding),
        "rss_bytes": None if used is None else used.rss_bytes,
        "cpu_percent": None if view.cpu_percent is None else round(view.cpu_percent, 2),
    }
