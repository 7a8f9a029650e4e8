"""`durableq status`: queues, rates, workers, recovery and storage, once or live."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from durableq.cli import output, tables
from durableq.cli.help import option
from durableq.cli.options import Db, Json, opened
from durableq.cli.rendering import moment_and_age, now_ms, queue_document
from durableq.client.app import DurableQ
from durableq.model.units import span
from durableq.store.core import Store

if TYPE_CHECKING:
    from durableq.admin.status import Overview, QueueView, WorkerView

#: Between the two samples of a single status: a rate needs two.
SAMPLE_SECONDS: Final = 0.2
#: Between the samples of --watch without --every.
EVERY_SECONDS: Final = 1.0
#: Messages of a worker that are named in its row.
SHOWN: Final = 2
#: A handler that has run this long has its start shown.
SLOW_MS: Final = 1000
#: Samples in a sparkline.
HISTORY: Final = 30
_QUEUES: Final = (
    *("QUEUE", "READY", "DELAYED", "IN_FLIGHT", "DEAD", "HELD", "OLDEST", "IN/S", "OUT/S"),
    *("SENT", "COMPLETED", "DUPLICATES", "DISCARDED", "EXPIRED", "PURGED"),
)
_WORKERS: Final = (
    *("WORKER", "PID", "STATE", "HOLDS", "SINCE", "HANDLED", "FAILED", "RESTARTS"),
    *("RSS", "CPU", "STARTED"),
)

Watch = Annotated[bool, option("--watch", "-w", help="Refresh until Ctrl-C.")]
Every = Annotated[
    float | None,
    option(
        placeholder="SECONDS",
        min=0.1,
        max=3600,
        show_default="1",
        help="Interval of --watch.",
    ),
]


def status(watch: Watch = False, every: Every = None, db: Db = None, as_json: Json = False) -> None:
    """Show queues, rates, workers, recovery and storage.

    DEAD counts the messages in the queue's dead-letter queue, HELD those of them that wait for a
    person. OLDEST is the longest wait of a ready message. IN/S and OUT/S are messages per second.
    With --json and --watch each refresh is a line of JSON.

    Example: durableq status --watch
    """
    if every is not None and not watch:
        raise output.Misuse("--every is how often --watch looks: add --watch, or drop --every.")
    seconds = EVERY_SECONDS if every is None else every
    with opened(db) as store:
        url = DurableQ(db).url
        if not watch:
            *_, last = _looks(store, SAMPLE_SECONDS, 2)
            if as_json:
                output.document(document(url, last))
            else:
                _print(last, {})
            return
        if as_json:
            for seen in _looks(store, seconds):
                output.json_line(document(url, seen))
            return
        _watch(store, seconds)


COMMANDS: Final = (status,)


def document(url: str, seen: Overview) -> dict[str, Any]:
    """Return an overview as JSON. Its names are stable."""
    return {
        "database": url,
        "queues": [
            described
            for view in seen.queues
            for described in (_queue_document(view), queue_document(view.dead))
            for described in [described | {"handled_by": seen.readers.of(described["name"])}]
        ],
        "workers": [_worker_document(view) for view in seen.workers],
        "breakers": {
            name: {"phase": state.phase, "since_ms": state.since_ms, "trips": state.trips}
            for name, state in seen.breakers.items()
        },
        "idempotency": seen.keys._asdict(),
        "storage": seen.storage._asdict(),
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


def _watch(store: Store, every: float) -> None:
    """Show an overview every `every` seconds; on a terminal each replaces the last one."""
    flows: dict[str, deque[float]] = {}
    for seen in _looks(store, every):
        for view in seen.queues:
            if view.flow is not None:
                line = flows.setdefault(view.info.name, deque(maxlen=HISTORY))
                line.append(view.flow.out_per_second)
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(seen, flows)
        if not sys.stdout.isatty():
            output.line()


def _print(seen: Overview, flows: dict[str, deque[float]]) -> None:
    columns = (*_QUEUES, "OUT") if flows else _QUEUES
    rows = [_queue_row(view) for view in seen.queues]
    if flows:
        rows = [
            (*row, tables.sparkline(flows.get(view.info.name, ())))
            for row, view in zip(rows, seen.queues, strict=True)
        ]
    tables.table(columns, rows)
    output.line()
    if seen.workers:
        tables.table(_WORKERS, [_worker_row(view) for view in seen.workers])
    else:
        output.line("No workers.")
    output.line()
    neglected = [seen.readers.neglect(view.info) for view in seen.queues]
    for sentence in filter(None, neglected):
        output.line(f"{sentence[0].upper()}{sentence[1:]}.")
    if any(neglected):
        output.line()
    tables.fields(list(_rest(seen)))


def _rest(seen: Overview) -> Iterator[tuple[str, str]]:
    """Yield the facts that stand below the tables, by name."""
    for name, state in seen.breakers.items():
        trips = f", opened {state.trips} times in a row" if state.trips > 1 else ""
        since = span(now_ms() - state.since_ms)
        yield f"breaker of {name}", f"{state.phase.replace('_', '-')} for {since}{trips}"
    yield "keys", f"{seen.keys.in_progress} in progress, {seen.keys.completed} completed"
    kept = seen.storage
    sizes = f"{tables.mebibytes(kept.size_bytes)}, log {tables.mebibytes(kept.log_bytes)}"
    yield "storage", f"{kept.engine} {kept.version}, {sizes}, synchronous {kept.durability}"


def _queue_row(view: QueueView) -> tuple[Any, ...]:
    info, dead = view.info, view.dead
    counts, counters = info.counts, view.counters
    oldest = "-" if info.oldest_ready_ms is None else span(now_ms() - info.oldest_ready_ms)
    name = f"{info.name} (paused)" if info.settings.paused else info.name
    flow = view.flow
    rates = ("-", "-") if flow is None else (_rate(flow.in_per_second), _rate(flow.out_per_second))
    return (
        *(name, counts.ready, counts.delayed, counts.in_flight),
        *(dead.counts.present, dead.counts.held, oldest, *rates),
        *(info.counters.sent, counters.completed, counters.duplicates),
        *(counters.discarded, counters.expired, counters.purged),
    )


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _worker_row(view: WorkerView) -> tuple[Any, ...]:
    info, used = view.info, view.usage
    # As of the last beat: a quick handler has ended by now, a slow one still runs.
    slow = info.oldest_began_ms and info.beat_at_ms - info.oldest_began_ms >= SLOW_MS
    since = span(now_ms() - info.oldest_began_ms) if view.holding and slow else "-"
    return (
        *(info.name, info.pid, view.state, _ids(view.holding), since),
        *(info.handled, info.failed, info.restarts),
        "-" if used is None else f"{used.rss_bytes >> 20} MiB",
        "-" if view.cpu_percent is None else f"{view.cpu_percent:.1f} %",
        moment_and_age(info.started_at_ms),
    )


def _ids(ids: Sequence[str]) -> str:
    """Return at most SHOWN ids of a worker's messages, and the number of the others."""
    more = f" +{len(ids) - SHOWN}" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more if ids else "-"


def _queue_document(view: QueueView) -> dict[str, Any]:
    flow = view.flow
    return queue_document(view.info) | {
        "paused": bool(view.info.settings.paused),
        "dead": dataclasses.asdict(view.dead.counts) | {"present": view.dead.counts.present},
        "in_per_second": None if flow is None else round(flow.in_per_second, 3),
        "out_per_second": None if flow is None else round(flow.out_per_second, 3),
    }


def _worker_document(view: WorkerView) -> dict[str, Any]:
    used = view.usage
    return dataclasses.asdict(view.info) | {
        "in_hand": view.info.in_flight,  # deprecated name, until 0.3
        "holder": view.info.owner_id,  # deprecated name of owner_id
        "state": view.state,
        "alive": view.is_alive,
        "holds": len(view.holding),
        "holding": list(view.holding),
        "rss_bytes": None if used is None else used.rss_bytes,
        "cpu_percent": None if view.cpu_percent is None else round(view.cpu_percent, 2),
    }
