"""Producers of a queue with backlog limits: `python -m tests.process.producers DB BATCHES SIZE`.

It says the ids of each batch once they are stored, and at the end its number of commits.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from durableq import DurableQ, QueueFull
from durableq.engines.sqlite.store import SQLStore


def produce(db: str, batches: int, size: int) -> None:
    dq = DurableQ(db)
    orders = dq.queue("orders")
    store = dq.store
    assert isinstance(store, SQLStore)
    statements: list[str] = []
    store._database.session().raw.set_trace_callback(statements.append)
    print("READY", flush=True)
    sent = 0
    while sent < batches:
        with suppress(QueueFull):
            print("sent", *orders.send_many([sent] * size), flush=True)
            sent += 1
    print("commits", statements.count("COMMIT"), flush=True)


if __name__ == "__main__":
    produce(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
