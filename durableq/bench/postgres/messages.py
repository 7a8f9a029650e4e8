"""Sending, receiving and completing on PostgreSQL, beside the same statements by hand.

Each side is a process of its own with a schema of its own, and they take turns in each round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from durableq.bench.figures import RAW, SUBJECT, Figure, Row, Setting, Theme
from durableq.bench.messages import MessageSide, figure_of, in_turns
from durableq.bench.postgres import peers
from durableq.bench.postgres.server import Schemas

ROUNDS, QUICK_ROUNDS = 11, 3
#: Messages of a workload by the size of its batches; in the quick mode a tenth.
COUNTS: Final = {1: 300, 10: 1_000, 100: 3_000}
_BODY_BYTES: Final = 250

ROWS: Final = tuple(
    Row(
        f"{name} {'one' if batch == 1 else f'in {batch}'}{', key' if is_keyed else ''}",
        "x raw",
        0.6,
        seconds=20,
        workload={
            "operation": operation,
            "batch": batch,
            "keyed": is_keyed,
            "body_bytes": _BODY_BYTES,
        },
    )
    for name, operation in (("send", "send"), ("receive + complete", "receive"))
    for is_keyed in (False, True)
    for batch in COUNTS
)


class Side(MessageSide):
    """A running subject in a schema.

    Args:
        name: `durableq`, `raw` or a peer.
        url: of its schema.
    """

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name, "-m", "durableq.bench.postgres.subject", name, url)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, interleaved."""
    names = [SUBJECT, RAW]
    if setting.peers:
        names += [name for name, peer in peers.PEERS.items() if peer.is_installed]
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    with Schemas(setting.database) as schemas, ExitStack() as stack:
        sides = [stack.enter_context(Side(name, schemas.make(name))) for name in names]
        for row in rows:
            able = [side for side in sides if peers.can(side.name, row.workload)]
            count = COUNTS[row.workload["batch"]]
            count = max(count // 10, row.workload["batch"]) if setting.quick else count
            samples = in_turns(row, able, count, rounds, setting)
            yield figure_of(row, setting.synchronous, samples)


MESSAGES: Final = Theme("messages", ROWS, measure, ROUNDS)
