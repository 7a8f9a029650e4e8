"""An application whose batches gather in a window; each look of a worker at the window is noted.

The window and the lease are so long that a test fails where one of them has to end.
"""

from __future__ import annotations

from typing import Any, Final

from durableq import Batch, DurableQ
from durableq.client.gathering import Gathering
from tests.process.app import Ledger

LEAST: Final = 3

dq = DurableQ()
_gathering: Any = Gathering
_left_ms = Gathering.left_ms


def left_ms(self: Gathering, store: Any, queue: str) -> int | None:
    """Note the number of messages that are ready, and look."""
    ready = store.count_ready(queue, self.least).number
    left = _left_ms(self, store, queue)
    Ledger(dq.url).note("looks", str(ready))
    return left


_gathering.left_ms = left_ms


@dq.handler("orders", batch=10, min=LEAST, window=600)
def handle(batch: Batch) -> None:
    Ledger(dq.url).note("batch", ",".join(f"{one.id}#{one.receive_count}" for one in batch))
