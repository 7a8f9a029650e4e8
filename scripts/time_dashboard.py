"""Time the pages of the dashboard on a file with 1,000,000 messages, 200,000 of them dead letters.

python -m scripts.time_dashboard [FOLDER]

The file is made in FOLDER, or in a temporary one, and is used again if it is there. Each figure is
the median of 5 requests after a first one, over HTTP.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from durableq import DurableQ
from durableq.bench.figures import Setting
from durableq.bench.large import OTHER, SICK, build
from durableq.model.dead_letters import DeadLetterFilter
from durableq.store.core import Capability
from scripts.draw_dashboard import names
from tests.dashboard.serving import serving

ROUNDS: Final = 5
RULE: Final = f'[[rule]]\nwhen.queue = "{SICK}"\nthen = "requeue"\n'


def main() -> int:
    """Time each page, and print a table in Markdown; return the exit code."""
    with TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made)
        path = folder / "large.db"
        with DurableQ(path) as dq:
            if not path.exists():
                build(dq, path, Setting(folder, "normal", False, None, False, None, print))
            addresses = [*found(dq)]
        os.chdir(folder)
        Path("recovery.toml").write_text(RULE, "utf-8")
        with serving(path, "--rules", "recovery.toml") as (url, _):
            print("| page | first | median of 5 |\n|---|---|---|")
            for address in addresses:
                first, *others = (seconds(url.rstrip("/") + address) for _ in range(ROUNDS + 1))
                median = statistics.median(others)
                print(f"| `{address}` | {1000 * first:.0f} ms | {1000 * median:.0f} ms |")
    return 0


def found(dq: DurableQ) -> Iterator[str]:
    """Yield the address of each page, and of those that look at much."""
    letters = dq.store.require(Capability.DEAD_LETTERS)
    (dead,) = letters.dead_letters(DeadLetterFilter(), 1)
    group = letters.dead_letter_groups()[0]
    known = {"{name}": OTHER, "{queue}": OTHER, "{id}": dead.id}
    for path in dict.fromkeys(path for _, path, _ in names()):
        address = re.sub(r"\{\w+\}", lambda part: known.get(part[0], part[0]), path)
        if "{" not in address and "/redrives/" not in address:
            yield address
    yield f"/queues/{SICK}-dlq"
    # The newest messages of the file are dead letters.
    yield f"/queues/{OTHER}?before={dead.id}"
    yield f"/queues/{OTHER}?before={dead.id}&by=text&text=nowhere"
    yield "/health?check=1"
    yield f"/dead-letters?queue={SICK}&reason={group.reason}&group={group.fingerprint}"


def seconds(url: str) -> float:
    """Return how long a page takes, until its last byte is here."""
    began = time.perf_counter()
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - of the dashboard
        answer.read()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
