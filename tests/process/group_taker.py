"""A process that handles batches of one group, each in a transaction with its effects, for ever.

python -m tests.process.group_taker FILE SEED
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress

from durableq import DurableQ
from durableq.model.errors import StaleReceipt
from durableq.model.message import Completion, Failure, Message, Reason
from durableq.store.core import Capability

AGAIN = Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=5)


def handle(dq: DurableQ, batch: list[Message], rng: random.Random) -> None:
    """Complete a batch up to a random message, which fails; those behind it go back."""
    end = rng.choice([len(batch), rng.randrange(len(batch) + 1)])
    receipts = [message.receipt for message in batch if message.receipt is not None]
    with dq.store.require(Capability.TRANSACTIONS).transaction(receipts) as tx:
        for message in batch[:end]:
            tx.execute(
                "INSERT INTO effect (name, number) VALUES (:name, :number)",
                {"name": message.group, "number": int(str(message.body))},
            )
        failures = [(receipt, AGAIN) for receipt in receipts[end : end + 1]]
        tx.settle([Completion(receipt) for receipt in receipts[:end]], failures)
    dq.store.release(receipts[end + 1 :])


def main(path: str, seed: str) -> None:
    rng = random.Random(seed)
    with DurableQ(path) as dq:
        print("READY", flush=True)
        while True:
            batch = dq.store.receive("orders", 7, by_group=True, wait_ms=100).messages
            if batch:
                with suppress(StaleReceipt):  # this process was paused for longer than its lease
                    handle(dq, batch, rng)


if __name__ == "__main__":
    main(*sys.argv[1:])
