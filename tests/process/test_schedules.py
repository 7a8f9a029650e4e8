"""A slot is sent once by any number of workers, also where they are killed while they send it."""

from __future__ import annotations

import itertools
import signal
from datetime import datetime
from pathlib import Path

from durableq import DurableQ
from durableq.store.core import Capability
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.facts import on_both_engines
from tests.process.schedule_points import APP, NAME, POINTS

pytestmark = on_both_engines
SLOTS = 6


def ticks(ledger: Ledger) -> list[datetime]:
    """Return the slot of each message that was handled, sorted.

    A worker that is killed while it fires may be handling a message, which is then handled again.
    """
    handled = {line.of for line in ledger.lines("tick")}
    return sorted(datetime.fromisoformat(each.partition("/")[0]) for each in handled)


def test_each_slot_is_one_message_where_workers_are_killed_while_they_fire(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    fleet = nursery.fleet(db, app=APP, procs=4)
    fleet.wait_until(lambda: len(ledger.lines("dies")) == len(POINTS), "three workers to die")
    before = len(ticks(ledger))
    fleet.wait_until(lambda: len(ticks(ledger)) >= before + SLOTS, "slots after them")
    schedules = dq.store.require(Capability.SCHEDULES)
    schedules.pause_schedule(NAME, paused=True)
    sent = schedules.schedule(NAME).sent
    fleet.wait_until(lambda: len(ticks(ledger)) >= sent, "all messages to be handled")
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    slots = ticks(ledger)
    assert len(slots) == sent
    apart = {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(slots)}
    assert apart == {1.0}
    assert dq.queue(NAME).info().counters.sent == sent


def test_a_worker_that_is_idle_wakes_for_the_next_slot(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    for point in POINTS:
        ledger.first(point)
    worker = nursery.fleet(db, app=APP, procs=1)
    worker.wait_until(lambda: len(ticks(ledger)) >= 3, "three slots")
    [listed] = dq.store.require(Capability.FLEET).workers()
    assert listed.schedules == (NAME,)
    [info] = dq.store.require(Capability.SCHEDULES).schedules()
    assert info.skipped == 0
