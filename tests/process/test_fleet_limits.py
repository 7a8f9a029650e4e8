"""--max-messages and --max-rss: a worker makes room for a fresh one, and drops nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.facts import REASONS, completed, receives, send
from tests.process.fleet_app import APP, GROWTH

LARGE = """
import sys
from pathlib import Path
from durableq import DurableQ
from tests.support import wait_for

dq = DurableQ()
large = b"x" * (100 << 20)


@dq.handler("orders")
def act(message):
    return None


if '"worker-1"' in sys.argv[-1]:
    Path("large").touch()
    wait_for(Path("go").exists, seconds=30, what="the test to have seen it")
"""


def test_a_worker_is_replaced_after_exactly_max_messages(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    keys = [f"k{number}" for number in range(7)]
    send(dq, "bulk", dict.fromkeys(keys, "nothing"))
    fleet = nursery.fleet(db, app=APP, max_messages=3, drain=True)
    assert fleet.end() == 0
    assert receives(ledger) == [f"{key}#1" for key in keys]
    assert list(Counter(ledger.pids("invoke")).values()) == [3, 3, 1]
    ends = [said.text.rpartition(": ")[2] for said in fleet.told("ended")]
    assert ends == ["used up", "used up", "drained"]
    assert completed(db, "bulk") == 7
    assert plain.column(db, REASONS) == []


def test_a_worker_that_grows_too_large_finishes_its_handlers_and_is_replaced(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send(dq, "orders", {"large": "grow"})
    fleet = nursery.fleet(db, app=APP, max_rss=f"{GROWTH >> 20}M")
    large = fleet.wait_event("too_large")
    assert [large.pid] == ledger.pids("invoke")
    ledger.open_gate()
    fresh = fleet.wait_event("ready", times=2)
    assert [said.text.rpartition(": ")[2] for said in fleet.told("ended")] == ["stopped"]
    assert receives(ledger) == ["large#1"]
    assert completed(db, "orders") == 1
    send(dq, "orders", {"later": "nothing"})
    fleet.wait_until(lambda: completed(db, "orders") == 2, "the fresh one to go on")
    assert ledger.pids("done") == [large.pid, fresh.pid]
    assert plain.column(db, REASONS) == []


def test_a_worker_is_not_replaced_for_the_memory_of_its_start(
    db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    (tmp_path / "shop.py").write_text(LARGE)
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, procs=2, max_rss="100M")
    fleet.wait_until((tmp_path / "large").exists, "a worker that is large and starts")
    before = len(fleet.told("too_large"))
    fleet.wait_event("too_large", times=before + 1)  # both were looked at, the other one received
    assert {said.worker for said in fleet.told("too_large")} == {"worker-2"}
    (tmp_path / "go").touch()
    fleet.wait_until(lambda: "worker-1" in {said.worker for said in fleet.told("ready")}, "it")
