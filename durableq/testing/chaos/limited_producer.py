"""A producer of the queues with limits: it sends until the orders of the run have ended.

Run as `python -m durableq.testing.chaos.limited_producer NUMBER`, from 0 to PRODUCERS - 1: each
sends to groups of its own, and all of them meet the same full queue. Messages come in clumps, so
that limits have something to hold back.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.queue import Queue
from durableq.model.errors import PASSING, QueueFull
from durableq.testing.chaos.ledger import Ledger, Step
from durableq.testing.chaos.limited import (
    CALLS,
    CLUMP,
    GROUPS,
    PARCELS,
    STEPS,
    meet_full_queue,
    place,
)
from durableq.testing.chaos.producer import PAUSE_SECONDS, patient

PRODUCERS: Final = 2
#: In the order in which they get a clump. A send waits longest for a queue that refuses it.
_QUEUES: Final = (STEPS, CALLS, PARCELS)
#: Interval between two clumps.
CLUMP_SECONDS: Final = 2.0
#: In the folder of the ledgers once enough was sent.
_ENOUGH: Final = "enough"


def stop(folder: Path) -> None:
    """Let the producers end after their clumps."""
    (folder / _ENOUGH).touch()


def main() -> int:
    """Send until `stop`; return the exit code."""
    ledger = Ledger.of_this_run()
    dq = patient(DurableQ)
    queues = [patient(partial(dq.queue, name)) for name in _QUEUES]
    this = int(sys.argv[1])
    for clump in itertools.count():
        numbers = range(clump * CLUMP, (clump + 1) * CLUMP)
        mine = [number for number in numbers if number % PRODUCERS == this]
        for queue, number in itertools.product(queues, mine):
            body = {"group": number % GROUPS, "number": number // GROUPS}
            while not _send(queue, ledger, body):
                time.sleep(PAUSE_SECONDS)
        if _is_enough(ledger.folder, queues):
            break
    return 0


def _send(queue: Queue, ledger: Ledger, body: dict[str, int]) -> bool:
    operation = f"send_{queue.name}"
    group = f"group-{body['group']}" if queue.name == STEPS else None
    ledger.note(operation, Step.INVOKE, place(body))
    try:
        message_id = queue.send(body, group=group)
    except QueueFull:
        ledger.note(operation, Step.FULL, place(body))
        if queue.name == PARCELS:
            meet_full_queue(ledger.folder)
        return False
    except PASSING:
        ledger.note(operation, Step.UNSETTLED, place(body))
        return False
    ledger.note(operation, Step.OK, place(body), message_id)
    return True


def _is_enough(folder: Path, queues: Sequence[Queue]) -> bool:
    """Wait for the time of the next clump, and for the end of most of those before.

    Returns:
        Whether no clump is wanted.
    """
    until = time.monotonic() + CLUMP_SECONDS
    while not (folder / _ENOUGH).exists():
        is_due = time.monotonic() >= until
        if is_due and all(patient(queue.info).counts.present < CLUMP for queue in queues):
            return False
        time.sleep(PAUSE_SECONDS)
    return True


if __name__ == "__main__":
    sys.exit(main())
