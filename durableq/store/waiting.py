"""Receives that wait, for engines whose own do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from durableq.model.limits import MAX_WAIT_MS
from durableq.model.message import Received
from durableq.model.units import check_whole
from durableq.store.core import Watch


class CanWait(Protocol):
    """The part of a store that a receive waits with."""

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive may return a message; see Queueing."""
        ...

    def watch(self) -> Watch:
        """Start watching for writes."""
        ...


def receive_or_wait(
    store: CanWait, queue: str, wait_ms: int, receive: Callable[[], Received]
) -> Received:
    """Receive as Queueing.receive does, for engines whose `receive` does not wait by itself.

    Args:
        store: the engine's store.
        queue: the source.
        wait_ms: as for Queueing.receive.
        receive: one receive, in a transaction of its own.
    """
    check_whole(wait_ms, "The wait of a receive in ms", 0, MAX_WAIT_MS)
    received = receive()
    if not received.idle:
        return received
    if not wait_ms:
        is_known = received.wait_ms is not None
        return received if is_known else received._replace(wait_ms=store.ready_in_ms([queue]))
    deadline = time.monotonic() + wait_ms / 1000
    with closing(store.watch()) as watch:
        while True:
            ready_in_ms = store.ready_in_ms([queue])
            if ready_in_ms == 0:  # a receive is a write, and others write to other queues
                received = receive()
                if not received.idle:
                    return received
                ready_in_ms = received.wait_ms or 0  # of a batch that is not gathered yet
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                return received._replace(wait_ms=ready_in_ms)
            until_due = left_seconds if ready_in_ms is None else ready_in_ms / 1000
            watch.wait(min(left_seconds, until_due))
