"""Sends to a full queue: waiting for room, and the warning about shed messages."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, Protocol

from durableq.model.errors import QueueFull
from durableq.runtime.logs import facts
from durableq.store.core import Watch

log = logging.getLogger("durableq.engine")

#: The time between two warnings of this process about one queue.
WARN_EVERY_SECONDS: Final = 1.0
#: When the last warning about a queue was, and how many messages were shed since.
_shed: Final[dict[str, tuple[float, int]]] = {}
_shed_lock: Final = threading.Lock()


class CanWatch(Protocol):
    """The part of a store that a send waits with."""

    def watch(self) -> Watch:
        """Start watching for writes."""
        ...


def send_when_room(
    store: CanWatch,
    send: Callable[[], list[str]],
    full: QueueFull,
    has_room: Callable[[QueueFull], bool],
) -> list[str]:
    """Wait until a queue has room, and send, for a queue whose `on_full` is block.

    It waits outside any transaction, so that workers can make room.

    Args:
        store: the engine's store.
        send: one send, in a transaction of its own.
        full: the error of the first.
        has_room: a look that does not write, so that many that wait do not keep writers out.

    Raises:
        QueueFull: there was no room in the queue's `block_timeout`; or this thread runs an event
            loop, whose other coroutines would wait as well.
    """
    if _runs_a_loop():
        raise full
    deadline = time.monotonic() + full.block_ms / 1000
    with closing(store.watch()) as watch:
        while True:
            if has_room(full):
                try:
                    return send()
                except QueueFull as again:
                    if not again.block_ms:
                        raise
                    full = again
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                raise QueueFull(
                    full.queue, full.why, full.needs, block_ms=full.block_ms, waited=True
                )
            watch.wait(left_seconds)


def _runs_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def warn_shed(queue: str, number: int) -> None:
    """Log that messages to a queue were shed, at most once a second for each queue."""
    with _shed_lock:
        now = time.monotonic()
        last, before = _shed.get(queue, (-WARN_EVERY_SECONDS, 0))
        number += before
        is_due = now - last >= WARN_EVERY_SECONDS
        _shed[queue] = (now, 0) if is_due else (last, number)
    if is_due:
        log.warning(
            "queue %s is full, and on_full is shed: %s messages were dropped",
            queue,
            number,
            extra=facts("shed", queue=queue, number=number),
        )
