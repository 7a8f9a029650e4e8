"""Limits across processes, some of which are killed with the last token, or the last place."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from durableq import Delivery, DurableQ, Queue
from durableq.admin import operations
from durableq.engines.sql.columns import FEW_IN_FLIGHT
from durableq.model.health import is_healthy
from tests.engine import plain
from tests.process.app import EFFECT
from tests.process.child import Child, Nursery
from tests.support import wait_for

PROCESSES = 8
RATE, BURST = 100, 10
#: So high that processes pay for tokens ahead.
PREPAID_RATE = 1_500
SECONDS = 3
SLOW_START_SECONDS = 3
#: Leases of the messages end so long after they were granted.
LEASE_SECONDS = 3600
GRANTED = "SELECT lease_until_ms FROM durableq_message WHERE state = 1 ORDER BY lease_until_ms"
LEASES = "SELECT count(*) FROM durableq_message WHERE state = 1"
CLOSED_AT = "SELECT max(breaker_since_ms) FROM durableq_flow WHERE breaker_phase = 0"
SPENT = "SELECT max(tat_ns) > 0 FROM durableq_counters"
COUNTED = "SELECT sum(in_flight) FROM durableq_counters"


def excess(times_ms: Sequence[int], rate: float, burst: int) -> Fraction:
    """Return the most messages that any window has beyond burst + rate x window.

    Args:
        times_ms: when messages were granted, in order; each may have been at the start of its
            millisecond or at the end.
        rate: messages a second.
        burst: messages at once.
    """
    per_ms, first = Fraction(rate) / 1_000, 0
    most, lowest = Fraction(0), Fraction(len(times_ms))
    for number, at_ms in enumerate(times_ms):
        if at_ms > times_ms[first]:  # of those in one millisecond, the first begins most windows
            lowest = min(lowest, first - per_ms * (times_ms[first] + 1))
            first = number
        of_one_ms = Fraction(number + 1 - first)
        most = max(most, of_one_ms, number + 1 - per_ms * at_ms - lowest)
    return most - burst


def hold(orders: Queue, number: int) -> list[Delivery]:
    """Take so many messages for the time of the test: a high limit is kept by a counter."""
    orders.send_many(range(number))
    held = orders.receive(max(1, number), visibility_timeout=LEASE_SECONDS)
    assert len(held) == number
    return held


def has_taken(child: Child) -> bool:
    return len(child.said) > 2


def start(nursery: Nursery, db: Path, number: int, *more: str) -> list[Child]:
    """Start takers that begin together."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "tests.process.takers", str(db)]
    children = [nursery.run(*command, str(seed), *more, stdin=reading) for seed in range(number)]
    for child in children:
        child.wait_line("READY")
    os.close(writing)
    os.close(reading)
    return children


@pytest.mark.parametrize(("rate", "burst"), [(RATE, BURST), (PREPAID_RATE, PREPAID_RATE // 10)])
def test_no_window_of_eight_processes_is_above_the_rate_though_one_is_killed(
    dq: DurableQ, db: Path, nursery: Nursery, rate: int, burst: int
) -> None:
    """A lease tells to the millisecond when it was granted, also that of the killed process."""
    orders = dq.queue("orders", rate=rate, burst=burst, visibility_timeout=LEASE_SECONDS)
    orders.send_many(range(rate * SECONDS * 2))
    killed, *others = start(nursery, db, PROCESSES)
    wait_for(lambda: plain.one(db, LEASES) > rate * SECONDS / 2, what="half of the messages")
    killed.signal(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    wait_for(lambda: plain.one(db, LEASES) > rate * SECONDS, what="the others", seconds=30)
    for child in others:
        child.kill()
    times_ms = [until_ms - LEASE_SECONDS * 1_000 for until_ms in plain.column(db, GRANTED)]
    assert excess(times_ms, rate, burst) <= 0
    assert any(line.startswith("took") for line in killed.said)


def test_after_an_outage_processes_start_slowly_together(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    """At no moment have they taken more than at the part of the rate of that moment all the time.

    One is killed on the way.
    """
    lease, slow = LEASE_SECONDS, SLOW_START_SECONDS
    dq.queue("orders", rate=RATE, burst=BURST, visibility_timeout=lease)
    orders = dq.queue("orders", breaker=True, slow_start=slow)
    orders.send_many(range(RATE * slow))
    orders.open_breaker(seconds=3600)
    killed, *others = start(nursery, db, 3)
    orders.close_breaker()
    wait_for(lambda: plain.one(db, LEASES) > 10, what="the first")
    killed.kill()
    wait_for(lambda: plain.one(db, LEASES) > RATE * slow / 3, what="the others", seconds=30)
    for child in others:
        child.kill()
    closed_at_ms = plain.one(db, CLOSED_AT)
    for number, until_ms in enumerate(plain.column(db, GRANTED), 1):
        since_ms = until_ms - lease * 1_000 - closed_at_ms
        part = min(1, 0.1 + 0.9 * since_ms / 1_000 / slow)
        assert number <= max(1, part * BURST) + part * RATE * since_ms / 1_000


@pytest.mark.parametrize(("limit", "held"), [(1, 0), (3, FEW_IN_FLIGHT)])
def test_killed_processes_leave_no_place_taken_and_free_none_twice(
    db: Path, nursery: Nursery, limit: int, held: int
) -> None:
    """Their leases end by time. A look may come between two takers' transactions at any moment."""
    dq = DurableQ(db)
    orders = dq.queue("orders", max_receives=1_000, backoff_base=0, visibility_timeout=0.3)
    hold(orders, held)
    dq.queue("orders", max_in_flight=held + limit)
    for number in (2, 2, 2, 1):  # the last one takes the places of those that were killed
        orders.send_many(range(500))  # more than they take until they are seen to have taken some
        for child in start(nursery, db, number, "ends"):
            wait_for(partial(has_taken, child), what="it to take some")
            assert plain.one(db, LEASES) <= held + limit
            child.kill()
        leases = plain.one(db, LEASES)
        assert leases <= held + limit
        assert plain.one(db, COUNTED) == (leases if held else 0)
    assert is_healthy(operations.audit(dq.store))
    dq.close()


#: Leases and places taken beside those that are held, and whether the token is, before each call
#: and after it.
CALLS = {
    "receive": ((0, 0, 0), (1, 1, 1)),
    "fail": ((1, 1, 1), (0, 0, 1)),
    "transaction": ((1, 1, 1), (0, 0, 1)),
}


@pytest.mark.parametrize("call", CALLS)
def test_killed_before_any_statement_a_call_pays_for_its_leases_or_for_none(
    call: str, tmp_path: Path, nursery: Nursery
) -> None:
    """The last token is spent, and the last place taken and given back, with the lease."""
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq:
        dq.queue("receipts")
        orders = dq.queue("orders", max_receives=1)
        hold(orders, FEW_IN_FLIGHT)
        dq.queue("orders", rate=0.01, burst=1, max_in_flight=FEW_IN_FLIGHT + 1)
        orders.send(1, key="k")
    plain.script(db, EFFECT)
    child = nursery.start("sweep", call, db)
    assert child.end() == 0, child.complaints
    files = sorted(tmp_path.glob("killed-*.db"))
    found = [
        (
            *(plain.one(path, sql) - FEW_IN_FLIGHT for sql in (LEASES, COUNTED)),
            plain.one(path, SPENT),
        )
        for path in files
    ]
    before, after = CALLS[call]
    assert set(found) == {before, after}
    assert (found[0], found[-1]) == (before, after), "it died at no statement, or at every one"
