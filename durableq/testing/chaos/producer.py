"""The producer under chaos: the demo's traffic, with each send and its answer in the ledger.

Run as `python -m durableq.testing.chaos.producer COUNT SEED SECONDS`. `durableq produce` sends the
same messages, but reports only their number: the checker needs each one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from durableq.client.app import DurableQ
from durableq.client.queue import Queue
from durableq.demo.app import QUEUE
from durableq.demo.traffic import DUPLICATES, orders
from durableq.model.errors import PASSING
from durableq.testing.chaos.ledger import Ledger, Step

T = TypeVar("T")
#: Pause before a send is repeated that found the file busy.
PAUSE_SECONDS: Final = 0.1


def main() -> int:
    """Send the traffic evenly over some seconds; return the exit code."""
    count, seed, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    queue, ledger = patient(lambda: DurableQ().queue(QUEUE)), Ledger.of_this_run()
    started = time.monotonic()
    for number, envelope in enumerate(orders(count, DUPLICATES, seed)):
        due = started + seconds * number / count
        time.sleep(max(0.0, due - time.monotonic()))
        while not _send(queue, ledger, envelope):
            time.sleep(PAUSE_SECONDS)
    return 0


def patient(call: Callable[[], T]) -> T:
    """Return the result of a call, repeated as long as the database is busy or gone."""
    while True:
        try:
            return call()
        except PASSING:
            time.sleep(PAUSE_SECONDS)


def _send(queue: Queue, ledger: Ledger, envelope: dict[str, Any]) -> bool:
    key = envelope["key"]
    ledger.note("send", Step.INVOKE, key)
    try:
        message_id = queue.send(envelope["body"], key=key)
    except PASSING:
        ledger.note("send", Step.UNSETTLED, key)
        return False
    ledger.note("send", Step.OK, key, message_id)
    return True


if __name__ == "__main__":
    sys.exit(main())
