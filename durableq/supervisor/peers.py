"""Dead workers: their messages are reclaimed, by the process that knows most about them.

A worker that died just now may have a supervisor, which knows its running handlers; others leave
it to that one for a while. Where the engine knows the connections of workers, it also knows whether
the supervisor has its own, so that others need not wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from durableq.store.core import Capability, Store, WorkerInfo
from durableq.supervisor.liveness import Liveness, liveness

#: Delay between the two checks that find a worker dead before its messages are reclaimed.
CONFIRM_SECONDS: Final = 0.5
#: The same for a worker that cannot be seen, and that has perhaps lost its connection only. It is
#: also the interval of checks while a supervisor without its worker may end as well.
ENDED_SECONDS: Final = 1 / 16
#: Time for which the latter is expected.
CLOSELY_SECONDS: Final = 1.0
#: Time after which a server has ended, or committed, what a dead worker had asked it for.
LATE_SECONDS: Final = 1.0


class _Suspect(NamedTuple):
    """A worker that is dead, or seems to be."""

    #: On the monotonic clock.
    since: float
    #: Time from then until its messages are reclaimed, in seconds.
    delay: float
    #: Whether a supervisor answers for it.
    answered: bool

    def left(self, now: float) -> float:
        """Return the time until it is to be looked at again, in seconds."""
        left = self.delay - (now - self.since)
        if self.answered and now - self.since < CLOSELY_SECONDS:
            return min(left, ENDED_SECONDS)
        return left


def reclaim_dead_workers(store: Store) -> int:
    """Unregister dead workers and reclaim their messages; return the number of dead workers.

    Several processes may do so at once.
    """
    fleet = store.require(Capability.FLEET)
    dead = [one.owner_id for one in fleet.workers() if liveness(one) is Liveness.DEAD]
    for owner_id in dead:
        fleet.unregister(owner_id)
    return len(dead)


class DeadWorkers:
    """Reclaims the messages of workers that were found dead twice.

    Args:
        on_end: is called, in another thread, when the connection of a worker has ended.
    """

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self._on_end = on_end
        self._suspects: dict[int, _Suspect] = {}
        self._own: frozenset[int] = frozenset()
        #: Workers whose messages were reclaimed, and when.
        self._reclaimed: dict[int, float] = {}
        #: The owner ids of workers that were asked to end, at the last check.
        self.draining: frozenset[int] = frozenset()

    @property
    def has_suspects(self) -> bool:
        """Whether messages of a worker may be reclaimed at the next check."""
        return any(suspect.delay < math.inf for suspect in self._suspects.values())

    def answer_for(self, store: Store, owner_ids: Collection[int]) -> None:
        """Answer for the workers of this supervisor, so that others leave their messages to it."""
        own = frozenset(owner_ids)
        if own != self._own:
            self._own = own
            store.require(Capability.FLEET).answer_for(own)

    def reclaim(self, store: Store) -> float | None:
        """Reclaim the messages of suspects that are still dead.

        Returns:
            The time until the next check, in seconds, if there are suspects; None otherwise.
        """
        fleet = store.require(Capability.FLEET)
        workers, ended = fleet.workers(), fleet.ended()
        self.draining = frozenset(worker.owner_id for worker in workers if worker.draining)
        now, before = time.monotonic(), self._suspects
        self._suspects = {}
        for worker in workers:
            owner_id, answered = worker.owner_id, ended.get(worker.owner_id)
            delay = _delay(worker, answered)
            if delay is None:
                continue
            since = before[owner_id].since if owner_id in before else now
            if now - since >= delay:
                fleet.unregister(owner_id)
                self.watch_for_late(owner_id)
            else:
                self._suspects[owner_id] = _Suspect(since, delay, bool(answered))
        fleet.follow(self._next(workers), self._on_end)
        self._release_late(store, {worker.owner_id for worker in workers})
        left = min((one.left(now) for one in self._suspects.values()), default=math.inf)
        return max(0.0, left) if left < math.inf else None

    def watch_for_late(self, owner_id: int) -> None:
        """Look later for what a worker is given whose messages were reclaimed just now."""
        self._reclaimed[owner_id] = time.monotonic()

    def _release_late(self, store: Store, registered: Collection[int]) -> None:
        """Release what a server has leased to dead workers after their messages were reclaimed.

        A receive that was on its way may be committed then. No handler has begun.

        Args:
            store: the store.
            registered: a worker that was taken for dead may be back: it keeps its messages.
        """
        now = time.monotonic()
        due = [one for one, since in self._reclaimed.items() if now - since >= LATE_SECONDS]
        for owner_id in due:
            leased = store.require(Capability.FLEET).leases_of(owner_id)
            receipts = [message.receipt for message in leased if message.receipt is not None]
            if receipts and owner_id not in registered:
                store.release(receipts)
            del self._reclaimed[owner_id]

    def _next(self, workers: Sequence[WorkerInfo]) -> int | None:
        """Return the worker behind one of this fleet, in a ring of all: its end is waited for.

        So each fleet has another one that waits for an end in it, with one connection.
        """
        ring = [one.owner_id for one in workers if one.owner_id not in self._suspects]
        for owner_id, behind in zip(ring, ring[1:] + ring[:1], strict=True):
            if owner_id in self._own and behind not in self._own:
                return behind
        return None


def _delay(worker: WorkerInfo, answered: bool | None) -> float | None:
    """Return how long to wait for a sign of life, or for its supervisor; None if it seems to live.

    Args:
        worker: the worker.
        answered: whether a supervisor answers for it; None if its connection is not known to have
            ended.
    """
    seen = liveness(worker)
    if seen is Liveness.DEAD:
        return 0.0 if answered is False else CONFIRM_SECONDS
    if seen is Liveness.UNKNOWN and answered is not None:
        return math.inf if answered else ENDED_SECONDS
    return None
