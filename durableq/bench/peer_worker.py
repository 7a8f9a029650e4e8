"""One process of a fleet of another queue: `python -m durableq.bench.peer_worker`.

It receives and completes until the queue has been empty for a while, and repeats a call that
another process's lock has refused. At its end it prints the number of its messages and the time of
its last completion.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from durableq.bench.peers import PEERS

POLL_SECONDS: Final = 0.002
#: A queue that has been empty for so long is drained; a lock may make it look empty for a moment.
EMPTY_SECONDS: Final = 2.0
#: Time after which a refused call fails.
SECONDS: Final = 60.0


def main() -> None:
    """Drain a queue. Arguments: the peer, its folder, synchronous."""
    name, folder, synchronous = sys.argv[1:]
    queue = PEERS[name].open(Path(folder), synchronous)
    print("ready", flush=True)  # noqa: T201 - to the starter
    sys.stdin.readline()
    count, last = 0, time.monotonic()
    while time.monotonic() - last < EMPTY_SECONDS:
        received = _patiently(lambda: queue.receive(1))
        if not received:
            time.sleep(POLL_SECONDS)
            continue
        _complete(queue, received)
        count, last = count + 1, time.monotonic()
    print(json.dumps([count, last]), flush=True)  # noqa: T201


def _complete(queue: Any, received: Any) -> None:
    _patiently(lambda: queue.complete(received))


def _patiently(call: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            is_lock = any(word in str(error).lower() for word in ("locked", "busy"))
            if not is_lock or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
