"""Sending, receiving and completing in one process, beside the same statements by hand.

Each side is a process of its own with a file of its own. In each round every side runs the workload
in turn, in another order each time, so that all see the same machine. A ratio is formed within a
round, of processor time: other processes on the machine disturb it less than wall time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import durableq
from durableq.bench import peers
from durableq.bench.figures import RAW, SUBJECT, Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.piped import PipedProcess

AGAINST: Final = "against"
ROUNDS, QUICK_ROUNDS = 15, 3
#: Messages of a workload, single and in batches; in the quick mode a tenth.
SINGLE, BATCHED = 300, 3000
_SMALL: Final = 100
#: Longer bodies make a batch a file of tens of megabytes.
_LONG: Final = 100_000


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
    _row(f"{name}, {shown}", None, operation, batch, body_bytes=size)
    for shown, size in (("100 B", 100), ("10 KB", 10_000), ("500 KB", 500_000))
    for name, operation, batch in (
        ("send one", "send", 1),
        ("send in 100", "send", 100),
        ("receive + complete one", "receive", 1),
    )
)


class MessageSide(PipedProcess):
    """A running subject of a workload of messages."""

    def run(self, workload: Mapping[str, Any], count: int) -> Sample:
        """Run a workload and return the seconds of each message."""
        self.tell(json.dumps({**workload, "count": count}))
        cpu, wall = json.loads(self.answer())
        return Sample(cpu / count, wall / count)


class Side(MessageSide):
    """A running subject on a file.

    Args:
        name: `durableq`, `raw`, `against` or a peer.
        setting: the setting of the run.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        tree = setting.against if name == AGAINST else Path(durableq.__file__).parent.parent
        path = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))
        script = str(Path(__file__).with_name("subject.py"))
        arguments = ("-P", script, name, str(setting.folder), setting.synchronous)
        super().__init__(name, *arguments, environment={"PYTHONPATH": path})


def in_turns(
    row: Row, sides: Sequence[MessageSide], count: int, rounds: int, setting: Setting
) -> dict[str, list[Sample]]:
    """Run a row on each side in each round, in another order each time; return the samples.

    Args:
        row: its workload is run.
        sides: those that can run it.
        count: the messages of a side in a round.
        rounds: their number, without the first one, which warms up.
        setting: is told of the progress.
    """
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        setting.progress(f"{row.name} ({setting.synchronous}): round {number} of {rounds}")
        turn = number % len(sides)
        for side in (*sides[turn:], *sides[:turn]):
            sample = side.run(row.workload, count)
            if number:
                samples[side.name].append(sample)
    return samples


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
            able = [side for side in sides if peers.can(side.name, row.workload)]
            count = _count(row, quick=setting.quick)
            samples = in_turns(row, able, count, rounds, setting)
            yield figure_of(row, setting.synchronous, samples)


def _count(row: Row, *, quick: bool) -> int:
    """Return the number of messages in a round: whole batches, of long bodies one."""
    batch = row.workload["batch"]
    count = SINGLE if batch == 1 else BATCHED
    if row.workload["body_bytes"] > _LONG:
        count = SINGLE // 10 if batch == 1 else batch
    return max(count // 10, 2) if quick else count


def figure_of(row: Row, synchronous: str, samples: Mapping[str, Sequence[Sample]]) -> Figure:
    """Return raw's processor time divided by durableq's, round by round, and that of all sides."""
    details = times_of(samples)
    pairs = [*zip(samples[RAW], samples[SUBJECT], strict=True)]
    details["wall, x raw"] = Spread.of([a.wall_seconds / b.wall_seconds for a, b in pairs])
    for name in [one for one in samples if one not in {RAW, SUBJECT}]:
        of_peer = zip(samples[name], samples[SUBJECT], strict=True)
        details[f"x {name}"] = Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in of_peer])
    value = Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in pairs])
    return Figure(row, synchronous, value, details)


def times_of(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Spread]:
    """Return the microseconds of a message on each side."""
    found = {}
    for name, of_side in samples.items():
        found[f"{name}, µs CPU"] = Spread.of([1e6 * one.cpu_seconds for one in of_side])
        found[f"{name}, µs wall"] = Spread.of([1e6 * one.wall_seconds for one in of_side])
    return found


MESSAGES: Final = Theme("messages", ROWS, measure, ROUNDS)
WITH_BODIES: Final = Theme("bodies", BODIES, measure, ROUNDS)
