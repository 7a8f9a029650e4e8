"""Real processes under a wall clock that jumps: Debian's faketime sets it by a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.model.limits import DAY_MS
from durableq.model.message import Failure, Reason, draft
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import APP, EFFECT
from tests.process.child import ROOT, Nursery
from tests.support import scaled, wait_for

KEYS = [f"order-{number}" for number in range(20)]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
SEND = """
import sys
from durableq import DurableQ
with DurableQ(sys.argv[1]) as dq:
    dq.queue("orders").send("answered")
"""
READ = "import time; print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))"


# libfaketime 0.9.10 takes the monotonic deadline of Python's sleep for a faked one: EINVAL.
SLEEP = """
import select, time
def sleep(seconds):
    select.select([], [], [], seconds)
time.sleep = sleep
"""


class FakeTime:
    """A wall clock that the processes with this environment read, and a test sets."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "faketime"
        (folder / "sitecustomize.py").write_text(SLEEP)
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        }

    def set(self, days: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{86_400 * days:+}\n")
        new.rename(self._file)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def fake(tmp_path: Path) -> FakeTime:
    if not LIBRARIES:
        pytest.skip("Debian's faketime is not installed: apt-get install faketime")
    fake = FakeTime(tmp_path)
    fake.set(10)
    wall, boot = map(float, fake.run("-c", READ).split())
    if abs(wall - time.time() - 864_000) > 60:
        pytest.skip("this faketime does not set the wall clock")
    if abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME)) > 60:
        pytest.skip("this faketime sets the boot clock too")
    fake.set(0)
    return fake


def fill(dq: DurableQ) -> None:
    """Leave dead letters and messages that are delayed by an hour."""
    dq.store.send("bulk", [draft({"n": n}) for n in range(5)])
    dead = [message.receipt for message in dq.store.receive("bulk", 5).messages]
    rejected = Failure(Reason.REJECTED, "", "")
    dq.store.fail([(receipt, rejected) for receipt in dead if receipt is not None])
    dq.store.send("bulk", [draft({"n": n}, delay=3600) for n in range(30)])


def test_a_fleet_whose_wall_clock_jumps_loses_nothing_and_does_nothing_twice(
    dq: DurableQ, db: Path, nursery: Nursery, fake: FakeTime
) -> None:
    plain.script(db, EFFECT)
    fill(dq)
    orders = dq.queue("orders")
    fleet = nursery.work("--db", db, "--app", APP, "--procs", 2, cwd=ROOT, **fake.environment)
    for number, days in enumerate((0, 366, 0, -21, 0), start=1):
        fake.set(days)
        for key in KEYS:
            orders.send({"order": key}, key=key)
        handled = number * len(KEYS)

        def all_handled(number: int = handled) -> bool:
            counters = orders.info().counters
            return counters.completed + counters.duplicates == number

        wait_for(all_handled, seconds=60, what=f"{handled} handled, at {days} days")
        pruned = fake.run("-m", "durableq", "prune", "--db", str(db))
        assert "Pruned 0 records, 0 expired messages, 0 values, 0 items and 0 events" in pruned
    assert "the wall clock jumped" in fleet.complaints
    assert "Traceback" not in fleet.complaints
    told = json.loads(fake.run("-m", "durableq", "doctor", "--db", str(db), "--json"))
    [found] = [finding for finding in told["findings"] if finding["name"] == "wall_clock"]
    assert found["level"] == "warn"
    assert sorted(plain.column(db, "SELECT key FROM effect")) == sorted(KEYS)
    assert (
        dq.queue("bulk").info().counts.delayed,
        dq.store.require(Capability.INSPECT).queue("bulk-dlq").counts.ready,
    ) == (
        30,
        5,
    )
    assert sum(info.counters.expired for info in dq.store.require(Capability.INSPECT).queues()) == 0
    assert all(
        dq.store.require(Capability.IDEMPOTENCY).record("orders", key) is not None for key in KEYS
    )


def test_a_message_sent_by_a_clock_that_is_behind_outlives_its_correction(
    dq: DurableQ, db: Path, fake: FakeTime
) -> None:
    """As on a machine that has no clock of its own, and starts with an old date."""
    dq.close()
    fake.set(-21)
    fake.run("-c", SEND, str(db))
    fake.set(0)
    fake.run("-m", "durableq", "prune", "--db", str(db))
    with DurableQ(db) as again:
        [message] = again.store.receive("orders", 1).messages
        assert abs(message.sent_at_ms - 1000 * time.time()) < DAY_MS
