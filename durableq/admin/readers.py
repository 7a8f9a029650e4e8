"""The queues that running workers receive from, and those with a backlog that none receives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.supervisor.liveness import may_be_alive

#: Maximum number of queues that a sentence names.
NAMED: Final = 3


class Readers:
    """The running workers and recovery processes, each with the queues it receives from.

    Args:
        workers: the registered ones; dead ones do not count.
    """

    def __init__(self, workers: Iterable[WorkerInfo]) -> None:
        self._running = [worker for worker in workers if may_be_alive(worker)]

    def of(self, queue: str) -> int | None:
        """Return the number that receive from a queue.

        None: none is known to, and the queues of one are unknown; an older durableq registered it.
        """
        known = [worker.queues for worker in self._running if worker.queues is not None]
        number = sum(queue in queues for queues in known)
        return number or (0 if len(known) == len(self._running) else None)

    def lack(self, queue: str) -> str:
        """Return that no running worker receives from a queue, or empty text if one does or may."""
        if self.of(queue) != 0:
            return ""
        names = {name for worker in self._running for name in worker.queues or ()}
        handled = sorted(name for name in names if not name.endswith(DEAD_LETTER_SUFFIX))
        if not handled:
            return f"no running worker is registered, so none handles {queue!r}"
        more = f" and {len(handled) - NAMED} more" if len(handled) > NAMED else ""
        others = ", ".join(map(repr, handled[:NAMED])) + more
        return f"no running worker handles {queue!r}; those that run handle {others}"

    def neglect(self, info: QueueInfo) -> str:
        """Return that no worker handles the waiting messages of a queue, or empty text.

        It is empty if one does, and for a queue that is paused, has no waiting messages, or is a
        dead-letter queue, in which they may wait for a person.
        """
        waiting = info.counts.ready + info.counts.delayed
        if not waiting or info.settings.paused or info.dead_letter_queue is None:
            return ""
        lack = self.lack(info.name)
        counted = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
        return f"{lack}; {counted} there" if lack else ""


#: Advice about a queue that no running worker handles.
ADVICE: Final = (
    "Start a worker that has a handler for it: durableq work --app MODULE:ATTRIBUTE. A program "
    "that calls receive() itself is not registered; if one does, there is nothing to do."
)
