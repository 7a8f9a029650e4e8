"""One process of a hand-written fleet: `python -m durableq.bench.raw_worker`.

Its loop is the cheapest that the semantics allow: where a handler does nothing, the commit that
completes a batch receives the next one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from durableq.bench.app import BATCH, QUEUE
from durableq.bench.raw import Leased, Raw

RECEIVED: Final = 100
IDLE_SECONDS: Final = 0.002


def work(raw: Raw, handler: str) -> None:
    """Receive and complete until the process is ended.

    Args:
        raw: the connection.
        handler: `no-op`, `transaction` or `batch`.
    """
    leased: list[Leased] = []
    while True:
        if handler == "no-op":
            leased = raw.complete_and_receive(leased, RECEIVED)
        elif handler == "batch":
            leased = raw.receive(BATCH)
            if leased:
                raw.complete_with_effects(leased)
        else:
            leased = raw.receive(RECEIVED)
            for one in leased:
                raw.complete_with_effects([one])
        if not leased:
            time.sleep(IDLE_SECONDS)


def main() -> None:
    """Serve: path, synchronous, handler, and the file to make when this process is ready."""
    path, synchronous, handler, ready = sys.argv[1:]
    raw = Raw(Path(path), QUEUE, synchronous)
    Path(ready).touch()
    work(raw, handler)


if __name__ == "__main__":
    main()
