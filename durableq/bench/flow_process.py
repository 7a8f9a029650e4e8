"""A process of `bench flow`: it sends, receives or computes until the end of its time.

`python -m durableq.bench.flow_process ROLE URL SECONDS ARGUMENTS`, with ARGUMENTS as JSON. It says
`ready`, waits for a line, does its work, and answers with one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from durableq.bench.app import QUEUE
from durableq.client.app import DurableQ
from durableq.model.dead_letters import RedriveState
from durableq.model.errors import QueueFull
from durableq.model.message import Completion, Receipt
from durableq.store.core import Capability

#: Longest wait of a receive, so that a process sees the end of its time.
WAIT_MS: Final = 200
#: Longest time that a receiver keeps a message in flight.
HOLD_SECONDS: Final = 0.01
#: Dead letters that a step of a redrive task decides about.
SLICE: Final = 200


def _receipts(app: DurableQ) -> list[Receipt]:
    """Receive a message, or wait for one; return its receipt."""
    received = app.store.receive(QUEUE, 1, wait_ms=WAIT_MS)
    return [message.receipt for message in received.messages if message.receipt is not None]


def receive(app: DurableQ, seconds: float, *, completes: bool) -> int:
    """Receive one message at a time; return their number.

    Args:
        app: open.
        seconds: for how long.
        completes: whether each is completed; if not, it stays in flight.
    """
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        receipts = _receipts(app)
        number += len(receipts)
        if completes:
            app.store.complete([Completion(receipt) for receipt in receipts])
    return number


def kill_holders(
    app: DurableQ, seconds: float, *, kills: int, crowd: int, lease_seconds: float
) -> int:
    """Fork processes that hold a message, and kill each; return the number that held its lease.

    Args:
        app: open; a fork of this process is ready at once, where a new one would have to start.
        seconds: for how long at most.
        kills: it ends when it has killed so many that held a lease.
        crowd: the number of processes at a time.
        lease_seconds: of the queue.
    """
    number, end = 0, time.monotonic() + seconds
    holders: dict[int, int] = {}
    while number < kills and time.monotonic() < end:
        while len(holders) < crowd:
            told, pid = _fork_holder(app)
            holders[told] = pid
        for told in select.select([*holders], [], [], WAIT_MS / 1000)[0]:
            received_at = float(os.read(told, 64))
            number += time.monotonic() - received_at < lease_seconds
            _end(told, holders.pop(told))
    for told, pid in holders.items():
        _end(told, pid)
    return number


def _fork_holder(app: DurableQ) -> tuple[int, int]:
    """Fork; return a descriptor from which the time can be read once it holds a message."""
    reading, writing = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        try:
            _hold(app, writing, parent)
        finally:
            os._exit(1)
    os.close(writing)
    return reading, pid


def _hold(app: DurableQ, told: int, parent: int) -> None:
    """Handle messages, and keep one until this process is killed, or its parent ends."""
    rng = random.Random(os.getpid())
    left = rng.randrange(3)
    while os.getppid() == parent:
        for receipt in _receipts(app):
            if left:
                time.sleep(rng.uniform(0, HOLD_SECONDS))
                app.store.complete([Completion(receipt)])
                left -= 1
                continue
            os.write(told, f"{time.monotonic()}".encode())
            while os.getppid() == parent:
                time.sleep(WAIT_MS / 1000)


def _end(told: int, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)


def fill(app: DurableQ, seconds: float, *, batch: int) -> dict[str, int]:
    """Send without a pause, in batches; return the numbers of accepted and refused sends."""
    queue, counts = app.queue(QUEUE), {"sent": 0, "refused": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            counts["sent"] += len(queue.send_many([None] * batch))
        except QueueFull:
            counts["refused"] += 1
            time.sleep(0.001)
    return counts


def deduplicated(app: DurableQ, seconds: float) -> str:
    """Send one message with the deduplication id of all; return the id in the answer."""
    return app.queue(QUEUE).send(None, deduplication_id="one")


def debounced(app: DurableQ, seconds: float, *, after: float, most: float) -> list[float]:
    """Send with one replace_key; return the time before the first send, and their number."""
    queue, number = app.queue(QUEUE), 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        queue.send(number, replace_key="one", debounce=after, max_wait=most)
        number += 1
        time.sleep(after / 25)
    return [began, number]


def send_evenly(app: DurableQ, seconds: float, *, rate: float, priority: int = 0) -> int:
    """Send one message after the other at a rate, with the time in each; return their number."""
    number, end = 0, time.monotonic() + seconds
    with app.queue(QUEUE).producer(batch_size=1, rate=rate) as producer:
        while time.monotonic() < end:
            producer.send(time.monotonic(), priority=priority)
            number += 1
    return number


def gather_batches(app: DurableQ, seconds: float, *, batch: int, window: float) -> list[int]:
    """Gather batches and complete them; return their sizes."""
    queue, sizes, end = app.queue(QUEUE), [], time.monotonic() + seconds
    while time.monotonic() < end:
        received = queue.receive(batch, window=window)
        queue.complete_many(received)
        sizes += [len(received)] if received else []
    return sizes


def continue_redrive(app: DurableQ, seconds: float, *, task_id: str) -> int:
    """Carry out a redrive task to its end, at its rate; return the number sent back by all."""
    tasks = app.store.require(Capability.REDRIVE)
    task, end = tasks.redrive_task(task_id), time.monotonic() + seconds
    while task.state is RedriveState.RUNNING and time.monotonic() < end:
        task = tasks.continue_redrive(task_id, SLICE)
        time.sleep(task.wait_ms / 1000)
    return task.moved


def compute(
    app: DurableQ, seconds: float, *, keys: Sequence[str], compute_seconds: float, notes: str
) -> dict[str, float]:
    """Ask for a value of each key; return the seconds of each answer.

    Args:
        app: open.
        seconds: has no meaning here.
        keys: one after the other.
        compute_seconds: of a computation.
        notes: a file in which a computation notes its key when it begins.
    """

    def slow(key: str) -> int:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{key}\n")
        time.sleep(compute_seconds)
        return 1

    took = {}
    for key in keys:
        began = time.monotonic()
        app.once(key, partial(slow, key), ttl=60)
        took[key] = time.monotonic() - began
    return took


def read(
    app: DurableQ, seconds: float, *, key: str, ttl: float, compute_seconds: float
) -> dict[str, int]:
    """Read a value again and again; return the numbers of reads, computations and misses.

    A miss is a computation that does not end before the value expires: others have to wait. The
    first read is not counted.
    """
    once, counts = app.store.require(Capability.ONCE), Counter[str]()

    def computed() -> int:
        entry = once.once_entry(key)
        time.sleep(compute_seconds)
        is_early = entry is not None and entry.is_fresh(round(time.time() * 1000))
        counts.update(computations=1, misses=not is_early)
        return 1

    app.once(key, computed, ttl=ttl, stale=0)
    counts.clear()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        app.once(key, computed, ttl=ttl, stale=0)
        counts["reads"] += 1
    return {name: counts[name] for name in ("reads", "computations", "misses")}


ROLES: Final[Mapping[str, Callable[..., Any]]] = {
    role.__name__: role
    for role in (
        *(receive, kill_holders, gather_batches, fill, send_evenly, deduplicated, debounced),
        *(continue_redrive, compute, read),
    )
}


def main() -> None:
    """Play one role."""
    role, url, seconds, arguments = sys.argv[1:]
    with DurableQ(url) as app:
        app.queue(QUEUE)
        _ = app.store  # open before the start
        print("ready", flush=True)  # noqa: T201 - the starter reads it
        sys.stdin.readline()
        answer = ROLES[role](app, float(seconds), **json.loads(arguments))
    print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
