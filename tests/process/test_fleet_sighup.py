"""SIGHUP: new code, worker by worker; nothing is lost, and code that does not start stays out.

A SIGHUP from a closed terminal is a stop.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from durableq import DurableQ
from durableq.admin.status import look
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, Said, Supervisor
from tests.process.facts import REASONS, completed, send
from tests.process.fleet_app import APP
from tests.support import wait_for

CODE = """
from durableq import DurableQ

dq = DurableQ()


@dq.handler("orders")
def act(message):
    return "{version}"
"""


def install(folder: Path, code: str) -> None:
    (folder / "shop.py").write_text(code)


def start(db: Path, folder: Path, nursery: Nursery) -> Supervisor:
    """Two workers with the first version of an application."""
    install(folder, CODE.format(version="one"))
    fleet = nursery.fleet(db, app="shop:dq", cwd=folder, procs=2)
    fleet.wait_event("ready", times=2)
    return fleet


def version_of(dq: DurableQ, fleet: Supervisor, key: str) -> str | None:
    """Send a message and return the version of the code that handled it."""
    before = completed(Path(dq.url), "orders")
    send(dq, "orders", {key: "nothing"})
    fleet.wait_until(lambda: completed(Path(dq.url), "orders") > before, "it to be handled")
    record = dq.store.require(Capability.IDEMPOTENCY).record("orders", key)
    assert record is not None
    return record.result


def states(dq: DurableQ) -> dict[str, str]:
    """Return the states that `status` shows, by the process's name without the pid."""
    return {view.info.name.partition(":")[0]: view.state for view in look(dq.store).workers}


def fewest_ready(told: Sequence[Said], procs: int) -> int:
    """Return the smallest number of workers that received, since all did for the first time."""
    ready: set[int] = set()
    fewest, up = procs, False
    for said in told:
        if said.event == "ready":
            ready.add(said.pid)
            up = up or len(ready) == procs
        elif said.event in {"ended", "died"}:
            ready.discard(said.pid)
        fewest = min(fewest, len(ready)) if up else fewest
    return fewest


def test_workers_are_replaced_one_by_one_and_the_new_ones_load_new_code(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(db, tmp_path, nursery)
    assert version_of(dq, fleet, "before") == '"one"'
    install(tmp_path, CODE.format(version="another"))
    send(dq, "orders", {f"meanwhile {number}": "nothing" for number in range(50)})
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("ready", times=4)
    assert version_of(dq, fleet, "after") == '"another"'
    old, new = fleet.told("ready")[:2], fleet.told("ready")[2:]
    assert {said.pid for said in old}.isdisjoint(said.pid for said in new)
    assert [said.worker for said in new] == ["worker-1", "worker-2"]
    assert fewest_ready(fleet.told(), procs=2) == 2
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    assert completed(db, "orders") == 52
    assert plain.column(db, REASONS) == []
    plain.check_sound(db)


def test_code_that_does_not_import_replaces_no_worker_and_a_later_reload_heals(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(db, tmp_path, nursery)
    install(tmp_path, "raise RuntimeError('it is broken')")
    fleet.signal(signal.SIGHUP)
    said = fleet.wait_event("not_renewed")
    assert "go on with the code that they have" in said.text
    assert "it is broken" in fleet.complaints
    assert version_of(dq, fleet, "meanwhile") == '"one"'
    assert fleet.told("ended") == []
    fleet.wait_until(lambda: states(dq).get("supervisor") == "reload failed", "it to be listed")
    install(tmp_path, CODE.format(version="mended"))
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("ready", times=4)
    assert version_of(dq, fleet, "after") == '"mended"'
    assert plain.column(db, REASONS) == []
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    assert dq.store.require(Capability.FLEET).workers() == []


def test_a_fleet_that_stops_starts_no_worker_with_new_code(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    send(dq, "orders", {"slow": "wait"})
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    fleet.wait_until(lambda: ledger.lines("invoke"), "a handler to be busy")
    fleet.signal(signal.SIGTERM)
    fleet.wait_event("ended")
    fleet.signal(signal.SIGHUP)
    ledger.open_gate()
    assert fleet.end() == 0
    assert len(fleet.told("started")) == 2
    assert fleet.told("renewing") == []
    assert completed(db, "orders") == 1


@pytest.mark.parametrize("stopping", [False, True])
def test_a_fleet_whose_terminal_is_closed_drains_also_if_it_was_stopping(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, *, stopping: bool
) -> None:
    send(dq, "orders", {"slow": "wait"})
    fleet = nursery.fleet_in_terminal(db, app=APP)
    fleet.wait_until(lambda: ledger.lines("invoke"), "a handler to be busy")
    (supervisor,) = psutil.Process(fleet.pid).children()
    if stopping:
        supervisor.terminate()
        fleet.wait_event("stopping")
    fleet.close_terminal()
    fleet.wait_event("stopping")
    wait_for(lambda: supervisor.terminal() is None, what="the terminal to go")
    ledger.open_gate()
    assert fleet.end() == 0
    assert fleet.told("stopping_at_once", "renewing") == []
    assert completed(db, "orders") == 1


def test_under_nohup_a_fleet_outlives_its_terminal_and_still_renews_its_workers(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    fleet = nursery.fleet_in_terminal(db, "nohup", app=APP)
    fleet.wait_event("ready")
    fleet.close_terminal()
    fleet.wait_event("terminal_gone")
    (supervisor,) = psutil.Process(fleet.pid).children()
    supervisor.send_signal(signal.SIGHUP)
    fleet.wait_event("ready", times=2)
    send(dq, "orders", {"later": "nothing"})
    fleet.wait_until(lambda: completed(db, "orders") == 1, "the fleet to go on")
    assert fleet.told("stopping") == []
    supervisor.terminate()
    assert fleet.end() == 0
