"""Transfers that are killed, and processes that still use the old address. All are real ones."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations, transfer_plan
from durableq.admin.transfer import transfer
from durableq.engines.sql.schema import REVISIONS
from durableq.model.health import is_healthy
from tests.process.child import Child, Nursery
from tests.process.fleet_app import APP
from tests.support import wait_for
from tests.transfer.places import KINDS, Places, opened, revision, rows, settle_all

MESSAGES = 4_000
#: Runs a transfer, and prints a line for each step of it.
RUN = """
import sys
from durableq.admin import transfer as moving
moving.MOST_ROWS = 200
moving.transfer(sys.argv[1], sys.argv[2], lambda *step: print(*step, flush=True))
print("done", flush=True)
"""


def start(nursery: Nursery, places: Places) -> Child:
    return nursery.run(sys.executable, "-c", RUN, *places)


def said_or_ended(child: Child, steps: int) -> bool:
    """Return whether a transfer has made so many steps, or all of them."""
    return len(child.said) >= steps or child.process.poll() is not None


@pytest.mark.parametrize("places", KINDS[:2], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_a_transfer_that_is_killed_at_random_points_goes_on_and_loses_nothing(
    places: Places, nursery: Nursery, seed: int
) -> None:
    """Each run is killed after a random number of steps, until one reaches its end."""
    dice = random.Random(seed)
    with DurableQ(places.source) as dq:
        queue = dq.queue("orders")
        for begin in range(0, MESSAGES, 1_000):
            queue.send_many(range(begin, begin + 1_000))
        for message in queue.receive(20):
            message.release() if message.body % 2 else message.complete()
    kills = 0
    while True:
        child = start(nursery, places)
        steps = dice.choice([0, 1, 2, 5, 10, 20])
        has_said = partial(said_or_ended, child, steps)
        wait_for(has_said, seconds=30, what=f"{steps} steps")
        child.kill()
        if "done" in child.said or revision(places.source) == "moved":
            break
        kills += 1
        assert revision(places.source) in {REVISIONS[-1], "moving"}
        if kills > 12:
            assert start(nursery, places).end() == 0
            break
    if revision(places.target) == "filling":
        transfer(*places)
    assert (revision(places.source), revision(places.target)) == ("moved", REVISIONS[-1])
    assert rows(places.target) == rows(places.source) == MESSAGES - 10
    assert kills > 0
    with opened(places.target) as store:
        assert is_healthy(operations.audit(store))
        assert settle_all(store) == MESSAGES - 10


@pytest.mark.parametrize("places", KINDS[:2], indirect=True)
def test_a_fleet_that_was_forgotten_ends_with_the_new_address(
    places: Places, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers are taken for dead, as on a host that cannot be reached for a minute."""
    with DurableQ(places.source) as dq:
        dq.queue("orders")
        dq.queue("bulk")
        dq.init()
    fleet = nursery.fleet(places.source, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    monkeypatch.setattr(transfer_plan, "may_be_alive", lambda _worker: False)
    done = transfer(*places)
    fleet.wait_event("moved")
    assert fleet.end() == 1
    assert f"moved to {done.target}" in fleet.complaints
    assert "Traceback" not in fleet.complaints
    assert fleet.told("died", "crash_loop") == []
    assert fleet.told("moved")[0].text == "the fleet stops; start it again on the new address"


def test_a_fleet_that_is_started_on_the_old_address_ends(
    db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    with DurableQ(db) as dq:
        dq.queue("orders").send({"do": "nothing"})
    target = str(tmp_path / "new.db")
    transfer(str(db), target)
    fleet = nursery.fleet(db, app=APP, procs=1)
    assert fleet.end() == 1
    assert f"was moved to {target}" in fleet.complaints


#: Sends until it is refused, and prints the refusal.
PRODUCE = """
import sys
from durableq import DurableQ
dq = DurableQ(sys.argv[1])
queue = dq.queue("orders")
sent = 0
try:
    while True:
        queue.send(sent, key=f"k{sent}")
        sent += 1
        print("sent", sent, flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.parametrize("places", KINDS[:2], indirect=True)
def test_no_send_of_a_producer_that_runs_meanwhile_is_lost(
    places: Places, nursery: Nursery
) -> None:
    """A send is in the target, or its caller was told that it is not."""
    with DurableQ(places.source) as dq:
        dq.queue("orders")
        dq.init()
    producer = nursery.run(sys.executable, "-c", PRODUCE, places.source)
    producer.wait_line("sent 20")
    done = transfer(*places)
    producer.process.wait()
    *sent, refusal = producer.said
    assert refusal.startswith("DatabaseMoved ")
    assert places.target.rpartition("schema=")[2] in refusal
    with opened(places.target) as store:
        keys = {message.key for message in store.peek("orders", 1_000_000)}
    assert keys == {f"k{number}" for number in range(len(sent))}
    assert done.rows["durableq_message"] == len(sent)


#: Waits for a message of an empty queue, and prints the refusal.
WAIT = """
import sys
from durableq import DurableQ
store = DurableQ(sys.argv[1]).store
print("waits", flush=True)
try:
    print(store.receive("orders", 1, wait_ms=20_000), flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.parametrize("places", KINDS[:2], indirect=True)
def test_a_receive_that_waits_is_told(places: Places, nursery: Nursery) -> None:
    """The queue is empty, and so is its copy: there is nothing to receive."""
    with DurableQ(places.source) as dq:
        dq.queue("orders")
        dq.init()
    waiting = nursery.run(sys.executable, "-c", WAIT, places.source)
    waiting.wait_line("waits")
    transfer(*places)
    assert waiting.end() == 0
    assert waiting.said[-1].startswith("DatabaseMoved ")
