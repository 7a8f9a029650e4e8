"""How exactly the limits of sends hold, coalescing, and expiry: facts of the theme flow-exact."""

from __future__ import annotations

import json
import time
from typing import Final

from durableq.bench.app import QUEUE
from durableq.bench.flow_crew import Crew, Fact, Measured, fact
from durableq.client.app import DurableQ

BACKLOG, PRODUCERS = 1_000, 16
SENDERS, REPLACED = 50, 1_000
#: Seconds of a debounce: after each send, and at most; a wake-up may be late by so many ms.
DEBOUNCE, MAX_WAIT, LATE_MS = 0.5, 2.0, 100
#: Of messages that expire: their number, and the seconds until they do.
EXPIRING, EXPIRES_IN = 4_000, 4.0
#: Not enough for all of them; the messages of killed holders come back.
EXPIRY_RATE, EXPIRY_KILLS, LEASE_SECONDS = 400, 100, 0.5


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


def _debounced(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """One process sends without a pause that is long enough; this one waits for a message."""
    app.queue(QUEUE)
    (sender,) = crew.start(1, "debounced", MAX_WAIT + DEBOUNCE / 2, after=DEBOUNCE, most=MAX_WAIT)
    while not app.store.receive(QUEUE, 1, wait_ms=1000).messages:
        pass
    received_at = time.monotonic()
    first_at, sends = json.loads(sender.answer())
    others = len(app.store.receive(QUEUE, 1).messages)
    beyond_ms = 1000 * (received_at - first_at - MAX_WAIT)
    return Measured(beyond_ms, {"sends": sends, "other messages received": others})


def _expiry(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Messages expire while they wait, are delayed, or are held by a process that is killed."""
    number, seconds, kills = EXPIRING, EXPIRES_IN, EXPIRY_KILLS
    if quick:
        number, seconds, kills = number // 4, seconds / 4, kills // 4
    queue = app.queue(QUEUE, rate=EXPIRY_RATE, visibility_timeout=LEASE_SECONDS)
    crew.start(2, "receive", 3600, completes=True)
    arguments = {"kills": kills, "crowd": 8, "lease_seconds": LEASE_SECONDS}
    (killer,) = crew.start(1, "kill_holders", seconds, **arguments)
    queue.send_many([None] * (number // 2), expires_in=seconds)
    queue.send_many([None] * (number // 2), expires_in=seconds, delay=seconds / 2)
    time.sleep(seconds + 8 * LEASE_SECONDS)
    info = queue.info()
    return Measured(
        info.counts.present,
        {
            "sent": number,
            "completed": info.counters.completed,
            "expired": info.counters.expired,
            "killed holders": json.loads(killer.answer()),
        },
    )


FACTS: Final[tuple[Fact, ...]] = (
    fact(_backlog, "max_backlog: most stored", "messages", BACKLOG, 10),
    fact(_deduplication, "deduplication: stored of 50 sends", "messages", 1, 10),
    fact(_replaced, "replace_key: waiting of 1,000 sends", "messages", 1, 2),
    fact(_debounced, "debounce: received after max_wait", "ms", LATE_MS, 4),
    fact(_expiry, "expires_in: stranded", "messages", 0, 10),
)
