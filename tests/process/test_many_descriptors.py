"""Descriptors beyond 1,023, which select() cannot take; and none of ours stays open."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durableq import Delivery, Discard, DurableQ, Reject
from durableq.recovery.process import Recovery
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.cli.console import environment
from tests.descriptors import opened
from tests.engine import plain
from tests.process import app
from tests.process.app import Ledger
from tests.support import scaled

MANY = 1_100
LIMIT = 2 * MANY
#: Runs the command where each new descriptor has a number that select() refuses.
COMMAND = f"""
import os, resource, sys
hardest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, hardest))
for _ in range({MANY}):
    os.open(os.devnull, os.O_RDONLY)
from durableq.cli import main
sys.exit(main())
"""


@pytest.fixture
def many() -> Iterator[None]:
    """So many open descriptors in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(LIMIT, before[0]), before[1]))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(MANY)]
    assert taken[-1] > 1_023
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def worker(dq: DurableQ) -> Worker:
    return Worker(dq, WorkerOptions("", dq.url, "worker", max_messages=1))


@pytest.mark.usefixtures("many")
def test_a_worker_waits_and_recovery_runs(dq: DurableQ) -> None:
    orders = dq.queue("orders", max_receives=1)
    sender = threading.Timer(0.2, orders.send, ["bad"])
    sender.start()

    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        raise Reject("bad")

    worker(dq).run()
    sender.join()
    dq.recovery("orders")(lambda _: Discard("looked at"))
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 1
    assert dq.once("key", lambda: 7, ttl=60) == 7


def test_a_fleet_and_recovery_run(dq: DurableQ, db: Path, ledger: Ledger) -> None:
    """Their pipes, and those that workers inherit, have such numbers."""
    plain.script(db, app.EFFECT)
    for key in ("a", "b"):
        dq.queue("orders").send({}, key=key)
    for command in (["work", "--procs", "2", "--drain"], ["recover", "--once"]):
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, *command, f"--db={db}", f"--app={app.APP}"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert len(ledger.lines("done")) == 2


# ---- none stays open


def test_a_closed_application_leaves_no_descriptor_open(dq: DurableQ) -> None:
    orders = dq.queue("orders")
    dq.close()
    before = opened()
    for number in range(3):
        thread = threading.Thread(target=orders.send, args=["of another thread"])
        thread.start()
        thread.join()
        with closing(dq.store.watch()) as watch:
            assert not watch.wait(0.01)
        (message,) = orders.receive()
        with message.transaction() as tx:
            tx.execute("SELECT 1")
        assert dq.once(f"key {number}", lambda: 7, ttl=60) == 7
        dq.close()
        assert opened() == before


def test_a_worker_and_recovery_that_have_ended_leave_no_descriptor_open(dq: DurableQ) -> None:
    """Something may refer to them for long: a logged error refers to them by its traceback."""
    orders = dq.queue("orders", max_receives=1)
    dq.close()
    before, kept = opened(), []

    @dq.handler("orders")
    def handle(_: Delivery) -> None:
        raise Reject("bad")

    dq.recovery("orders")(lambda _: Discard("looked at"))
    for _ in range(3):
        orders.send("bad")
        kept.append(worker(dq))
        kept[-1].run()
        assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 1
        dq.close()
        assert opened() == before
