"""A process of `bench flow`: it sends, receives or computes until the end of its time.

`python -m durableq.bench.flow_process ROLE URL SECONDS ARGUMENTS`, with ARGUMENTS as JSON. It says
`ready`, waits for a line, does its work, and answers with one line of JSON. Times are of the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from durableq.bench.app import QUEUE
from durableq.client.app import DurableQ
from durableq.model.errors import QueueFull
from durableq.model.message import Completion, Receipt

#: Longest wait of a receive, so that a process sees the end of its time.
WAIT_MS: Final = 200
#: Longest time that a receiver keeps a message in flight.
HOLD_SECONDS: Final = 0.01


def _receipts(app: DurableQ) -> list[Receipt]:
    """Receive a message, or wait for one; return its receipt."""
    received = app.store.receive(QUEUE, 1, wait_ms=WAIT_MS)
    return [message.receipt for message in received.messages if message.receipt is not None]


def receive(app: DurableQ, seconds: float) -> list[float]:
    """Receive one message at a time; return the time of each receive, in seconds."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for receipt in _receipts(app):
            times.append(time.monotonic())
            app.store.complete([Completion(receipt)])
    return times


def hold(app: DurableQ, seconds: float) -> int:
    """Receive one message at a time and keep it a while; return the number of messages."""
    number = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for receipt in _receipts(app):
            time.sleep(random.uniform(0, HOLD_SECONDS))
            app.store.complete([Completion(receipt)])
            number += 1
    return number


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


def compute(app: DurableQ, seconds: float, *, key: str, compute_seconds: float) -> list[float]:
    """Ask for a value; return the seconds of the answer, and of the computation or 0."""
    computed = []

    def slow() -> int:
        computed.append(compute_seconds)
        time.sleep(compute_seconds)
        return 1

    began = time.monotonic()
    app.once(key, slow, ttl=60)
    return [time.monotonic() - began, sum(computed)]


ROLES: Final[Mapping[str, Callable[..., Any]]] = {
    role.__name__: role for role in (receive, hold, fill, deduplicated, compute)
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
