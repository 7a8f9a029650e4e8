"""How exactly limits hold, measured with several processes on one file: those of receives.

The figures are numbers of messages, shares and times, each beside the limit that it may not pass.
They do not depend on the durability, so each is measured once. The tests hold the same limits under
more conditions; these figures are of the machine at hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, pairwise
from typing import Final

from durableq.admin.operations import audit
from durableq.bench import flow_once, flow_sends
from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Theme
from durableq.bench.flow_crew import (
    Crew,
    Fact,
    Measured,
    beyond_rate,
    beyond_share,
    fact,
    kill,
    most_in,
    row,
)
from durableq.client.app import DurableQ
from durableq.demo import reading
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.model.flow.retries import IDLE_MS
from durableq.model.health import Level
from durableq.model.limits import MAX_RECEIVE_BATCH, MAX_SEND_BATCH
from durableq.model.message import Failure, Reason, Receipt
from durableq.store.core import Capability

RATE, BURST, SECONDS = 100, 10, 30
CAP, KILLS = 8, 1_000
#: Short, as the place of a killed holder returns with its lease.
LEASE_SECONDS = 0.25
#: So long that 50 processes get their turn, also on a busy machine.
BUSY_SECONDS = 60
NOISY, QUIET = 5_000, 50
#: As many retries are due at once as messages are delivered in these seconds.
RETRY_RATE, RETRY_SHARE, RETRY_SECONDS, RETRY_WINDOW = 200, 0.2, 22.0, 10.0
DEAD_LETTERS, REDRIVE_RATE = 20_000, 2_000
#: Seconds that a level of priority is worth; the levels between the lowest and the others.
AGING, LEVELS = 0.2, 10
#: The first rate is that of the sends: it is greater, so that messages always wait.
AGING_SENDS, AGING_RATE = 100, 80
#: The sends fill a batch in half of its window.
BATCH, WINDOW, BATCH_SECONDS = 100, 1.0, 8.0
#: The ends of leases, all of one length, and whether the delivery is a retry: a process may see a
#: receive later than it was.
_LEASES: Final = """
SELECT lease_until_ms, receive_count > 1 FROM durableq_message WHERE state = 1 ORDER BY 1"""
_REDRIVEN: Final = "SELECT at_ms FROM durableq_history WHERE event = 'requeued' ORDER BY 1"
_BROKEN: Final = Failure(Reason.HANDLER_ERROR, "OSError", "refused", retry_in_ms=0)


def _leases(crew: Crew) -> list[tuple[float, bool]]:
    """Return for each lease when it ends, in seconds, and whether its delivery is a retry."""
    with closing(reading.connect(crew.path)) as reader:
        return [(until_ms / 1000, bool(retried)) for until_ms, retried in reader.rows(_LEASES)]


def _rate(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Eight processes receive; one is killed half way. The times are those of the leases."""
    seconds = SECONDS / 5 if quick else SECONDS
    queue = app.queue(QUEUE, rate=RATE, burst=BURST, visibility_timeout=3600)
    queue.send_many([None] * int(2 * RATE * seconds))
    processes = crew.start(8, "receive", seconds, completes=False)
    time.sleep(seconds / 2)
    kill(processes.pop())
    for process in processes:
        process.answer()
    times = [at for at, _ in _leases(crew)]
    ideal = BURST + RATE * (times[-1] - times[0])
    return Measured(beyond_rate(times, RATE), {"received, % of ideal": 100 * len(times) / ideal})


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


def _fail_all(app: DurableQ) -> None:
    """Receive every message of the queue; then fail them all."""
    store, held = app.store, list[tuple[Receipt, Failure]]()
    while messages := store.receive(QUEUE, MAX_RECEIVE_BATCH).messages:
        held += [(one.receipt, _BROKEN) for one in messages if one.receipt is not None]
    for first in range(0, len(held), MAX_RECEIVE_BATCH):
        store.fail(held[first : first + MAX_RECEIVE_BATCH])


def _retries(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """As after an outage, many retries are due at once; behind them are as many new messages.

    After a pause of IDLE_MS without a delivery a retry is free, so a busy machine shows more.
    """
    seconds, window = RETRY_SECONDS, RETRY_WINDOW
    if quick:
        seconds, window = seconds / 5, window / 5
    queue = app.queue(QUEUE, visibility_timeout=3600)
    number = int(RETRY_RATE * seconds)
    queue.send_many([None] * number)
    _fail_all(app)
    app.queue(QUEUE, rate=RETRY_RATE, retry_share=RETRY_SHARE)
    queue.send_many([None] * number)
    for process in crew.start(4, "receive", seconds, completes=False):
        process.answer()
    deliveries = _leases(crew)
    return Measured(
        beyond_share(deliveries, RETRY_SHARE, window),
        {
            "deliveries": len(deliveries),
            "retries": sum(is_retry for _, is_retry in deliveries),
            "due at once": number,
            "pauses": sum(
                later - at > IDLE_MS / 1000 for (at, _), (later, _) in pairwise(deliveries)
            ),
        },
    )


def _redrive(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Three processes continue a redrive task with a rate; one is killed half way."""
    number = DEAD_LETTERS // 10 if quick else DEAD_LETTERS
    rate = REDRIVE_RATE // 2 if quick else REDRIVE_RATE
    queue = app.queue(QUEUE, visibility_timeout=3600, max_receives=1)
    for _ in range(0, number, MAX_SEND_BATCH):
        queue.send_many([None] * min(number, MAX_SEND_BATCH))
    _fail_all(app)
    tasks = app.store.require(Capability.REDRIVE)
    task = tasks.start_redrive(DeadLetterFilter(), Requeue("the service is back"), rate=rate)
    processes = crew.start(3, "continue_redrive", 3600, task_id=task.id)
    time.sleep(number / rate / 2)
    kill(processes.pop())
    for process in processes:
        process.answer()
    with closing(reading.connect(crew.path)) as reader:
        times = [at_ms / 1000 for (at_ms,) in reader.rows(_REDRIVEN)]
    return Measured(
        100 * most_in(times, 1) / rate,
        {
            "sent back": len(times),
            "sent back twice": len(times) - queue.info().counts.ready,
            "rate": rate,
            "beyond rate x window, messages": beyond_rate(times, rate),
        },
    )


def _aging(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """More important messages are sent without a pause, faster than they are received."""
    aging = AGING / 2 if quick else AGING
    queue = app.queue(QUEUE, priority_aging=aging, rate=AGING_RATE, burst=1)
    crew.start(1, "send_evenly", 3600, rate=AGING_SENDS, priority=LEVELS)
    while not queue.info().counts.ready:
        time.sleep(0.01)
    lowest = queue.send(None)
    sent_at = time.monotonic()
    youngest, before = 0.0, 0
    while True:
        for message in app.store.receive(QUEUE, 1, wait_ms=1000).messages:
            if message.id == lowest:
                waited = {"waited, s": time.monotonic() - sent_at, "went before it": before}
                return Measured(100 * youngest / (LEVELS * aging), waited)
            before += 1
            youngest = max(youngest, json.loads(message.body) - sent_at)


def _windows(app: DurableQ, crew: Crew, *, quick: bool) -> Sequence[Measured]:
    """One process gathers batches, then two, of messages sent at twice the rate that fills them."""
    seconds = BATCH_SECONDS / 4 if quick else BATCH_SECONDS
    queue = app.queue(QUEUE, visibility_timeout=4 * WINDOW)
    crew.start(1, "send_evenly", 3600, rate=2 * BATCH / WINDOW)
    found = []
    for number in (1, 2):
        queue.purge()
        gatherers = crew.start(number, "gather_batches", seconds, batch=BATCH, window=WINDOW)
        sizes = [*chain.from_iterable(json.loads(process.answer()) for process in gatherers)]
        details = {"batches": len(sizes), "smallest": min(sizes)}
        found.append(Measured(100 * sum(sizes) / len(sizes) / BATCH, details))
    return found


FACTS: Final[tuple[Fact, ...]] = (
    fact(_rate, "rate: most beyond rate x window", "messages", BURST, 35),
    fact(_in_flight, "max_in_flight: most in flight", "messages", CAP, 60),
    *flow_sends.FACTS,
    *flow_once.FACTS,
    fact(_quiet, "groups: deliveries until the quiet are out", "messages", 2 * QUIET + 2, 5),
    fact(_retries, "retry_share: most beyond 20 % of any 10 s", "messages", 1, 30),
    fact(_aging, "priority_aging: youngest before the lowest", "% of levels x aging", 100, 6),
    Fact(
        tuple(
            row(f"receive window: batches of {processes}", "% full", 95, 10, at_least=True)
            for processes in ("one process", "two processes")
        ),
        _windows,
    ),
    fact(_redrive, "redrive at a rate: most in a second", "% of the rate", 110, 18),
)
ROWS: Final = tuple(chain.from_iterable(each.rows for each in FACTS))


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, each fact on a file of its own."""
    for number, (found, measured) in enumerate(FACTS):
        wanted = [each in rows for each in found]
        if not any(wanted):
            continue
        setting.progress(f"{found[wanted.index(True)].name} ({setting.synchronous})")
        path = str(setting.folder / f"{number}.db")
        url = f"sqlite:///{path}?synchronous={setting.synchronous}&busy_timeout={BUSY_SECONDS}"
        with DurableQ(url) as app, Crew(path, url) as crew:
            _ = app.store  # creates the file before the processes start
            figures = measured(app, crew, quick=setting.quick)
        for each, is_wanted, figure in zip(found, wanted, figures, strict=True):
            if is_wanted:
                yield figure.figure(each, setting.synchronous)


FLOW_EXACT: Final = Theme("flow-exact", ROWS, measure, rounds=1, by_synchronous=False)
