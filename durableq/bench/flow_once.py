"""How often `once` computes, and how long its callers wait: facts of the theme flow-exact."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from durableq.bench.figures import percentile
from durableq.bench.flow_crew import Crew, Fact, Measured, fact, row
from durableq.client.app import DurableQ
from durableq.client.computing import owner_of
from durableq.store.core import Capability

PROCESSES: Final = 50
COMPUTE_SECONDS: Final = 1.0
#: How long the others may wait beyond the computation.
LATE_MS: Final = 250
#: The keys that each process asks for, one after the other: that of a killed computer is the last.
COLD, KILLED = KEYS = "cold", "killed"
#: Of a key in use: processes, seconds, its time to live, and its computation.
READERS, SECONDS, TTL, HOT_SECONDS = 8, 8.0, 0.5, 0.05


def _computations(app: DurableQ, crew: Crew, *, quick: bool) -> Sequence[Measured]:
    """Processes ask for a value that is not there; then for another, whose computer is killed."""
    number = PROCESSES // 10 if quick else PROCESSES
    notes = Path(f"{crew.path}.notes")  # a computation is noted when it begins
    asked = {"keys": KEYS, "compute_seconds": COMPUTE_SECONDS, "notes": str(notes)}
    processes = crew.start(number, "compute", 0, **asked)
    killed = _computer(app, 0)
    time.sleep(COMPUTE_SECONDS / 2)
    os.kill(killed, signal.SIGKILL)
    killed_at = time.monotonic()
    _computer(app, killed)
    replaced_ms = 1000 * (time.monotonic() - killed_at)
    took = [json.loads(one.answer()) for one in processes if one.pid != killed]
    waits = [1000 * (seconds[COLD] - COMPUTE_SECONDS) for seconds in took]
    computed = notes.read_text("utf-8").split()
    return [
        Measured(computed.count(COLD), {"processes": number}),
        Measured(percentile(waits, 95), {"longest, ms": max(waits)}),
        Measured(computed.count(KILLED), {"replaced after, ms": replaced_ms}),
    ]


def _computer(app: DurableQ, before: int) -> int:
    """Wait until a process computes the last key, and return its id.

    Args:
        app: open.
        before: another process that computed it; 0 for none.
    """
    once = app.store.require(Capability.ONCE)
    while True:
        entry = once.once_entry(KILLED)
        owner = None if entry is None else owner_of(entry)
        if owner is not None and owner.pid != before:
            return owner.pid
        time.sleep(0.001)


def _hot(app: DurableQ, crew: Crew, *, quick: bool) -> Measured:
    """Processes read a value without a pause, which expires often, and is never served stale."""
    seconds = SECONDS / 4 if quick else SECONDS
    arguments = {"key": "hot", "ttl": TTL, "compute_seconds": HOT_SECONDS}
    counts = [json.loads(one.answer()) for one in crew.start(READERS, "read", seconds, **arguments)]
    total = {name: sum(one[name] for one in counts) for name in counts[0]}
    return Measured(total.pop("misses"), total)


FACTS: Final[tuple[Fact, ...]] = (
    Fact(
        (
            row("once: computations of 50 processes", "computations", 1, 14),
            row("once: wait beyond the computation, p95", "ms", LATE_MS, 1),
            row("once: computations if one is killed", "computations", 2, 1),
        ),
        _computations,
    ),
    fact(_hot, "once: misses of a key in use", "reads", 0, 10),
)
