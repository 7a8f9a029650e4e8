"""Receivers of a queue with limits: `python -m tests.process.takers DB SEED ENDS`.

They begin at the end of stdin and go on until they are killed, or nothing was there for a while.
With ENDS they settle their messages, in different ways; otherwise they keep every lease, so that
the file tells when each was granted.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence

from durableq import DurableQ
from durableq.model.message import Completion, Failure, Message, Reason
from durableq.store.core import Store

#: Less than the time until the next token at the rates of the tests would be a poll.
WAIT_MS = 20_000


def settle(store: Store, messages: Sequence[Message], rng: random.Random) -> None:
    """Settle messages in one of the ways, or leave them to the end of their leases."""
    receipts = [message.receipt for message in messages if message.receipt]
    match rng.choice(("complete", "complete", "complete", "fail", "release", "leave")):
        case "complete":
            store.complete([Completion(receipt) for receipt in receipts])
        case "fail":
            broken = Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=0)
            store.fail([(receipt, broken) for receipt in receipts])
        case "release":
            store.release(receipts)


def take(db: str, seed: int, *, ends: bool) -> None:
    store, rng = DurableQ(db).store, random.Random(seed)
    print("READY", flush=True)
    sys.stdin.read()
    while not (received := store.receive("orders", rng.randint(1, 4), wait_ms=WAIT_MS)).idle:
        print("took", len(received.messages), time.monotonic(), flush=True)
        if ends:
            settle(store, received.messages, rng)
    print("done", flush=True)


if __name__ == "__main__":
    take(sys.argv[1], int(sys.argv[2]), ends=bool(sys.argv[3:]))
