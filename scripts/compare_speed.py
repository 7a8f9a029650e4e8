"""Compare the speed of two source trees of durableq, in one interleaved run.

    python scripts/compare_speed.py BEFORE AFTER [--rounds 15] [--synchronous normal]

BEFORE and AFTER are folders that hold a durableq package. Each round starts one process per tree,
in turn, on a new file, with this interpreter and its libraries. The table shows the processor time
of a message in microseconds: medians, and the quartiles of the ratio AFTER / BEFORE.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SINGLE, BATCHES, BATCH = 400, 40, 100
WORK = """
import json, sys, time
from durableq import DurableQ

single, batches, size = map(int, sys.argv[2:])
dq = DurableQ(sys.argv[1])
queue = dq.queue("orders", visibility_timeout=300)
figures = {}

def measure(name, number, work):
    began = time.process_time()
    work()
    figures[name] = (time.process_time() - began) / number * 1e6

def send():
    for number in range(single):
        queue.send({"order": number})

def receive():
    for _ in range(single):
        for message in queue.receive(1):
            message.complete()

def send_batches():
    for number in range(batches):
        queue.send_many([{"order": number, "of": part} for part in range(size)])

def receive_batches():
    for _ in range(batches):
        received = dq.store.receive("orders", size)
        dq.store.complete([Completion(m.receipt) for m in received.messages])

try:
    from durableq.model.message import Completion
except ImportError:
    from durableq.message import Completion
queue.send("warm"); receive()
measure("send one", single, send)
measure("receive and complete one", single, receive)
measure(f"send in {size}", batches * size, send_batches)
measure(f"receive and complete in {size}", batches * size, receive_batches)
dq.close()
print(json.dumps(figures))
"""


def run(tree: Path, synchronous: str) -> dict[str, float]:
    """Return the microseconds of processor time per message, by the name of the measurement."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/queue.db?synchronous={synchronous}"
        sizes = map(str, (SINGLE, BATCHES, BATCH))
        answer = subprocess.run(
            [sys.executable, "-P", "-c", WORK, url, *sizes],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description="Compare the speed of two trees of durableq.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--synchronous", default="normal", choices=["normal", "full"])
    given = parser.parse_args()
    trees = [given.before.resolve(), given.after.resolve()]
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(given.rounds):
        order = trees if number % 2 == 0 else trees[::-1]
        found = {tree: run(tree, given.synchronous) for tree in order}
        rounds.append((found[trees[0]], found[trees[1]]))
        print(f"round {number + 1} of {given.rounds}", end="\r", file=sys.stderr)
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, load {load:.1f}, {given.synchronous}"
    )
    print(f"{'':32} {'before':>8} {'after':>8}  ratio (quartiles)")
    for name in rounds[0][0]:
        before = statistics.median(one[name] for one, _ in rounds)
        after = statistics.median(other[name] for _, other in rounds)
        low, middle, high = statistics.quantiles([b[name] / a[name] for a, b in rounds], n=4)
        print(f"{name:32} {before:8.1f} {after:8.1f}  {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
