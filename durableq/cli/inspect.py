"""`durableq status`, `peek`, `show` and `explain`: read-only views of queues and messages."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from durableq.admin import limits
from durableq.cli import output, rendering
from durableq.cli.help import option
from durableq.cli.options import After, Limit, MessageId, Queue, Session, chosen_queue
from durableq.model.arguments import listed
from durableq.model.errors import UnknownMessage
from durableq.model.info import ANYTHING, Search
from durableq.model.message import HistoryEvent, Message, State
from durableq.model.text import shown
from durableq.model.units import span
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from durableq.admin.status import Overview, QueueView, WorkerView

#: The names of the states of a message.
STATES_LISTED: Final = listed(state.label for state in State)
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
    A line for each queue with limits tells what they allow now.
    With --json and --watch each refresh is a line of JSON.

    Example: durableq status --watch
    """
    if every is not None and not watch:
        raise output.Misuse("--every is how often --watch looks: add --watch, or drop --every.")
    seconds = EVERY_SECONDS if every is None else every
    with session.opened() as store:
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


def peek(
    session: Session,
    queue: Queue = None,
    limit: Limit = 20,
    after: After = None,
    newest: bool = option("--newest", "The newest messages first.", False),
    state: str | None = option("--state STATE", f"Only messages that are {STATES_LISTED}.", None),
    key: str | None = option("--key KEY", "Only messages with this idempotency key.", None),
    text: str | None = option("--text TEXT", "Only messages with this in their JSON.", None),
) -> None:
    """List messages of a queue without receiving them.

    Messages of every state are listed in order of id. QUEUE may be a dead-letter queue. With
    --newest, --state, --key or --text the newest come first, and --after means those before ID. A
    search looks at a bounded number of messages, and says where to go on. TEXT is compared with
    the JSON as it is stored, without blanks between its parts; bytes are not searched.

    Example: durableq peek --queue orders --state delayed --text '"country":"NO"'
    """
    wanted = Search(None if state is None else _state(state), key, text)
    with session.opened() as store:
        inspect, name = store.require(Capability.INSPECT), chosen_queue(store, queue)
        if newest or wanted != ANYTHING:
            found, looked_to = inspect.search(name, limit, wanted, after)
        else:
            found, looked_to = inspect.peek(name, limit, after), None
    session.table(
        found,
        rendering.message_document,
        {
            "ID": lambda message: message.id,
            "STATE": lambda message: "held" if message.held else message.state.label,
            "PRIORITY": lambda message: message.priority,
            "RECEIVED": lambda message: message.receive_count,
            "SENT": lambda message: rendering.ago(message.sent_at_ms),
            "KEY": lambda message: message.key or "",
            "BODY": rendering.body_cell,
        },
    )
    if looked_to is not None:
        output.say(f"Looked down to message {looked_to}. Go on with --after {looked_to}.")


def _state(label: str) -> State:
    """Return a state by its name.

    Raises:
        Misuse: there is none of that name.
    """
    found = next((state for state in State if state.label == label), None)
    if found is None:
        raise output.Misuse(f"--state is one of {STATES_LISTED}, got {shown(label)}.")
    return found


def show(
    session: Session,
    message_id: MessageId,
    body: bool = option("--body", "Show the whole body, also a long one.", False),
    raw: bool = option("--raw", "Write the body alone, byte for byte.", False),
) -> None:
    """Show a message: body, state and history.

    A message that has ended is shown as long as its history is kept.

    Example: durableq show 17
    """
    if raw and (body or session.as_json):
        raise output.Misuse("--raw writes the body and nothing else: drop --body and --json.")
    with session.opened() as store:
        found = store.require(Capability.INSPECT).message(message_id)
        history = store.require(Capability.DEAD_LETTERS).history(message_id)
    if found is None and not history:
        raise UnknownMessage(message_id)
    if raw:
        if found is None:
            raise UnknownMessage(message_id)
        output.raw(found.body if isinstance(found.body, bytes) else str(found.body).encode())
        return
    if not session.as_json:
        print_message(message_id, found, history, whole_body=body)
        return
    known: dict[str, Any] = {"id": message_id, "state": "ended"}
    if found is not None:
        before = rendering.receives_before_death(found, history)
        known = rendering.message_document(found) | {"receives_before_death": before}
    output.document(known | {"history": [rendering.event_document(event) for event in history]})


def explain(session: Session, message_id: MessageId) -> None:
    """Explain why a message is not delivered right now.

    Possible reasons: it is delayed, in flight, dead, behind another message of its key, held back
    by a limit, or in a paused queue.

    Example: durableq explain 17
    """
    from durableq.admin.explain import explain as explained

    with session.opened() as store:
        answer = explained(store, message_id, rendering.now_ms())
    state = f"Message {answer.message_id}: {answer.state.replace('_', ' ')}."
    session.show(dataclasses.asdict(answer), state, *(f"  {text}" for text in answer.because))


# ---- one message


def print_message(
    message_id: str,
    found: Message | None,
    history: list[HistoryEvent],
    *,
    whole_body: bool = False,
) -> None:
    """Print a message and its history, and the traceback of its last failure."""
    if found is None:
        facts = [("state", rendering.ended_words(history))]
    else:
        shown = rendering.whole_body if whole_body else rendering.folded_body
        facts = [*_facts(found, history), ("body", shown(found))]
    output.lines(output.fields([("message", message_id), *facts]))
    if not history:
        return
    output.line()
    output.table(
        ("WHEN", "EVENT", "QUEUE", "BY", "WHY"),
        [
            (rendering.moment(e.at_ms), e.event, e.queue, e.actor, rendering.event_words(e))
            for e in history
        ],
    )
    trace = next((e.traceback for e in reversed(history) if e.traceback), "")
    if trace:
        output.line()
        # Indented, so that it cannot be mistaken for our output.
        output.lines(f"    {text}" for text in trace.splitlines())


def _facts(found: Message, history: Sequence[HistoryEvent]) -> list[tuple[str, str]]:
    before = rendering.receives_before_death(found, history)
    receives = str(found.receive_count)
    if before is not None:
        receives = f"{before} before it died, {found.receive_count} since"
    optional = {
        "key": found.key,
        "attributes": found.attributes,
        "priority": str(found.priority) if found.priority else None,
        "source queue": found.source_queue,
        "recoveries": str(found.recovery_count) if found.recovery_count else None,
    }
    return [
        ("state", rendering.state_words(found)),
        ("sent", rendering.moment_and_age(found.sent_at_ms)),
        ("receives", receives),
        *((name, value) for name, value in optional.items() if value is not None),
    ]


# ---- the status of the whole file


def document(url: str, seen: Overview) -> dict[str, Any]:
    """Return an overview as JSON."""
    return {
        "database": url,
        "queues": [
            described
            for view in seen.queues
            for described in (_queue_document(view), rendering.queue_document(view.dead))
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


def _watch(store: Store, address: str, every: float) -> None:
    """Show an overview every `every` seconds; on a terminal each replaces the last one."""
    flows: dict[str, deque[float]] = {}
    for seen in _looks(store, every):
        for view in seen.queues:
            if view.flow is not None:
                line = flows.setdefault(view.info.name, deque(maxlen=HISTORY))
                line.append(view.flow.out_per_second)
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(address, seen, flows)
        if not sys.stdout.isatty():
            output.line()


def _print(address: str, seen: Overview, flows: dict[str, deque[float]]) -> None:
    columns = dict(_QUEUES)
    if flows:
        columns["OUT"] = lambda view: output.sparkline(flows.get(view.info.name, ()))
    output.rows(seen.queues, columns)
    output.line()
    if seen.workers:
        output.rows(seen.workers, _WORKERS)
    else:
        output.line("No workers.")
    output.line()
    neglected = list(filter(None, (seen.readers.neglect(view.info) for view in seen.queues)))
    output.lines(f"{sentence[0].upper()}{sentence[1:]}." for sentence in neglected)
    if neglected:
        output.line()
    output.lines(output.fields([*_facts_below(seen), ("database", address)]))


def _facts_below(seen: Overview) -> Iterator[tuple[str, str]]:
    """Yield the facts that stand below the tables, by name."""
    for name, state in seen.breakers.items():
        trips = f", opened {state.trips} times in a row" if state.trips > 1 else ""
        since = span(rendering.now_ms() - state.since_ms)
        yield f"breaker of {name}", f"{state.phase.label} for {since}{trips}"
    for view in seen.queues:
        if told := ", ".join(limits.words(view.info)):
            yield f"limits of {view.info.name}", told
    yield "keys", f"{seen.keys.in_progress} in progress, {seen.keys.completed} completed"
    kept = seen.storage
    sizes = f"{output.mebibytes(kept.size_bytes)}, log {output.mebibytes(kept.log_bytes)}"
    if kept.index_bytes:
        indexes = output.mebibytes(kept.index_bytes)
        sizes = f"{output.mebibytes(kept.size_bytes)}, {indexes} of it indexes"
    yield "storage", f"{kept.engine} {kept.version}, {sizes}, synchronous {kept.durability}"


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
    "DEAD": lambda v: v.dead.counts.present,
    "HELD": lambda v: v.dead.counts.held,
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


def _holds(view: WorkerView) -> str:
    """Return at most SHOWN ids of a worker's messages, and the number of the others."""
    ids = view.holding
    more = f" +{len(ids) - SHOWN}" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more if ids else "-"


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


def _queue_document(view: QueueView) -> dict[str, Any]:
    flow = view.flow
    return rendering.queue_document(view.info) | {
        "paused": bool(view.info.settings.paused),
        "dead": dataclasses.asdict(view.dead.counts) | {"present": view.dead.counts.present},
        "in_per_second": None if flow is None else round(flow.in_per_second, 3),
        "out_per_second": None if flow is None else round(flow.out_per_second, 3),
    }


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
