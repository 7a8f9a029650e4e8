"""One worker of a fleet is asked to end: it finishes, and the others go on."""

from __future__ import annotations

from pathlib import Path

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.facts import completed, on_both_engines, receives, send, send_five
from tests.process.fleet_app import APP

pytestmark = on_both_engines


def test_one_worker_drains_and_the_other_goes_on(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send_five(dq, "wait")
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_until(lambda: ledger.lines("invoke"), "the first of five begun")
    fleet.wait_event("ready", times=2)
    store = dq.store.require(Capability.FLEET)
    [busy] = [worker for worker in store.workers() if store.leases_of(worker.owner_id)]
    assert store.drain(busy.owner_id)
    assert fleet.wait_event("dismissed").pid == busy.pid
    ledger.open_gate()
    assert fleet.wait_event("ended").pid == busy.pid
    fleet.wait_until(
        lambda: completed(db, "bulk") == 5, "the other has handled those that it had not begun"
    )
    send(dq, "bulk", {f"later-{number}": "nothing" for number in range(5)})
    fleet.wait_until(lambda: completed(db, "bulk") == 10, "the other works")
    assert len(fleet.told("started")) == 2, "it was replaced"
    assert [worker.pid for worker in store.workers()] != [busy.pid]
    assert len(store.workers()) == 1
    keys = {line.split("#")[0] for line in receives(ledger)}
    assert receives(ledger) == sorted(f"{key}#1" for key in keys)
    assert len(keys) == 10
    [last] = store.workers()
    assert store.drain(last.owner_id)
    assert fleet.end() == 0
    plain.check_sound(db)
