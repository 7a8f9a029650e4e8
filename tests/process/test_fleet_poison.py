"""Messages that kill their workers: they are buried, the others completed, the fleet lives."""

from __future__ import annotations

from pathlib import Path

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.facts import completed, events_of, on_both_engines, send
from tests.process.fleet_app import APP

pytestmark = on_both_engines

LOST = ("failed", "worker_lost")


def test_messages_that_kill_their_workers_are_buried_and_take_nothing_along(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    dq.queue("bulk", max_receives=2)
    acts = {f"k{number:02}": "nothing" for number in range(15)}
    acts |= {"k01": "kill", "k02": "abort"}
    ids = dict(zip(acts, send(dq, "bulk", acts), strict=True))
    fleet = nursery.fleet(db, app=APP, procs=2, drain=True)
    assert fleet.end() == 0
    poison = [key for key, act in acts.items() if act != "nothing"]
    for key in poison:
        assert events_of(db, ids[key]) == [LOST, LOST, ("buried", "worker_lost")]
    good = [key for key in acts if key not in poison]
    assert [key for key in good if events_of(db, ids[key])] == [], "a good one was blamed"
    assert {line.of for line in ledger.lines("done")} == set(good)
    assert completed(db, "bulk") == len(good)
    causes = [said.text.split()[-2].rstrip(";") for said in fleet.told("died")]
    assert sorted(causes) == ["SIGABRT"] * 2 + ["SIGKILL"] * 2
    assert dq.store.require(Capability.FLEET).workers() == []
    plain.check_sound(db)
