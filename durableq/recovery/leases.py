"""The letters in hand: a thread extends their leases, however long a policy thinks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from durableq.model.errors import DurableQError
from durableq.model.message import Message, Receipt
from durableq.runtime.outage import condition
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability, Store

log = logging.getLogger("durableq.recovery")

#: Leases are looked at this often, or three times a lease if that is more often.
LONGEST_SECONDS: Final = 0.25
#: What waits this long behind a letter goes back, for another recovery process to decide.
WAIT_SECONDS: Final = 1.0
#: How often the file is told that this process lives.
ROW_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Held:
    lease_ms: int
    extend_at: float
    #: None once its turn has come.
    waits_since: float | None


class Leases:
    """The letters of one recovery process, from their receipt until they are let go.

    Args:
        store: where leases are extended.
        holder: the process's mark.
    """

    def __init__(self, store: Store, owner_id: int) -> None:
        self._store = store
        self._owner_id = owner_id
        self._held: dict[Receipt, _Held] = {}
        self._changing = threading.Lock()
        self._returning = threading.Lock()
        """Held while letters go back: until then they are neither in hand nor ready."""
        self._seconds = LONGEST_SECONDS
        self._row_due = time.monotonic() + ROW_SECONDS
        self._done = WakeupEvent()
        self._sooner = WakeupEvent()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sooner.set()
        self._thread.join()
        self._done.close()
        self._sooner.close()

    def take(self, messages: Iterable[Message]) -> None:
        """Note what was just received."""
        now = time.monotonic()
        with self._changing:
            for message in messages:
                if message.receipt is not None:
                    lease_ms = message.lease_left_ms
                    self._held[message.receipt] = _Held(lease_ms, now + lease_ms / 3000, now)
                    self._seconds = min(self._seconds, lease_ms / 3000)
        self._sooner.set()

    def begin(self, receipt: Receipt) -> bool:
        """Note that a letter's turn has come; False if it went back, or was lost."""
        with self._changing:
            held = self._held.get(receipt)
            if held is not None:
                held.waits_since = None
        return held is not None

    def let_go(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """Extend these no longer; return those that were still in hand."""
        with self._changing:
            return [receipt for receipt in receipts if self._held.pop(receipt, None) is not None]

    def give_back(self, receipts: Iterable[Receipt] | None = None) -> None:
        """Release these letters, or all; what cannot be told comes back when its lease ends."""
        with self._changing:
            chosen = list(self._held) if receipts is None else list(receipts)
        self._release(self.let_go(chosen))

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Wait until no letter is on its way back; none sets out inside."""
        with self._returning:
            yield

    @property
    def are_empty(self) -> bool:
        """Whether no letter is in hand."""
        with self._changing:
            return not self._held

    def _release(self, receipts: list[Receipt]) -> None:
        try:
            if receipts:
                self._store.release(receipts)
        except DurableQError as error:
            log.warning(
                "%s letters come back when their leases end: %s", len(receipts), condition(error)
            )

    def _run(self) -> None:
        while not self._done.is_set:
            if self._sooner.wait(self._seconds):
                self._sooner.clear()
            if not self._done.is_set:
                self._give_back_waiting()
                self._extend()
                self._beat()

    def _give_back_waiting(self) -> None:
        """Release the letters that waited too long; those that cannot be told stay in hand."""
        with self._returning:
            waiting = self._take_waiting(time.monotonic() - WAIT_SECONDS)
            try:
                if waiting:
                    self._store.release(list(waiting))
            except DurableQError as error:
                log.warning("%s letters go back later: %s", len(waiting), error)
                with self._changing:
                    self._held |= waiting

    def _take_waiting(self, since: float) -> dict[Receipt, _Held]:
        with self._changing:
            waiting = {
                receipt: held
                for receipt, held in self._held.items()
                if held.waits_since is not None and held.waits_since <= since
            }
            for receipt in waiting:
                del self._held[receipt]
        return waiting

    def _extend(self) -> None:
        now = time.monotonic()
        with self._changing:
            due = [(r, held) for r, held in self._held.items() if held.extend_at <= now]
        by_lease: dict[int, list[Receipt]] = {}
        for receipt, held in due:
            by_lease.setdefault(held.lease_ms, []).append(receipt)
        for lease_ms, receipts in by_lease.items():
            try:
                outcomes = self._store.extend(receipts, lease_ms)
            except DurableQError as error:
                log.warning("leases could not be extended: %s", condition(error))
                return
            lost = [r for r, o in zip(receipts, outcomes, strict=True) if o.refused]
            for receipt in self.let_go(lost):  # what is settled by now is not in hand any more
                log.info("letter %s is not ours any more", receipt.message_id)
        for _, held in due:
            held.extend_at = now + held.lease_ms / 3000

    def _beat(self) -> None:
        if time.monotonic() < self._row_due:
            return
        self._row_due = time.monotonic() + ROW_SECONDS
        try:
            self._store.require(Capability.FLEET).beat(self._owner_id)
        except DurableQError as error:
            log.warning("the heartbeat could not be written: %s", condition(error))
