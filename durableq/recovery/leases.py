"""A thread that extends the leases of dead letters while policies decide about them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from durableq.model.errors import DurableQError
from durableq.model.info import WorkerStats
from durableq.model.message import Message, Receipt
from durableq.runtime.outage import describe
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability, Store

log = logging.getLogger("durableq.recovery")

#: Maximum interval between two checks of the leases; a third of the shortest lease if that is less.
CHECK_SECONDS: Final = 0.25
#: A dead letter that waits this long behind others is released, for another recovery process.
WAIT_SECONDS: Final = 1.0
#: Interval between two heartbeats in the process's row.
BEAT_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Lease:
    lease_ms: int
    extend_at: float
    #: None once a policy decides about it.
    waits_since: float | None


class RecoveryLeases:
    """The leases of one recovery process, from the receive until the decision is applied.

    Args:
        store: the store of the dead letters.
        owner_id: the owner id of the process.
    """

    def __init__(self, store: Store, owner_id: int) -> None:
        self._store = store
        self._owner_id = owner_id
        self._leases: dict[Receipt, _Lease] = {}
        self._changing = threading.Lock()
        # Held during a release: the dead letters are neither in flight nor ready until it ends.
        self._returning = threading.Lock()
        self._seconds = CHECK_SECONDS
        self._beat_due = time.monotonic() + BEAT_SECONDS
        #: Number of decisions that were applied or refused.
        self.decided = 0
        self._done = WakeupEvent()
        self._changed = WakeupEvent()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> RecoveryLeases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._changed.set()
        self._thread.join()
        self._done.close()
        self._changed.close()

    def add(self, messages: Iterable[Message]) -> None:
        """Extend the leases of these messages from now on."""
        now = time.monotonic()
        with self._changing:
            for message in messages:
                if message.receipt is not None:
                    lease_ms = message.lease_left_ms
                    self._leases[message.receipt] = _Lease(lease_ms, now + lease_ms / 3000, now)
                    self._seconds = min(self._seconds, lease_ms / 3000)
        self._changed.set()

    def start(self, receipt: Receipt) -> bool:
        """Keep a dead letter until the decision; False if it was released, or lost."""
        with self._changing:
            lease = self._leases.get(receipt)
            if lease is not None:
                lease.waits_since = None
        return lease is not None

    def forget(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """Extend these leases no longer; return those that were known."""
        with self._changing:
            return [receipt for receipt in receipts if self._leases.pop(receipt, None) is not None]

    def end(self, receipt: Receipt) -> None:
        """Count a decision that was applied or refused; its lease is extended no longer."""
        self.forget([receipt])
        self.decided += 1

    def release(self, receipts: Iterable[Receipt] | None = None) -> None:
        """Release these dead letters, or all. On an error their leases end by themselves."""
        with self._changing:
            chosen = list(self._leases) if receipts is None else list(receipts)
        known = self.forget(chosen)
        try:
            if known:
                self._store.release(known)
        except DurableQError as error:
            log.warning(
                "%s dead letters come back when their leases end: %s", len(known), describe(error)
            )

    @contextmanager
    def none_returning(self) -> Iterator[None]:
        """Wait for the end of a release by the thread; it begins none inside."""
        with self._returning:
            yield

    @property
    def is_empty(self) -> bool:
        """Whether no dead letter is in flight."""
        with self._changing:
            return not self._leases

    def _run(self) -> None:
        while not self._done.is_set:
            if self._changed.wait(self._seconds):
                self._changed.clear()
            if not self._done.is_set:
                self._release_waiting()
                self._extend()
                self._beat()

    def _release_waiting(self) -> None:
        """Release the dead letters that waited too long; on an error they stay in flight."""
        with self._returning:
            waiting = self._take_waiting(time.monotonic() - WAIT_SECONDS)
            try:
                if waiting:
                    self._store.release(list(waiting))
            except DurableQError as error:
                log.warning("%s dead letters go back later: %s", len(waiting), describe(error))
                with self._changing:
                    self._leases |= waiting

    def _take_waiting(self, since: float) -> dict[Receipt, _Lease]:
        with self._changing:
            waiting = {
                receipt: lease
                for receipt, lease in self._leases.items()
                if lease.waits_since is not None and lease.waits_since <= since
            }
            for receipt in waiting:
                del self._leases[receipt]
        return waiting

    def _extend(self) -> None:
        now = time.monotonic()
        with self._changing:
            due = [(r, lease) for r, lease in self._leases.items() if lease.extend_at <= now]
        by_lease: dict[int, list[Receipt]] = {}
        for receipt, lease in due:
            by_lease.setdefault(lease.lease_ms, []).append(receipt)
        for lease_ms, receipts in by_lease.items():
            try:
                outcomes = self._store.extend(receipts, lease_ms)
            except DurableQError as error:
                log.warning("leases could not be extended: %s", describe(error))
                return
            lost = [r for r, o in zip(receipts, outcomes, strict=True) if o.refused]
            for receipt in self.forget(lost):  # not those that were settled just now
                log.debug("dead letter %s is not ours any more", receipt.message_id)
        for _, lease in due:
            lease.extend_at = now + lease.lease_ms / 3000

    def _beat(self) -> None:
        if time.monotonic() < self._beat_due:
            return
        self._beat_due = time.monotonic() + BEAT_SECONDS
        with self._changing:
            in_flight = len(self._leases)
        state = "working" if in_flight else "idle"
        stats = WorkerStats(state, handled=self.decided, in_flight=in_flight)
        try:
            self._store.require(Capability.FLEET).beat(self._owner_id, stats)
        except DurableQError as error:
            log.warning("the heartbeat could not be written: %s", describe(error))
