"""Defects that a review of the fleet found, each with the sequence that showed it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery, Supervisor, runs
from tests.support import scaled, wait_for

APP = """
import signal, threading
from pathlib import Path
from typing import Any
from durableq import DurableQ
from tests.process.app import Ledger

dq = DurableQ()


@dq.handler("orders")
def act(message):
    ledger = Ledger(dq.url)
    ledger.note("invoke", message.id)
    if message.body == "leave a thread":
        threading.Thread(target=threading.Event().wait).start()
    if message.body == "make SIGTERM deadly":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if message.body != "leave a thread":
        ledger.wait_at_gate()
    ledger.note("done", message.id)
"""


@pytest.fixture
def dq(db: Path) -> Iterator[DurableQ]:
    with DurableQ(db) as dq:
        yield dq


def start(nursery: Nursery, db: Path, tmp_path: Path, **options: Any) -> Supervisor:
    (tmp_path / "odd.py").write_text(APP)
    return nursery.fleet(db, app="odd:dq", cwd=tmp_path, **options)


def test_a_worker_that_ends_by_an_error_is_replaced_though_a_thread_keeps_it(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, ledger: Ledger
) -> None:
    dq.queue("orders").send("leave a thread")
    fleet = start(nursery, db, tmp_path, grace=0.3)
    fleet.wait_until(lambda: ledger.lines("done"), "the thread to be left")
    (pid,) = ledger.pids("done")
    dq.store.require(Capability.CONTROL).delete_queue("orders", force=True)
    fleet.wait_event("died")
    assert fleet.told("died")[0].pid == pid
    fleet.wait_event("started", times=2)


def test_a_lease_made_shorter_while_the_fleet_runs_is_kept_all_the_same(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, ledger: Ledger
) -> None:
    lease_ms = round(1000 * scaled(0.15))  # enough for an extension on a loaded machine
    orders = dq.queue("orders", visibility_timeout=30)
    dq.init()
    fleet = start(nursery, db, tmp_path, procs=2)
    fleet.wait_event("ready", times=2)
    dq.store.declare_queue("orders", {"visibility_timeout_ms": lease_ms})
    message_id = orders.send("wait")
    fleet.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    leased_until = "SELECT lease_until_ms FROM durableq_message"
    first = plain.one(db, leased_until)
    fleet.wait_until(
        lambda: plain.one(db, leased_until) > first + 4 * lease_ms, "four leases to pass"
    )
    ledger.open_gate()
    fleet.wait_until(lambda: ledger.lines("done"), "its handler to end")
    wait_for(
        lambda: dq.store.require(Capability.INSPECT).message(message_id) is None,
        what="it to be completed",
    )
    assert len(ledger.lines("invoke")) == 1
    assert dq.store.require(Capability.DEAD_LETTERS).history(message_id) == []


def test_where_a_handler_made_sigterm_deadly_its_message_is_back_at_once_uncounted(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, ledger: Ledger
) -> None:
    message_id = dq.queue("orders").send("make SIGTERM deadly")
    fleet = start(nursery, db, tmp_path)
    fleet.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    pid = ledger.pids("invoke")[0]
    wait_for(lambda: not _catches_sigterm(pid), what="SIGTERM to be deadly")
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 128 + signal.SIGTERM
    message = dq.store.require(Capability.INSPECT).message(message_id)
    assert message is not None
    assert (message.state.label, message.receive_count) == ("ready", 0)
    assert dq.store.require(Capability.DEAD_LETTERS).history(message_id) == []


def _catches_sigterm(pid: int) -> bool:
    (caught,) = (
        int(line.split()[1], 16)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    )
    return bool(caught & (1 << (signal.SIGTERM - 1)))


def test_without_its_supervisor_a_command_that_does_not_end_is_stopped_after_the_grace(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    dq.queue("orders").send("x")
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 600"
    command = f"sh -c '{script}'"
    fleet = nursery.work("--db", db, "--queue", "orders", "--grace", "0.5", "--exec", command)
    fleet.wait_until(pid_file.exists, "the command to run")
    process = psutil.Process(int(pid_file.read_text()))
    fleet.kill()
    wait_for(lambda: not runs(process), what="the command to be stopped", seconds=20)
    assert plain.counters(db, "orders")["completed"] == 0
