"""Threads that send at the same time: `python -m tests.process.senders DB GATE THREADS SENDS`.

One send of each has a deduplication id; several have a replace_key. All have the same.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from durableq import DurableQ
from durableq.model.message import SendOptions
from tests.support import wait_for


def main(db: str, gate: Path, threads: int, sends: int) -> None:
    orders = DurableQ(db).queue("orders")
    orders.info()
    options: SendOptions = {"deduplication_id": "d"} if sends == 1 else {"replace_key": "k"}
    ids: list[str] = []

    def send() -> None:
        wait_for(gate.exists, what="the gate")
        for number in range(sends):
            ids.append(orders.send(number, **options))  # noqa: PERF401 - seen by other threads

    runners = [threading.Thread(target=send) for _ in range(threads)]
    for runner in runners:
        runner.start()
    print("READY", flush=True)
    for runner in runners:
        runner.join()
    for one in ids:
        print("sent", one, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
