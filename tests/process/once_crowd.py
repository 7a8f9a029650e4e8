"""Many processes that ask for one value: `python -m tests.process.once_crowd DB NUMBER CALLS TTL`.

It forks them. All begin together, once each has said `ASKS PID`. A process says `COMPUTES PID` when
it begins a computation, and at the end `WAITED TIMES` and `GOT PID VALUE…`, where a value is the
number of its computation. A computation ends when the file DB.gate is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durableq import DurableQ
from durableq.client import computing
from tests.support import wait_for


def say(*words: object) -> None:
    """Write a line in one piece, between those of the other processes."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def ask(db: str, calls: int, ttl: float, wait_for_all: Callable[[], object]) -> None:
    """Ask for the value, again and again."""
    pid, gate = os.getpid(), Path(f"{db}.gate")

    def compute() -> int:
        say("COMPUTES", pid)
        with Path(f"{db}.computed").open("a") as ledger:
            ledger.write(f"{pid}\n")
        wait_for(gate.exists, seconds=60, what="the gate")
        return Path(f"{db}.computed").read_text().count("\n")

    waits, wait = [], computing.wait_for_end

    def counted(*of: Any) -> None:
        waits.append(of)
        wait(*of)

    vars(computing)["wait_for_end"] = counted
    with DurableQ(db) as dq:
        _ = dq.store
        say("ASKS", pid)
        wait_for_all()
        values = [dq.once("rates", compute, ttl=ttl, stale=3600) for _ in range(calls)]
    say("WAITED", len(waits))
    say("GOT", pid, *values)


def main(db: str, processes: str, calls: str, ttl: str) -> None:
    (there, tell), (start, hold) = os.pipe(), os.pipe()

    def wait_for_all() -> None:
        os.write(tell, b".")
        os.read(start, 1)  # it ends when the parent closes the other end

    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if not child:
            os.close(hold)
            ask(db, int(calls), float(ttl), wait_for_all)
            os._exit(0)
        children.append(child)
    for _ in children:
        os.read(there, 1)
    os.close(hold)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
