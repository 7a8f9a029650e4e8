"""One process of a hand-written fleet: `python -m durableq.bench.postgres.raw_worker URL`.

It says that it is ready, waits for a line, receives and completes until the queue is empty, and
prints the seconds of processor time of this process and its session.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from durableq.bench.postgres.raw import Raw
from durableq.bench.postgres.server import Meter, with_options

RECEIVED: Final = 100


def main() -> None:
    """Serve one run; without the line, its starter has ended."""
    application = f"bench-{os.getpid()}"
    meter = Meter(sys.argv[1], application)
    raw = Raw(with_options(sys.argv[1], application_name=application))
    raw.expect_keys()
    print("ready", flush=True)  # noqa: T201 - to the starter
    if not sys.stdin.readline():
        return
    began = meter()
    while leased := raw.receive(RECEIVED):
        raw.complete(leased)
    print(meter() - began, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
