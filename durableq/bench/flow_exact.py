"""How exactly limits hold, measured with several processes on one file.

The figures are numbers of messages, shares and times, each beside the limit that it may not pass.
The tests hold the same limits under more conditions; these figures are of the machine at hand.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any, Final, NamedTuple

from durableq.admin.operations import audit
from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme, percentile
from durableq.bench.piped import PipedProcess
from durableq.client.app import DurableQ
from durableq.demo import reading
from durableq.model.health import Level

RATE, BURST, SECONDS = 100, 10, 30
CAP, KILLS = 8, 1_000
#: Short, as the place of a killed holder returns with its lease.
LEASE_SECONDS = 0.25
BACKLOG, PRODUCERS = 1_000, 16
SENDERS, REPLACED = 50, 1_000
COMPUTE_SECONDS: Final = 1.0
NOISY, QUIET = 5_000, 50
#: The ends of leases, all of one length: a process may see a receive later than it was.
_LEASES: Final = "SELECT lease_until_ms FROM durableq_message WHERE state = 1 ORDER BY 1"


class Measured(NamedTuple):
    """A figure, and others beside it."""

    value: float
    details: Mapping[str, float]


class Crew:
    """Processes on one file, which start their work together.

    Args:
        path: of the file.
        url: the same, with options.
    """

    def __init__(self, path: str, url: str) -> None:
        self.path: Final = path
        self._url = url
        self._stack = ExitStack()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, number: int, role: str, seconds: float, **arguments: Any) -> list[PipedProcess]:
        """Start processes of a role, which work from now on."""
        words = ("-m", "durableq.bench.flow_process", role, self._url, str(seconds))
        found = [
            self._stack.enter_context(PipedProcess(role, *words, json.dumps(arguments)))
            for _ in range(number)
        ]
        for process in found:
            process.answer()
        for process in found:
            process.tell()
        return found


def _kill(process: PipedProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)


def _rate(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Eight processes receive; one is killed half way. The times are those of the leases."""
    seconds = SECONDS / 5 if quick else SECONDS
    queue = app.queue(QUEUE, rate=RATE, burst=BURST, visibility_timeout=3600)
    queue.send_many([None] * int(2 * RATE * seconds))
    processes = crew.start(8, "receive", seconds, completes=False)
    time.sleep(seconds / 2)
    _kill(processes.pop())
    for process in processes:
        process.answer()
    with closing(reading.connect(crew.path)) as reader:
        times = [until_ms / 1000 for (until_ms,) in reader.rows(_LEASES)]
    ideal = BURST + RATE * (times[-1] - times[0])
    return Measured(beyond_rate(times, RATE), {"received, % of ideal": 100 * len(times) / ideal})


def beyond_rate(times: Sequence[float], rate: float) -> float:
    """Return the most that any window has beyond rate x window, in messages.

    Args:
        times: of messages, in seconds and in order.
        rate: messages a second.
    """
    most, lowest = 0.0, float("inf")
    for number, at in enumerate(times):
        lowest = min(lowest, number - rate * at)
        most = max(most, number + 1 - rate * at - lowest)
    return most


def _in_flight(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Processes receive more than may be in flight, and are killed while they hold a message."""
    kills = KILLS // 10 if quick else KILLS
    lease = LEASE_SECONDS
    queue = app.queue(QUEUE, max_in_flight=CAP, visibility_timeout=lease, max_receives=1000)
    queue.send_many([None] * 10 * KILLS)
    arguments = {"kills": kills, "crowd": 2 * CAP, "lease_seconds": lease}
    (killer,) = crew.start(1, "kill_holders", 3600, **arguments)
    most = 0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(killer.answer)
        while not answer.done():
            most = max(most, queue.info().counts.in_flight)
            time.sleep(0.01)
    time.sleep(4 * lease)  # the leases end
    free = len(queue.receive(2 * CAP, visibility_timeout=3600))
    wrong = [each for each in audit(app.store) if each.level is not Level.OK]
    held = json.loads(answer.result())
    return Measured(
        most, {"killed holders": held, "slots leaked": CAP - free, "found by audit": len(wrong)}
    )


def _backlog(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Producers fill a queue, from which one process receives."""
    seconds = 2 if quick else 5
    queue = app.queue(QUEUE, max_backlog=BACKLOG)
    producers = crew.start(PRODUCERS, "fill", seconds, batch=10)
    receivers = crew.start(1, "receive", seconds, completes=True)
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, queue.info().counts.present)
    counts = [json.loads(process.answer()) for process in producers]
    sent = sum(one["sent"] for one in counts)
    received = sum(json.loads(process.answer()) for process in receivers)
    lost = sent - received - queue.info().counts.present
    refused = sum(one["refused"] for one in counts)
    return Measured(most, {"sent": sent, "refused batches": refused, "lost": lost})


def _deduplication(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Processes send with one deduplication id."""
    number = SENDERS // 10 if quick else SENDERS
    senders = crew.start(number, "deduplicated", 0)
    ids = {json.loads(process.answer()) for process in senders}
    return Measured(app.queue(QUEUE).info().counts.present, {"ids": len(ids), "sends": number})


def _replaced(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """One process sends with one replace_key."""
    queue = app.queue(QUEUE)
    for number in range(REPLACED):
        queue.send(number, replace_key="one")
    (newest,) = queue.receive(10)
    return Measured(1 + queue.info().counts.ready, {"newest": newest.body})


def _once(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Processes ask for a value that is not there; in a second run its computer is killed."""
    number = SENDERS // 10 if quick else SENDERS
    asked = {"key": "cold", "compute_seconds": COMPUTE_SECONDS}
    answers = [json.loads(one.answer()) for one in crew.start(number, "compute", 0, **asked)]
    waits = [1000 * (took - COMPUTE_SECONDS) for took, _ in answers]
    return Measured(
        sum(computed > 0 for _, computed in answers),
        {"processes": number, "p95 beyond the computation, ms": percentile(waits, 95)},
    )


def _quiet(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Messages of quiet groups are sent behind those of a noisy one."""
    queue = app.queue(QUEUE, group_concurrency=1)
    queue.send_many([None] * NOISY, group="noisy")
    for number in range(QUIET):
        queue.send(number, group=f"quiet-{number}")
    left, deliveries = QUIET, 0
    while left:
        (message,) = queue.receive(1)
        deliveries += 1
        left -= message.body is not None
        message.complete()
    return Measured(deliveries, {"quiet groups": QUIET, "messages of the noisy one": NOISY})


def _row(name: str, unit: str, target: float, seconds: int, *, at_least: bool = False) -> Row:
    return Row(name, unit, target, at_least=at_least, seconds=seconds, is_large=True)


_FACTS: Final[tuple[tuple[Row, Callable[..., Measured]], ...]] = (
    (_row("rate: most beyond rate x window", "messages", BURST, 35), _rate),
    (_row("max_in_flight: most in flight", "messages", CAP, 60), _in_flight),
    (_row("max_backlog: most stored", "messages", BACKLOG, 10), _backlog),
    (_row("deduplication: stored of 50 sends", "messages", 1, 10), _deduplication),
    (_row("replace_key: waiting of 1,000 sends", "messages", 1, 2), _replaced),
    (_row("once: computations of 50 processes", "computations", 1, 12), _once),
    (_row("groups: deliveries until the quiet are out", "messages", 2 * QUIET + 2, 5), _quiet),
)
ROWS: Final = tuple(row for row, _ in _FACTS)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, each on a file of its own."""
    wanted = {row.name for row in rows}
    for number, (row, measured) in enumerate(_FACTS):
        if row.name not in wanted:
            continue
        setting.progress(f"{row.name} ({setting.synchronous})")
        path = str(setting.folder / f"{number}.db")
        url = f"sqlite:///{path}?synchronous={setting.synchronous}"
        with DurableQ(url) as app, Crew(path, url) as crew:
            _ = app.store  # creates the file before the processes start
            value, details = measured(app, crew, quick=setting.quick)
        spreads = {name: Spread.of([detail]) for name, detail in details.items()}
        yield Figure(row, setting.synchronous, Spread.of([value]), spreads)


FLOW_EXACT: Final = Theme("flow-exact", ROWS, measure, rounds=1)
