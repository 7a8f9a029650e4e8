"""One side of a comparison on PostgreSQL, in a process of its own.

`python -m durableq.bench.postgres.subject NAME URL` serves the workloads of
`durableq.bench.subject`: `durableq`, `raw` or a peer, in the schema of the URL. Its processor time
is that of this process and of its sessions in the server.
"""

from __future__ import annotations

import json
import os
import sys

from durableq.bench.postgres import peers, raw
from durableq.bench.postgres.server import Meter, with_options
from durableq.bench.subject import OfDurableQ, Subject, Workloads


def opened(name: str, url: str) -> Subject:
    """Return a side by name."""
    if name == "durableq":
        return OfDurableQ(url)
    if name == "raw":
        raw.create(url)
        return raw.Raw(url)
    peer: Subject = peers.PEERS[name].open(url)
    return peer


def main() -> None:
    """Serve workloads until the end of stdin."""
    name, url = sys.argv[1:]
    application = f"bench-{os.getpid()}"
    meter = Meter(url, application)
    workloads = Workloads(opened(name, with_options(url, application_name=application)), meter)
    for line in sys.stdin:
        answer = workloads.run(**json.loads(line))
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to the starter


if __name__ == "__main__":
    main()
