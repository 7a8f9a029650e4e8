"""The circuit breaker across processes: an outage, a killed prober, one breaker for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, Queue, Unavailable
from durableq.model.flow.breaker import Phase
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.breaker_app import APP, PREFETCH, outage
from tests.process.child import Child, Nursery
from tests.support import new_file

MESSAGES = 300
PROBES = 2
PROCESSES = 2


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    """A queue whose messages die at the first receive that counts and does not succeed."""
    with DurableQ(new_file(db)) as dq:
        queue = dq.queue(
            "orders",
            max_receives=1,
            visibility_timeout=3600,
            breaker=True,
            breaker_open=0.3,
            breaker_open_max=1,
            breaker_probes=PROBES,
            slow_start=None,
        )
        dq.queue("bulk")
        dq.init()
        yield queue


def phases(orders: Queue) -> list[str]:
    return [event.detail["phase"] for event in orders.breaker().transitions]


def test_an_outage_costs_no_message_a_receive_and_its_service_few_calls(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders.send_many([None] * 20 + ["outage"] + [None] * (MESSAGES - 21))
    fleet = nursery.fleet(db, app=APP, procs=PROCESSES)
    fleet.wait_until(lambda: phases(orders).count("open") >= 3, "it to open three times")
    outage(db).unlink()
    fleet.wait_until(
        lambda: orders.info().counters.completed == MESSAGES, "every message to be completed"
    )
    told = phases(orders)
    in_flight = PROCESSES * 2 * PREFETCH  # handed out, and received while those are settled
    assert len(ledger.lines("down")) <= in_flight + PROBES * told.count("half_open")
    assert orders.breaker().phase is Phase.CLOSED
    counts = {line.of.partition("#")[2] for line in ledger.lines("up", "down")}
    assert counts == {"1"}, "a receive was counted"
    assert orders._app.queue("orders-dlq").info().counts.present == 0
    assert {line.of.partition("#")[0] for line in ledger.lines("down")} == events(db)
    plain.check_sound(db)


def events(db: Path) -> set[str]:
    """Return the messages with an event of an uncounted receive."""
    found = "SELECT DISTINCT message_id FROM durableq_history WHERE event = 'unavailable'"
    return set(map(str, plain.column(db, found)))


def test_the_place_of_a_killed_prober_returns(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders._app.store.declare_queue("orders", {"breaker_probes": 1, "max_receives": 5})
    [first] = orders.send_many(["first"])
    orders.receive(1)[0].fail(Unavailable("down"))
    [hang, *rest] = orders.send_many(["hang", *range(10)])
    fleet = nursery.fleet(db, app=APP, procs=PROCESSES)
    fleet.wait_until(lambda: ledger.lines("hangs"), "a prober to hang")
    assert orders.breaker().phase is Phase.HALF_OPEN
    assert {line.of for line in ledger.lines("up")} == {f"{hang}#1"}, "one probe at a time"
    [prober] = ledger.pids("hangs")
    fleet.worker(prober).kill()
    fleet.wait_until(
        lambda: orders.info().counters.completed == 2 + len(rest), "the queue to go on"
    )
    assert orders.breaker().phase is Phase.CLOSED
    assert {line.of for line in ledger.lines("up")} >= {f"{first}#1", f"{hang}#2"}
    plain.check_sound(db)


def test_a_breaker_that_one_process_opened_stops_the_others(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    longer = {"breaker_open_ms": 60_000, "breaker_open_max_ms": 60_000}
    orders._app.store.declare_queue("orders", longer)
    orders.send_many(range(5))
    orders.receive(1)[0].fail(Unavailable("down"))
    worker = nursery.worker(db, app=APP)
    for number in range(1, 4):
        wait_for_bulk(orders._app.queue("bulk"), worker, ledger, number)
    assert ledger.lines("up") == []
    orders.close_breaker()
    worker.wait_until(lambda: len(ledger.lines("up")) == 5, "it to go on")


def wait_for_bulk(bulk: Queue, worker: Child, ledger: Ledger, number: int) -> None:
    """Send a message to the other queue; return when the worker has handled it."""
    bulk.send(number)
    worker.wait_until(lambda: len(ledger.lines("bulk")) == number, "it to work")
