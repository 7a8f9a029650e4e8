"""Sending, receiving and completing in one process, beside the same statements by hand.

Each side is a process of its own with a file of its own. In each round every side runs the workload
in turn, in another order each time, so that all see the same machine. A ratio is formed within a
round, of processor time: other processes on the machine disturb it less than wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import durableq
from durableq.bench import peers
from durableq.bench.figures import RAW, SUBJECT, Figure, Row, Sample, Setting, Spread, Theme
from durableq.model.errors import DurableQError

AGAINST: Final = "against"
ROUNDS, QUICK_ROUNDS = 15, 3
#: Messages of a workload, single and in batches; in the quick mode a tenth.
SINGLE, BATCHED = 300, 3000
_SMALL: Final = 100


def _row(
    name: str,
    target: float | None,
    operation: str,
    batch: int,
    *,
    keyed: bool = False,
    body_bytes: int = _SMALL,
) -> Row:
    workload = {
        "operation": operation,
        "batch": batch,
        "keyed": keyed,
        "body_bytes": body_bytes,
    }
    return Row(name, "x raw", target, workload=workload)


ROWS: Final = (
    _row("send one", 0.6, "send", 1),
    _row("send in 100", 0.7, "send", 100),
    _row("receive + complete one", 0.6, "receive", 1),
    _row("receive + complete one, key", 0.6, "receive", 1, keyed=True),
    _row("receive + complete in 100, keys", 0.7, "receive", 100, keyed=True),
    _row("send one, key", None, "send", 1, keyed=True),
    _row("receive + complete in 100", None, "receive", 100),
)
BODIES: Final = tuple(
    _row(f"{name}, {shown}", None, operation, 1, body_bytes=size)
    for shown, size in (("100 B", 100), ("10 KB", 10_000), ("500 KB", 500_000))
    for name, operation in (("send one", "send"), ("receive + complete one", "receive"))
)


class Side:
    """A running subject.

    Args:
        name: `durableq`, `raw`, `against` or a peer.
        setting: the setting of the run.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        tree = setting.against if name == AGAINST else Path(durableq.__file__).parent.parent
        path = [str(tree), os.environ.get("PYTHONPATH")]
        script = Path(__file__).with_name("subject.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), name, str(setting.folder), setting.synchronous],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, workload: Mapping[str, Any], count: int) -> Sample:
        """Run a workload and return the seconds of each message.

        Raises:
            DurableQError: the subject failed.
        """
        pipe, answers = self._process.stdin, self._process.stdout
        if pipe is None or answers is None:
            raise DurableQError("the subject has no pipes")
        print(json.dumps({**workload, "count": count}), file=pipe, flush=True)
        line = answers.readline()
        if not line:
            code = self._process.wait()
            raise DurableQError(f"{self.name} ended with {code} in the workload {dict(workload)}.")
        cpu, wall = json.loads(line)
        return Sample(cpu / count, wall / count)

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, interleaved."""
    names = [SUBJECT, RAW]
    if setting.against is not None:
        names.append(AGAINST)
    if setting.peers:
        names += peers.installed()
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(name, setting)) for name in names]
        for row in rows:
            setting.progress(f"{row.name} ({setting.synchronous}): {rounds} rounds")
            able = [side for side in sides if peers.can(side.name, row.workload)]
            count = _count(row, quick=setting.quick)
            samples: dict[str, list[Sample]] = {side.name: [] for side in able}
            for number in range(rounds + 1):
                turn = number % len(able)
                for side in able[turn:] + able[:turn]:
                    sample = side.run(row.workload, count)
                    if number:  # the first round warms up
                        samples[side.name].append(sample)
            yield _figure(row, setting.synchronous, samples)


def _count(row: Row, *, quick: bool) -> int:
    count = SINGLE if row.workload["batch"] == 1 else BATCHED
    if row.workload["body_bytes"] > 100_000:
        count //= 10
    return max(count // 10, 2) if quick else count


def _figure(row: Row, synchronous: str, samples: Mapping[str, Sequence[Sample]]) -> Figure:
    details = {}
    for name, of_side in samples.items():
        details[f"{name}, µs CPU"] = Spread.of([1e6 * one.cpu_seconds for one in of_side])
        details[f"{name}, µs"] = Spread.of([1e6 * one.wall_seconds for one in of_side])
    pairs = [*zip(samples[RAW], samples[SUBJECT], strict=True)]
    details["x raw, wall"] = Spread.of([a.wall_seconds / b.wall_seconds for a, b in pairs])
    for name in samples.keys() - {RAW, SUBJECT}:
        of_peer = zip(samples[name], samples[SUBJECT], strict=True)
        details[f"x {name}"] = Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in of_peer])
    value = Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in pairs])
    return Figure(row, synchronous, value, details)


MESSAGES: Final = Theme("messages", ROWS, measure)
WITH_BODIES: Final = Theme("bodies", BODIES, measure)
