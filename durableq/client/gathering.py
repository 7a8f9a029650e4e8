"""The receive window: a receive waits until there are enough messages for a batch, or for so long.

It waits before it leases, so no lease runs meanwhile, and other receivers can take the messages.
The receive counts them again in its transaction: of several receivers, one takes the batch.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final, NamedTuple

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_RECEIVE
from durableq.model.message import Gather, Received
from durableq.model.settings import QueueSettings
from durableq.model.units import Seconds, check_whole, to_ms
from durableq.store.core import Queueing, Watch

#: Between two looks while other processes write.
_PAUSE_SECONDS: Final = 0.005


class Gathering(NamedTuple):
    """The window of a receive, or of a handler's batches."""

    #: The number of messages that is enough.
    least: int
    #: How long the first of them may wait for the others.
    window_ms: int
    #: The lease of the messages; None means that of the queue.
    lease_ms: int | None = None

    @property
    def terms(self) -> Gather:
        """The condition of a receive."""
        return Gather(self.least, self.window_ms)

    def check(self, queue: str, settings: QueueSettings) -> None:
        """Check the window against the settings of a queue.

        Raises:
            InvalidInput: they contradict each other.
        """
        if 0 < settings.max_in_flight < self.least:
            raise InvalidInput(
                f"min is {self.least}, and queue {queue!r} lets only {settings.max_in_flight} "
                "messages be in flight (max_in_flight): change one of them."
            )
        lease_ms = self.lease_ms or settings.visibility_timeout_ms
        if self.window_ms > lease_ms // 3:
            raise InvalidInput(
                f"A window of {self.window_ms / 1000:.15g} s is longer than a third of the "
                f"visibility_timeout of queue {queue!r} ({lease_ms / 1000:.15g} s). Change one of "
                "them."
            )

    def left_ms(self, store: Queueing, queue: str) -> int | None:
        """Return the time until a receive should take messages: 0 is now, None is not known."""
        ready_in_ms = store.ready_in_ms([queue])
        if ready_in_ms != 0:
            return ready_in_ms
        ready = store.count_ready(queue, self.least)
        lease_ms = self.lease_ms or store.settings(queue).visibility_timeout_ms
        return self.terms.left_ms(ready, lease_ms)


def gathering(
    limit: int | None,
    least: int | None,
    window: Seconds | None,
    lease_ms: int | None = None,
    *,
    what: str = "limit",
) -> Gathering | None:
    """Return the checked window of a receive; None without one.

    Args:
        limit: the largest number of messages.
        least: `min`; None means the limit.
        window: in seconds.
        lease_ms: of the receive; None means that of the queue.
        what: the name of the limit.

    Raises:
        InvalidInput: an argument is missing or out of bounds, or contradicts another.
    """
    if window is None:
        if least is not None:
            raise InvalidInput("min is the number of messages that a window ends with: give both.")
        return None
    if limit is None:
        raise InvalidInput(f"A window gathers the messages of a batch: give {what} too.")
    check_whole(limit, what, 1, MAX_RECEIVE)
    window_ms = to_ms(window, "window")
    check_whole(window_ms, "A window in ms", 1, 1 << 40)
    if least is None:
        return Gathering(limit, window_ms, lease_ms)
    check_whole(least, "min", 1, MAX_RECEIVE)
    if least > limit:
        raise InvalidInput(f"min ({least}) is more than {what} ({limit}): change one of them.")
    return Gathering(least, window_ms, lease_ms)


def gather(store: Queueing, queue: str, limit: int, wanted: Gathering) -> Received:
    """Receive a batch when it is time; without any message, wait as long as the window."""
    ends_at = time.monotonic() + wanted.window_ms / 1000
    with closing(store.watch()) as watch:
        while True:
            _wait(store, queue, wanted, watch, ends_at)
            received = store.receive(
                queue, limit, visibility_ms=wanted.lease_ms, gather=wanted.terms
            )
            is_over = time.monotonic() >= ends_at and store.ready_in_ms([queue]) != 0
            if received.messages or is_over:
                return received
            if not received.more:  # another receiver took the batch: wait for the next one
                watch.wait(_PAUSE_SECONDS)


def _wait(store: Queueing, queue: str, wanted: Gathering, watch: Watch, ends_at: float) -> None:
    """Wait until a receive should take messages, or until the end where there are none.

    Args:
        store: the store.
        queue: the source.
        wanted: the window.
        watch: of the store.
        ends_at: on the monotonic clock.
    """
    while (left_ms := wanted.left_ms(store, queue)) != 0:
        seconds = ends_at - time.monotonic() if left_ms is None else left_ms / 1000
        if store.ready_in_ms([queue]) != 0:  # none is there yet
            seconds = min(seconds, ends_at - time.monotonic())
            if seconds <= 0:
                return
        if watch.wait(max(0.0, seconds)):
            time.sleep(_PAUSE_SECONDS)
