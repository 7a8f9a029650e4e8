"""A fleet of four beside fleets of other queues that several processes can share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from durableq.bench import peers
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme
from durableq.bench.piped import PipedProcess
from durableq.bench.workers import Fleet, run_fleet
from durableq.model.errors import DurableQError

PROCS: Final = 4
#: The same for all: some peers slow down with the length of their queue.
COUNT: Final = 10_000
ROUNDS: Final = 3

ROWS: Final = (Row("fleet of 4 against peers", "x best peer", 15, seconds=180),)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure the row: durableq with keys, the peers without."""
    names = peers.shared()
    (row,) = rows
    rounds = setting.rounds or (1 if setting.quick else ROUNDS)
    count = COUNT // 50 if setting.quick else COUNT
    rates: dict[str, list[float]] = {name: [] for name in ("durableq", *names)}
    for number in range(rounds):
        setting.progress(f"{row.name}: round {number + 1} of {rounds}")
        sample = run_fleet(
            Fleet("no-op", PROCS), count, setting, synchronous=setting.synchronous, keyed=True
        )
        rates["durableq"].append(1 / sample.wall_seconds)
        for name in names:
            folder = setting.folder / f"{name}-{number}"
            rates[name].append(_drain(name, folder, setting.synchronous, count))
    fastest = [max(rates[name][number] for name in names) for number in range(rounds)]
    ratios = [ours / best for ours, best in zip(rates["durableq"], fastest, strict=True)]
    details = {f"{name}, per second": Spread.of(found) for name, found in rates.items()}
    yield Figure(row, setting.synchronous, Spread.of(ratios), details)


def _drain(name: str, folder: Path, synchronous: str, count: int) -> float:
    """Let processes drain a peer's queue; return the messages per second.

    Raises:
        DurableQError: a process failed, or messages are missing.
    """
    queue = peers.PEERS[name].open(folder, synchronous)
    for number in range(count):
        queue.send({"order": number, "text": "x" * 76})
    arguments = ("-m", "durableq.bench.peer_worker", name, str(folder), synchronous)
    with ExitStack() as stack:
        started = [stack.enter_context(PipedProcess(name, *arguments)) for _ in range(PROCS)]
        for process in started:
            process.answer()
        began = time.monotonic()
        for process in started:
            process.tell()
        ended = [json.loads(process.answer()) for process in started]
    handled = sum(number for number, _ in ended)
    if handled != count:
        raise DurableQError(f"The fleet of {name} handled {handled} messages of {count}.")
    last: float = max(at for _, at in ended)
    return count / (last - began)


PEER_FLEETS: Final = Theme("peers", ROWS, measure, ROUNDS, needs_peers=True)
