"""`once` in many processes: one computes, the others wait, and one that is killed is replaced."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from durableq import DurableQ
from durableq.client.computing import OWNER
from durableq.model.once import OnceRequest
from durableq.store.core import Capability
from durableq.supervisor.liveness import describe
from tests.process.child import Child, Nursery

PROCESSES = 50


def crowd(nursery: Nursery, db: Path, *, calls: int = 1, ttl: float = 3600) -> Child:
    words = [str(db), str(PROCESSES), str(calls), str(ttl)]
    return nursery.run(sys.executable, "-m", "tests.process.once_crowd", *words)


def lines(child: Child, word: str) -> list[list[str]]:
    """Return the other words of the lines that begin with this one."""
    found = [line.split() for line in child.said]
    return [words[1:] for words in found if words[0] == word]


def wait_until_all_ask(child: Child) -> int:
    """Return the pid of the process that computes."""
    child.wait_until(lambda: len(lines(child, "ASKS")) == PROCESSES, "every process to ask")
    child.wait_until(lambda: lines(child, "COMPUTES"), "a computation")
    return int(lines(child, "COMPUTES")[0][0])


def test_of_fifty_processes_one_computes_a_cold_key(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    asking = crowd(nursery, db)
    wait_until_all_ask(asking)
    Path(f"{db}.gate").touch()
    assert asking.end() == 0
    assert len(lines(asking, "COMPUTES")) == 1
    assert [value for _, value in lines(asking, "GOT")] == ["1"] * PROCESSES


def test_a_process_that_is_killed_while_it_computes_is_replaced_at_once(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    """The lease has not ended: it is 30 seconds long, and extended while its process lives."""
    asking = crowd(nursery, db)
    killed = wait_until_all_ask(asking)
    os.kill(killed, signal.SIGKILL)
    asking.wait_until(lambda: len(lines(asking, "COMPUTES")) == 2, "another computation")
    entry = dq.store.require(Capability.ONCE).once_entry("rates")
    assert entry is not None
    Path(f"{db}.gate").touch()
    assert asking.end() == 0
    pids = [int(pid) for (pid,) in lines(asking, "COMPUTES")]
    assert (len(pids), pids[0]) == (2, killed)
    assert f'"pid": {pids[1]}' in entry.owner
    assert [value for _, value in lines(asking, "GOT")] == ["2"] * (PROCESSES - 1)


def test_the_lease_of_a_process_that_has_ended_is_taken_over(
    dq: DurableQ, nursery: Nursery, tmp_path: Path
) -> None:
    """Without a wait: the first look finds it."""
    ended = nursery.run(sys.executable, "-c", "import signal; signal.pause()")
    owner = describe("", ended.pid)
    ended.kill()
    text = json.dumps({name: getattr(owner, name) for name in OWNER})
    once = dq.store.require(Capability.ONCE)
    once.once_get_or_lease("rates", OnceRequest(b"x" * 16, 3_600_000, text))
    assert dq.once("rates", lambda: 7, ttl=3600, wait=0) == 7


def test_a_stale_value_is_served_while_its_next_computer_is_killed_and_replaced(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    """No caller waits: a process that asks for the stale value takes the lease of a dead one."""
    store = dq.store.require(Capability.ONCE)
    dq.once("rates", lambda: 0, ttl=0.001, stale=3600)
    asking = crowd(nursery, db)
    killed = wait_until_all_ask(asking)
    asking.wait_until(lambda: len(lines(asking, "GOT")) == PROCESSES - 1, "the others")
    assert {value for _, value in lines(asking, "GOT")} == {"0"}
    assert lines(asking, "WAITED") == [["0"]] * (PROCESSES - 1)
    os.kill(killed, signal.SIGKILL)
    assert asking.end() == 0
    assert dq.once("rates", lambda: 7, ttl=3600) == 7
    assert len(lines(asking, "COMPUTES")) == 1
    entry = store.once_entry("rates")
    assert entry is not None
    assert (entry.value, entry.token) == ("7", None)


def test_of_many_processes_none_waits_for_a_key_that_is_refreshed(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    dq.once("rates", lambda: 0, ttl=0.05, stale=3600)
    Path(f"{db}.gate").touch()
    asking = crowd(nursery, db, calls=200, ttl=0.05)
    assert asking.end() == 0
    got = [list(map(int, values)) for _, *values in lines(asking, "GOT")]
    assert len(got) == PROCESSES
    assert all(values == sorted(values) for values in got)
    assert len(lines(asking, "COMPUTES")) > 1
    assert lines(asking, "WAITED") == [["0"]] * PROCESSES
