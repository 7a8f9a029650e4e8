"""--timeout: a handler over its limit is killed, and only its message counts the failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.facts import completed, events_of, receives, send
from tests.process.fleet_app import APP
from tests.support import scaled

TIMED_OUT = ("failed", "timeout")
BATCHES = """
from threading import Event
from durableq import DurableQ

dq = DurableQ()


@dq.handler("orders", batch=10)
def act(batch):
    Event().wait()
"""


@pytest.mark.parametrize(("act", "threads"), [("spin", 2), ("hold", 1)])
def test_a_handler_that_runs_too_long_is_stopped_and_its_message_alone_counts(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, act: str, threads: int
) -> None:
    os.mkfifo(ledger.pipe)
    # One thread has k0 begun, and k1 to k4 behind it; another, if it can run, always a quick one.
    quick = [f"k{number}" for number in range(1, 40)]
    first, *others = send(dq, "bulk", {"k0": f"{act} once"} | dict.fromkeys(quick, "pause"))
    fleet = nursery.fleet(db, app=APP, threads=threads, timeout=scaled(0.4), drain=True)
    assert fleet.end() == 0
    assert events_of(db, first) == [TIMED_OUT]
    assert [events_of(db, other) for other in others] == [[]] * len(others)
    assert set(receives(ledger)) == {"k0#1", "k0#2"} | {f"{key}#1" for key in quick}
    (stopped,) = fleet.told("timeout")
    assert f"message {first} " in stopped.text
    assert len(set(ledger.pids("invoke"))) == 2
    assert stopped.pid not in {line.pid for line in ledger.lines("done") if line.of == "k0"}
    assert completed(db, "bulk") == len(quick) + 1


def test_a_message_that_times_out_every_time_ends_in_the_dead_letter_queue(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    dq.queue("orders", max_receives=2)
    bad, good = send(dq, "orders", {"bad": "spin", "good": "nothing"})
    fleet = nursery.fleet(db, app=APP, timeout=scaled(0.3), drain=True)
    assert fleet.end() == 0
    assert events_of(db, bad) == [TIMED_OUT, TIMED_OUT, ("buried", "timeout")]
    assert events_of(db, good) == []
    dead_letter = dq.store.require(Capability.DEAD_LETTERS).dead_letter(bad)
    assert dead_letter is not None
    assert dead_letter.reason == "timeout"
    assert completed(db, "orders") == 1
    assert len(fleet.told("timeout")) == 2
    plain.check_sound(db)


def test_a_batch_that_runs_too_long_is_said_to_be_one(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    dq.queue("orders", max_receives=1)
    ids = send(dq, "orders", {"one": "nothing", "two": "nothing"})
    (tmp_path / "shop.py").write_text(BATCHES)
    limit = round(scaled(0.3), 1)
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, timeout=limit, drain=True)
    assert fleet.end() == 0
    assert [events_of(db, one) for one in ids] == [[TIMED_OUT, ("buried", "timeout")]] * 2
    (stopped,) = fleet.told("timeout")
    assert f"was busy with a batch for more than {limit:g} s" in stopped.text
