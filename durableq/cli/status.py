"""`durableq status`: how everything stands, once or live."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, opened
from durableq.cli.rendering import moment_and_age, now_ms, queue_document
from durableq.client.app import DurableQ
from durableq.model.units import span
from durableq.store.core import Store

if TYPE_CHECKING:
    from durableq.admin.status import Overview, QueueView, WorkerView

#: Between the two looks of a single status: a rate needs two.
SAMPLE_SECONDS: Final = 0.2
#: Between the looks of --watch, if --every does not say.
EVERY_SECONDS: Final = 1.0
#: Messages of a worker that are named.
SHOWN: Final = 2
#: A handler that has run this long is worth saying since when.
SLOW_MS: Final = 1000
#: Looks that a sparkline shows.
HISTORY: Final = 30
_BARS: Final = "▁▂▃▄▅▆▇█"
_QUEUES: Final = (
    *("QUEUE", "READY", "DELAYED", "IN_FLIGHT", "DEAD", "HELD", "OLDEST", "IN/S", "OUT/S"),
    *("SENT", "COMPLETED", "DUPLICATES", "DISCARDED", "EXPIRED", "PURGED"),
)
_WORKERS: Final = (
    *("WORKER", "PID", "STATE", "HOLDS", "SINCE", "HANDLED", "FAILED", "RESTARTS"),
    *("RSS", "CPU", "STARTED"),
)

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")]
Every = Annotated[
    float | None,
    typer.Option(
        min=0.1, max=3600, metavar="SECONDS", help="With --watch: how often.  [default: 1]"
    ),
]


def status(watch: Watch = False, every: Every = None, db: Db = None, as_json: Json = False) -> None:
    """Show each queue, what is there and how fast it moves; the workers; recovery; the file.

    DEAD are the messages in the queue's dead-letter queue, HELD those of them that wait for a
    person; OLDEST is how long the longest-waiting ready message has waited; IN/S and OUT/S are
    messages a second just now. With --json and --watch each look is a line of JSON.

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
    """Return a look as JSON. Its names do not change."""
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


def sparkline(values: Sequence[float]) -> str:
    """Return values as bars of which the highest is full."""
    most = max(values, default=0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(8 * value / most), 7)] for value in values)


def _looks(store: Store, seconds: float, number: int = 0) -> Iterator[Overview]:
    """Look again and again, or so many times."""
    from durableq.admin.status import look

    seen = look(store)
    yield seen
    while number != 1:
        time.sleep(seconds)
        seen = look(store, seen)
        yield seen
        number -= 1


def _watch(store: Store, every: float) -> None:
    """Show looks on the whole terminal, each in place of the last; in a pipe one after another."""
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
            (*row, sparkline(flows.get(view.info.name, ())))
            for row, view in zip(rows, seen.queues, strict=True)
        ]
    output.table(columns, rows)
    output.line()
    if seen.workers:
        output.table(_WORKERS, [_worker_row(view) for view in seen.workers])
    else:
        output.line("No workers.")
    output.line()
    neglected = [seen.readers.neglect(view.info) for view in seen.queues]
    for sentence in filter(None, neglected):
        output.line(f"{sentence[0].upper()}{sentence[1:]}.")
    if any(neglected):
        output.line()
    output.fields(list(_rest(seen)))


def _rest(seen: Overview) -> Iterator[tuple[str, str]]:
    """Return what is no table, by name."""
    for name, state in seen.breakers.items():
        trips = f", opened {state.trips} times in a row" if state.trips > 1 else ""
        since = span(now_ms() - state.since_ms)
        yield f"breaker of {name}", f"{state.phase.replace('_', '-')} for {since}{trips}"
    yield "keys", f"{seen.keys.in_progress} in progress, {seen.keys.completed} completed"
    kept = seen.storage
    sizes = f"{_size(kept.size_bytes)}, log {_size(kept.log_bytes)}"
    yield "storage", f"{kept.engine} {kept.version}, {sizes}, synchronous {kept.durability}"


def _size(number: int) -> str:
    return f"{number / 1048576:.1f} MiB"


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
    # What it was at when it last told: something quick is another by now, something slow is not.
    slow = info.oldest_began_ms and info.beat_at_ms - info.oldest_began_ms >= SLOW_MS
    since = span(now_ms() - info.oldest_began_ms) if view.holding and slow else "-"
    return (
        *(info.name, info.pid, view.state, _some(view.holding), since),
        *(info.handled, info.failed, info.restarts),
        "-" if used is None else f"{used.rss_bytes >> 20} MiB",
        "-" if view.cpu_percent is None else f"{view.cpu_percent:.1f} %",
        moment_and_age(info.started_at_ms),
    )


def _some(ids: Sequence[str]) -> str:
    """Return which messages a worker holds, the first few by name."""
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
        "holder": view.info.owner_id,  # deprecated name of owner_id
        "state": view.state,
        "alive": view.is_alive,
        "holds": len(view.holding),
        "holding": list(view.holding),
        "rss_bytes": None if used is None else used.rss_bytes,
        "cpu_percent": None if view.cpu_percent is None else round(view.cpu_percent, 2),
    }
