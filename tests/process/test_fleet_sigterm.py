"""SIGTERM and SIGINT: running handlers finish, other messages are released uncounted."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.runtime.signals import REPEAT_SECONDS
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, Supervisor
from tests.process.facts import (
    REASONS,
    STATES,
    completed,
    on_both_engines,
    receives,
    send,
    send_five,
)
from tests.process.fleet_app import APP
from tests.support import wait_for

pytestmark = on_both_engines

#: Both signals have the same handler. So both meet the first stop, each one of the others.
STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
TERM = pytest.mark.parametrize("number", [signal.SIGTERM], ids=lambda n: n.name)
INT = pytest.mark.parametrize("number", [signal.SIGINT], ids=lambda n: n.name)
SLOW_TO_START = """
import os, signal, sys
from pathlib import Path
from durableq import DurableQ

dq = DurableQ()


@dq.handler("orders")
def act(message):
    return None


if sys.argv[0].endswith("worker/__main__.py"):
    Path("starting").touch()
    while True:
        signal.pause()
"""


def has_let_go_of_everything(dq: DurableQ, db: Path, fleet: Supervisor, messages: int) -> bool:
    """Check that no process runs, and that the messages left are ready and uncounted."""
    assert fleet.family == []
    assert dq.store.require(Capability.FLEET).workers() == []
    assert plain.rows(db, STATES) == [(0, 0)] * messages
    assert plain.column(db, REASONS) == []
    plain.check_sound(db)
    return True


def start_with_five(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, grace: float
) -> Supervisor:
    """Start a fleet that handles the first of five messages, and has received the others."""
    send_five(dq, "wait")
    fleet = nursery.fleet(db, app=APP, procs=2, grace=grace)
    fleet.wait_until(lambda: ledger.lines("invoke"), "the first of five begun")
    fleet.wait_event("ready", times=2)
    assert plain.rows(db, STATES) == [(1, 1)] * 5
    return fleet


@STOPS
def test_one_sigterm_finishes_running_handlers_and_releases_the_rest(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, number: signal.Signals
) -> None:
    fleet = start_with_five(dq, db, ledger, nursery, grace=30)
    fleet.signal(number)
    fleet.wait_event("stopping")
    ledger.open_gate()
    assert fleet.end() == 0
    assert receives(ledger) == ["k0#1"]
    assert completed(db, "bulk") == 1
    assert has_let_go_of_everything(dq, db, fleet, messages=4)


@TERM
def test_handlers_that_exceed_the_grace_are_killed_and_released_uncounted(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, number: signal.Signals
) -> None:
    fleet = start_with_five(dq, db, ledger, nursery, grace=0.2)
    fleet.signal(number)
    assert fleet.end() == 128 + number
    assert set(ledger.pids("invoke")) <= {said.pid for said in fleet.told("overdue")}
    assert ledger.lines("done") == []
    assert has_let_go_of_everything(dq, db, fleet, messages=5)


@INT
def test_two_sigterms_stop_a_fleet_at_once_and_release_uncounted(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, number: signal.Signals
) -> None:
    fleet = start_with_five(dq, db, ledger, nursery, grace=600)
    fleet.signal(number)
    fleet.wait_event("stopping")
    stopping = time.monotonic()
    wait_for(lambda: time.monotonic() > stopping + REPEAT_SECONDS, what="a second to pass")
    fleet.signal(number)
    assert fleet.end() == 128 + number
    assert ledger.lines("done") == []
    assert has_let_go_of_everything(dq, db, fleet, messages=5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
    ],
    ids=["SIGTERM", "both"],
)
def test_a_signal_delivered_twice_is_one_stop(
    dq: DurableQ,
    db: Path,
    ledger: Ledger,
    nursery: Nursery,
    first: signal.Signals,
    second: signal.Signals,
) -> None:
    fleet = start_with_five(dq, db, ledger, nursery, grace=30)
    fleet.signal(first)
    fleet.wait_event("stopping")  # so that the kernel cannot merge them
    fleet.signal(second)
    fleet.wait_event("ended")  # the other worker, which is idle
    ledger.open_gate()
    assert fleet.end() == 0
    assert fleet.told("stopping_at_once", "overdue") == []
    assert receives(ledger) == ["k0#1"]
    assert completed(db, "bulk") == 1


def test_a_sigterm_while_workers_start_ends_a_fleet_with_0(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    fleet = nursery.fleet(db, app=APP, procs=4)
    fleet.wait_event("started", times=4)
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0, fleet.complaints
    assert has_let_go_of_everything(dq, db, fleet, messages=0)


def test_a_worker_whose_import_hangs_stops_on_request(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_TO_START)
    fleet = nursery.fleet(db, app="slow:dq", cwd=tmp_path)
    fleet.wait_until((tmp_path / "starting").exists, "the worker to import its application")
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0, fleet.complaints
    (ended,) = fleet.told("ended")
    assert "ended: stopped" in ended.text


def test_a_worker_that_another_process_stops_finishes_and_is_replaced(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    fleet = start_with_five(dq, db, ledger, nursery, grace=30)
    (pid,) = ledger.pids("invoke")
    fleet.worker(pid).terminate()
    ledger.open_gate()
    third = fleet.wait_event("ready", times=3)
    (ended,) = fleet.told("ended")
    assert (ended.pid, ended.worker) == (pid, third.worker)
    fleet.wait_until(lambda: completed(db, "bulk") == 5, "all to be done")
    assert receives(ledger) == ["k0#1", "k1#1", "k2#1", "k3#1", "k4#1"]
    send(dq, "orders", {"later": "nothing"})
    fleet.wait_until(lambda: completed(db, "orders") == 1, "the fleet to go on")
    assert plain.column(db, REASONS) == []
