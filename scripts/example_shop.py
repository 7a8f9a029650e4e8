"""A database as a shop may have it on a bad day, for pictures and captures in the documentation.

Some queues have limits, one has an open breaker, one is paused; there are dead letters of several
failures, held ones, redrive tasks, keys, and values that one process computes. The rates and depths
of the last day are written as samples, because no script waits for a day.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from durableq import DurableQ
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Hold, Requeue
from durableq.model.message import Completion, Failure, Reason
from durableq.store.core import Capability

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 24 * 60
#: Minutes between two samples of the day, except in the last quarter of an hour.
STEP: Final = 10
BATCH: Final = 100
_TRACE: Final = """\
Traceback (most recent call last):
  File "/srv/shop/handlers.py", line 41, in {place}
    answer = client.post("/v2/{place}", json=order, timeout=5)
  File "/srv/shop/client.py", line 88, in post
    raise {error}({message!r})
{error}: {message}
"""
_FAILURES: Final[tuple[tuple[str, str, str, str, int], ...]] = (
    ("webhooks", "ConnectionError", "partner-7.example refused the connection", "deliver", 214),
    ("webhooks", "TimeoutError", "partner-3.example did not answer within 5 s", "deliver", 31),
    ("orders", "ValidationError", "order has no delivery address", "charge", 12),
    ("orders", "KeyError", "'vat_rate'", "charge", 3),
    ("thumbnails", "UnidentifiedImageError", "cannot identify image file", "resize", 5),
    ("payments", "ConnectionError", "the bank answers 503", "charge", 40),
    ("payments", "CardExpired", "the card ended in 2025", "charge", 6),
)

#: Rules of recovery for the dead letters.
RULES: Final = """\
[[rule]]
name = "the bank was down"
when.queue = "payments"
when.error_type = "ConnectionError"
then = "requeue"
delay = 3600

[[rule]]
name = "card expired"
when.queue = "payments"
when.error_type = "CardExpired"
then = "discard"
reason = "the customer is asked for another card"

[[rule]]
name = "a partner was away"
when.queue = "webhooks"
when.error_type = ["ConnectionError", "TimeoutError"]
then = "requeue"
delay = 60

[[rule]]
name = "no address"
when.queue = "orders"
when.message = "no delivery address"
then = "hold"
reason = "ask the customer"
"""


class Example(NamedTuple):
    """Names in the database, for the pages that show one thing."""

    queue: str
    #: A dead letter with a traceback.
    message_id: str
    redrive_id: str
    key: str
    #: The address of a group of dead letters, without its path.
    group: str


def fill(dq: DurableQ) -> Example:
    """Fill a new database; return names in it."""
    _declare(dq)
    _complete(dq, "orders", 2_400)
    _complete(dq, "emails", 900)
    dead = {failure[1]: _bury(dq, *failure) for failure in _FAILURES}
    _wait(dq)
    message_id = _dead_order(dq)
    _hold(dq, dead["KeyError"])
    redrive_id = _redrive(dq)
    dq.once("exchange rates", lambda: {"EUR": 1, "NOK": 11.72}, ttl=3_600)
    dq.once("banner", lambda: "Sale until 6", ttl=600)
    _limit(dq)
    _write_samples(dq)
    (group, *_) = dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups("webhooks")
    query = f"queue=webhooks&reason={group.reason}&group={group.fingerprint}"
    return Example("orders", message_id, redrive_id, "order-1007", query)


def plan(dq: DurableQ) -> None:
    """Define schedules; the application of the workers calls it too."""
    dq.every("0 3 * * *", "nightly-report", queue="emails", tz="Europe/Oslo")
    dq.every("*/15 8-18 * * MON-FRI", "exchange-rates", queue="payments", tz="Europe/Oslo")
    dq.every(timedelta(minutes=5), "retry-webhooks", queue="webhooks")
    dq.every("0 6 1 * *", "monthly-invoices", queue="invoices", tz="Europe/Oslo", catch_up="all")


def _declare(dq: DurableQ) -> None:
    for name in ("orders", "payments", "emails", "invoices", "thumbnails", "webhooks"):
        dq.queue(name, max_receives=1)
    _ = dq.store


def _limit(dq: DurableQ) -> None:
    """Set the limits; they would slow the filling down."""
    dq.store.declare_queue("payments", {"rate": 50, "max_in_flight": 8, "breaker": 1})
    dq.store.declare_queue("emails", {"rate": 20, "max_backlog": 5_000})
    dq.store.declare_queue("invoices", {"paused": 1})
    dq.store.require(Capability.CONTROL).set_breaker(
        "payments", is_open=True, open_ms=600_000, actor="on call"
    )


def _order(number: int) -> dict[str, Any]:
    return {
        "order": number,
        "customer": {"id": 4_000 + number % 97, "country": ("NO", "DE", "SE")[number % 3]},
        "items": [{"sku": f"TEA-{number % 40:03}", "count": 1 + number % 4, "price": "12.90"}],
        "total": f"{12.9 * (1 + number % 4):.2f}",
    }


def _send(dq: DurableQ, queue: str, numbers: Iterable[int], **options: Any) -> None:
    """Send an order for each number, with its key."""
    with dq.queue(queue).producer(batch_size=BATCH) as producer:
        for number in numbers:
            producer.send(_order(number), key=f"order-{number}", **options)


def _complete(dq: DurableQ, queue: str, number: int) -> None:
    """Send and complete messages."""
    _send(dq, queue, range(1_000, 1_000 + number))
    while received := dq.store.receive(queue, BATCH).messages:
        receipts = [(one.receipt, one.key) for one in received if one.receipt]
        dq.store.complete([Completion(at, '{"charged":true}', key) for at, key in receipts])


def _bury(dq: DurableQ, queue: str, error: str, message: str, place: str, number: int) -> list[str]:
    """Send messages that fail for good; return their ids."""
    _send(dq, queue, range(7_000 + number, 7_000 + 2 * number))
    trace, ids = _TRACE.format(place=place, error=error, message=message), list[str]()
    failure = Failure(Reason.HANDLER_ERROR, error, message, trace, place=f"handlers.py:{place}")
    while received := dq.store.receive(queue, BATCH).messages:
        dq.store.fail([(one.receipt, failure) for one in received if one.receipt], actor="worker-1")
        ids += [one.id for one in received]
    return ids


def _wait(dq: DurableQ) -> None:
    """Send messages that wait."""
    _send(dq, "orders", range(8_000, 8_038))
    _send(dq, "orders", range(8_100, 8_106), delay=900)
    _send(dq, "payments", range(8_000, 8_340))
    _send(dq, "invoices", range(8_000, 8_064))
    _send(dq, "thumbnails", range(8_000, 8_060))
    for start in range(10_000, 11_280, BATCH):
        dq.queue("emails").send_many([_order(number) for number in range(start, start + BATCH)])


def _dead_order(dq: DurableQ) -> str:
    """Return the newest dead letter of the orders."""
    wanted = DeadLetterFilter("orders")
    found = dq.store.require(Capability.DEAD_LETTERS).dead_letters(wanted, 1, newest_first=True)
    return found[0].id


def _hold(dq: DurableQ, ids: Sequence[str]) -> None:
    dq.store.require(Capability.DEAD_LETTERS).decide_by_id(
        "orders-dlq", ids[:2], Hold("which VAT applies is asked"), actor="ada"
    )


def _redrive(dq: DurableQ) -> str:
    """Start redrive tasks: one that has ended, one that runs; return the id of that one."""
    redrive = dq.store.require(Capability.REDRIVE)
    ended = redrive.start_redrive(
        DeadLetterFilter("thumbnails"), Requeue("the library was updated"), actor="ada"
    )
    redrive.continue_redrive(ended.id, BATCH)
    redrive.continue_redrive(ended.id, BATCH)
    wanted = DeadLetterFilter("webhooks", error_type="TimeoutError")
    running = redrive.start_redrive(wanted, Requeue("partner 3 is back"), actor="grace", rate=0.5)
    redrive.continue_redrive(running.id, BATCH)
    return running.id


def _write_samples(dq: DurableQ) -> None:
    """Write the last day of each queue, so that it ends with the numbers of now."""
    dq.store.require(Capability.MAINTENANCE).maintain()
    now_ms = time.time_ns() // 1_000_000
    with dq.engine.begin() as raw:
        for number, info in enumerate(dq.store.require(Capability.INSPECT).queues()):
            if info.dead_letter_queue is None:
                continue
            found = raw.exec_driver_sql(
                "SELECT id FROM durableq_queue WHERE name = ?", (info.name,)
            )
            (queue_id,) = found.fetchone()
            sent, ready = info.counters.sent, info.counts.ready
            for minute in (*range(DAY_MINUTES, 15, -STEP), *range(15, 0, -1)):
                share = 1 - minute / DAY_MINUTES
                wave = 0.5 + 0.5 * math.sin(minute / 97 + number)
                usual = (0.2 + 0.8 * share) * (0.3 + 0.7 * wave)
                near = min(1, minute / 60)  # it ends with the number of now
                depth = round(ready * (near * usual + 1 - near))
                in_all = round(sent * (share + 0.03 * math.sin(minute / 60)))
                raw.exec_driver_sql(
                    "INSERT OR IGNORE INTO durableq_sample (queue_id, at_ms, sent, moved_in, "
                    "moved_out, completed, duplicates, discarded, expired, purged, cancelled, "
                    "replaced, shed, deduplicated, ready, delayed, in_flight, held, blocked) "
                    "VALUES (?, ?, ?, 0, 0, ?, 0, 0, 0, 0, 0, 0, 0, 0, ?, 0, ?, 0, 0)",
                    (
                        queue_id,
                        now_ms - minute * MINUTE_MS,
                        max(0, in_all),
                        max(0, in_all - depth),
                        depth,
                        round(8 * wave) if depth else 0,
                    ),
                )
