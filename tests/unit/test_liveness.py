"""Liveness of workers, judged by more than the pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from durableq.engines.memory import MemoryStore
from durableq.model.message import State, draft
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import WorkerInfo
from durableq.supervisor.liveness import (
    Liveness,
    end_of,
    liveness,
    this_process,
)
from durableq.supervisor.peers import reclaim_dead_workers
from tests.support import scaled, wait_for

CHILD = """
import dataclasses, json, sys
from durableq.supervisor.liveness import this_process
open("/proc/self/comm", "w").write(") Z 1 (")  # a name that looks like more of the line
print(json.dumps(dataclasses.asdict(this_process("child"))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CHILD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def worker_of(child: subprocess.Popen[str]) -> WorkerInfo:
    assert child.stdout is not None
    return WorkerInfo(**json.loads(child.stdout.readline()))


def test_this_process_lives() -> None:
    here = this_process("me")
    assert (here.name, here.pid) == ("me", os.getpid())
    assert here.boot_id
    assert here.pid_namespace.startswith("pid:[")
    assert liveness(here) is Liveness.ALIVE
    assert this_process("me") == here


def test_the_end_of_another_process_ends_a_wait(child: subprocess.Popen[str]) -> None:
    worker = worker_of(child)
    with end_of(worker) as end:
        assert end is not None
        assert not wait_readable(0, end)
        child.kill()  # and not reaped: a zombie has ended
        assert wait_readable(scaled(30), end)
    with end_of(worker) as end:
        assert end is None


def test_the_end_of_a_process_that_cannot_be_seen_is_not_waited_for() -> None:
    here = this_process("me")
    of_another_host = replace(here, boot_id="another", host_id="another")
    for hidden in (of_another_host, replace(here, pid_namespace="another")):
        with end_of(hidden) as end:
            assert end is None


def test_another_process_lives_until_it_ends(child: subprocess.Popen[str]) -> None:
    worker = worker_of(child)
    assert liveness(worker) is Liveness.ALIVE
    child.communicate()
    assert liveness(worker) is Liveness.DEAD


def test_a_zombie_is_dead(child: subprocess.Popen[str]) -> None:
    worker = worker_of(child)
    child.kill()
    wait_for(lambda: liveness(worker) is Liveness.DEAD)
    assert psutil.pid_exists(worker.pid), "its pid is still taken: nobody has asked how it ended"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"created_ms": 1}, Liveness.DEAD),
        ({"boot_id": "another"}, Liveness.DEAD),
        ({"boot_id": "another", "pid_namespace": "pid:[1]"}, Liveness.DEAD),
        ({"boot_id": "another", "host_id": ""}, Liveness.DEAD),  # of before revision 0005
        ({"boot_id": "another", "host_id": "another"}, Liveness.UNKNOWN),
        ({"host_id": "another"}, Liveness.ALIVE),  # a container on this machine
        ({"boot_id": ""}, Liveness.ALIVE),
        ({"pid_namespace": "pid:[1]"}, Liveness.UNKNOWN),
        ({"pid_namespace": ""}, Liveness.UNKNOWN),
    ],
    ids=str,
)
def test_a_process_that_differs_in_one_property_is_judged(
    change: dict[str, Any], expected: Liveness
) -> None:
    assert liveness(replace(this_process("me"), **change)) is expected


def test_an_invisible_process_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = replace(this_process("me"), pid=1 << 30)
    assert liveness(hidden) is Liveness.DEAD
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    assert liveness(hidden) is Liveness.UNKNOWN


def test_only_messages_of_dead_workers_are_reclaimed() -> None:
    store, here = MemoryStore(), this_process("me")
    store.declare_queue("orders", {"backoff_base_ms": 0})
    ids = store.send("orders", [draft(number) for number in range(3)])
    infos = [here, replace(here, created_ms=1), replace(here, pid_namespace="pid:[1]")]
    workers = [store.register(worker) for worker in infos]
    for worker in workers:
        store.receive("orders", 1, owner_id=worker.owner_id)
    assert reclaim_dead_workers(store) == 1
    assert reclaim_dead_workers(store) == 0
    assert store.workers() == [workers[0], workers[2]]
    states = [message.state for message in store.peek("orders", 3)]
    assert states == [State.IN_FLIGHT, State.READY, State.IN_FLIGHT]
    assert [m.id for m in store.leases_of(workers[2].owner_id)] == [ids[2]]
