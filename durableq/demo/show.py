"""The whole demo: a producer, a fleet and recovery as separate processes on one database."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from durableq.client.app import URL_VARIABLE, DurableQ, file_named
from durableq.demo import reading
from durableq.demo.accounts import Plan, Report, judge
from durableq.demo.app import QUEUE, SETTINGS, make_ledger
from durableq.demo.processes import Processes, ended_by_signals, scaled
from durableq.demo.traffic import DUPLICATES
from durableq.model.errors import Conflict, Unsupported
from durableq.model.queues import dead_letter_name
from durableq.model.settings import QueueOptions
from durableq.model.text import address
from durableq.store.core import Capability, QueueInfo, Store

APP: Final = "durableq.demo.app:dq"
QUEUES: Final = (QUEUE, dead_letter_name(QUEUE))
#: Duration of the traffic: long enough to watch.
TRAFFIC_SECONDS: Final = 3
#: Interval between two reads of the counters.
POLL_SECONDS: Final = 0.1
DEADLINE_SECONDS: Final = 60.0
#: Added to the deadline for each message.
SECONDS_PER_MESSAGE: Final = 0.2


class Traffic(NamedTuple):
    """The size of a demo: its messages and processes."""

    messages: int
    procs: int
    seed: int


def run(
    url: str | None,
    count: int,
    procs: int,
    seed: int,
    progress: Callable[[str], None],
    *,
    keep: bool = False,
) -> Report:
    """Run the demo and return its accounts. No process outlives the call.

    Args:
        url: the file or PostgreSQL database to use; None means a new file in a temporary
            directory.
        count: the number of messages.
        procs: the number of worker processes.
        seed: the seed of the traffic.
        progress: called with the place, and then with a line at each change.
        keep: keep the temporary file, and name it in the report; otherwise it is only kept when an
            account does not balance.

    Raises:
        Conflict: the database has had messages in the demo's queue already.
        Unsupported: several processes cannot share the database of the URL.
        DurableQError: one of the processes failed.
    """
    with ended_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="durableq-demo-"))
        stays = False
        try:
            database = reading.alone(url or str(folder / "demo.db"))
            what = "schema" if reading.on_server(database) else "file"
            progress(f"Everything happens in one {what}: {address(database)}")
            report = _run(database, folder, Traffic(count, procs, seed), progress)
            stays = url is None and (keep or bool(report.problems))
            if stays:
                report.kept = database
            return report
        finally:
            if not stays:
                shutil.rmtree(folder, ignore_errors=True)


def _run(database: str, folder: Path, traffic: Traffic, progress: Callable[[str], None]) -> Report:
    plan = Plan.of(traffic.messages, DUPLICATES, traffic.seed)
    with DurableQ(database) as shop:
        prepare(shop, "The demo", SETTINGS)
        with Processes(folder, {URL_VARIABLE: database}, progress) as processes:
            _start(processes, traffic)
            interruptions = _watch(processes, shop.store, plan, progress)
        place = place_of(shop)
    return judge(reading.read(place, QUEUES), plan, interruptions)


def prepare(
    shop: DurableQ, who: str, settings: QueueOptions, *, in_every_queue: bool = False
) -> None:
    """Create the queue and the ledger; refuse a database that has had other messages.

    Args:
        shop: the application on the database.
        who: the run, as the first words of a sentence.
        settings: the settings of the queue.
        in_every_queue: whether messages in any queue of the database are refused.

    Raises:
        Conflict: the database has had messages in the queue, or in any, already.
        Unsupported: several processes cannot share it.
    """
    check_shared(shop, who)
    for info in shop.store.require(Capability.INSPECT).queues():
        if info.counters.sent and (in_every_queue or info.name == QUEUE):
            raise Conflict(
                f"{shop.address} has had {info.counters.sent} messages in its queue {info.name!r} "
                f"already, and {info.counts.present} are there, so the accounts of this run "
                "could not be told from them. Nothing was started. Give a new file or schema, or "
                "none at all."
            )
    shop.queue(QUEUE, **settings)
    make_ledger(shop)


def check_shared(shop: DurableQ, who: str) -> None:
    """Check that several processes can share a database.

    Args:
        shop: the application on the database.
        who: the run, as the first words of a sentence.

    Raises:
        Unsupported: they cannot.
    """
    if file_named(shop.url) is None and not reading.on_server(shop.url):
        raise Unsupported(
            f"{who} runs several processes on one file, and {shop.address} is none. "
            "Give the path of a file that does not exist yet, the URL of a PostgreSQL schema, or "
            "none at all."
        )


def place_of(shop: DurableQ) -> str:
    """Return the path of its file, or its URL, for `reading`."""
    if reading.on_server(shop.url):
        return shop.url
    with shop.engine.begin() as connection:
        ((_, _, path),) = connection.exec_driver_sql("PRAGMA database_list").all()
    return str(path)


def queues_of(store: Store) -> list[QueueInfo]:
    """Return the queue of orders and its dead-letter queue."""
    return [store.require(Capability.INSPECT).queue(name) for name in QUEUES]


def _start(processes: Processes, traffic: Traffic) -> None:
    """Start the commands that a user would type in three terminals."""
    processes.start("work", "--procs", str(traffic.procs), "--app", APP)
    processes.start("recover", "--app", APP)
    rate = max(1, traffic.messages // TRAFFIC_SECONDS)
    processes.start(
        "produce",
        *("--count", str(traffic.messages), "--duplicates", str(DUPLICATES)),
        *("--seed", str(traffic.seed), "--rate", str(rate)),
    )


def _watch(
    processes: Processes, monitor: Store, plan: Plan, progress: Callable[[str], None]
) -> list[str]:
    """Wait until every message has ended; return the problems."""
    allowed = scaled(DEADLINE_SECONDS + SECONDS_PER_MESSAGE * plan.count)
    deadline = time.monotonic() + allowed
    before: list[QueueInfo] = []
    shown = ""
    while True:
        produced = processes.ended("produce")
        processes.expect_running("work")
        processes.expect_running("recover")
        now = queues_of(monitor)
        if (line := progress_line(now[0], now[1], plan.count)) != shown:
            shown = line
            progress(line)
        if produced and is_over(before, now):
            return []
        if time.monotonic() >= deadline:
            left = sum(info.counts.present for info in now)
            return [f"The demo did not end in {allowed:.0f} seconds: {left} messages are left."]
        before = now
        time.sleep(POLL_SECONDS)


def is_over(before: list[QueueInfo], now: list[QueueInfo]) -> bool:
    """Return whether only held messages are left, and no counter changed between two reads.

    One read is not enough: a message can move from one queue to the other between two queries.
    """
    is_empty = all(info.counts.present == info.counts.held for info in now)
    return is_empty and [info.counters for info in before] == [info.counters for info in now]


def progress_line(orders: QueueInfo, dead: QueueInfo, count: int) -> str:
    """Return the counters of both queues in a line."""
    counters, counts = orders.counters, orders.counts
    return (
        f"sent {counters.sent}/{count} | charged {counters.completed}"
        f" | duplicates {counters.duplicates}"
        f" | waiting {counts.ready + counts.delayed} | in flight {counts.in_flight}"
        f" | dead {dead.counts.present} | sent back {dead.counters.moved_out}"
        f" | discarded {dead.counters.discarded}"
    )
