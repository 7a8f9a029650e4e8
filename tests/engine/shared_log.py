"""A process that shares one log with others: `python -m tests.engine.shared_log ROLE DB LEDGER`."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from durableq import Busy, DurableQ
from durableq.engines.sqlite import checkpoints
from durableq.engines.sqlite.driver import driver

BATCHES = 150
LARGEST_BATCH = 8


def note(ledger: Path, ids: Iterable[str]) -> None:
    with ledger.open("a") as file:
        file.write(" ".join(ids) + "\n")


def send(dq: DurableQ, ledger: Path) -> None:
    """Send batches of all sizes; write their ids to the ledger."""
    orders = dq.queue("orders")
    for _ in range(BATCHES):
        size = random.randint(1, LARGEST_BATCH)
        note(ledger, orders.send_many(["x" * random.randint(1, 6_000) for _ in range(size)]))


def complete(dq: DurableQ, ledger: Path) -> None:
    """Complete messages until SIGTERM; write their ids to the ledger."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    orders = dq.queue("orders")
    while not stop:
        for message in orders.receive(10):
            message.complete()
            note(ledger, [message.id])


def checkpoint(dq: DurableQ, _: Path) -> None:
    """Checkpoint without a pause."""
    store: Any = dq.store
    database = store._database
    while True:
        with suppress(driver.OperationalError, Busy):
            database.checkpointer.run(database.session().raw)


def main() -> None:
    role, db, ledger = sys.argv[1:]
    checkpoints.CHECKPOINT_BYTES = 64 << 10  # type: ignore[misc]
    with DurableQ(f"sqlite:///{db}?synchronous=normal&busy_timeout=60") as dq:
        {"send": send, "complete": complete, "checkpoint": checkpoint}[role](dq, Path(ledger))


if __name__ == "__main__":
    main()
