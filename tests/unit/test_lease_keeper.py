"""The lease keeper in time of its own: each call of the store takes as long as a test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from durableq import DurableQ
from durableq.client.handlers import Handler
from durableq.model.message import Outcome, Receipt
from durableq.supervisor.scoreboard import Scoreboard
from durableq.testing.fakes import FakeClock
from durableq.worker import in_flight, lease_keeper
from durableq.worker.in_flight import Work
from durableq.worker.lease_keeper import LeaseKeeper
from durableq.worker.options import WorkerOptions
from durableq.worker.state import WorkerState

LEASE_MS = 1_000
HANDLER = Handler("orders", print, batch=None, prefetch=1)


class SlowStore:
    """Extends leases slowly, and stands for the time as well.

    The transaction of an extension reads the clock after `wait_ms`, with the write lock in hand,
    and is committed `commit_ms` later.
    """

    capabilities: frozenset[Any] = frozenset()

    def __init__(self, wait_ms: int, commit_ms: int) -> None:
        self.now_ms = 100_000
        self.until_ms = 0
        #: What was left of the lease when an extension read the clock, and when it was committed.
        self.left_ms: list[int] = []
        self._wait_ms, self._commit_ms = wait_ms, commit_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def require(self, _: object) -> SlowStore:
        return self

    def beat(self, *_: object) -> bool:
        return True

    def extend(self, receipts: Sequence[Receipt], lease_ms: int) -> list[Outcome]:
        self.now_ms += self._wait_ms
        self.left_ms.append(self.until_ms - self.now_ms)
        self.until_ms = self.now_ms + lease_ms
        self.now_ms += self._commit_ms
        self.left_ms.append(self.until_ms - self.now_ms)
        return [Outcome.DONE] * len(receipts)


class Keeping:
    """A lease keeper with a message whose handler runs."""

    def __init__(
        self, store: SlowStore, monkeypatch: pytest.MonkeyPatch, lease_ms: int = LEASE_MS
    ) -> None:
        dq = DurableQ("memory://", clock=FakeClock())
        store.until_ms = store.now_ms + lease_ms
        orders = dq.queue("orders", visibility_timeout=lease_ms / 1000)
        orders.send(1)
        (message,) = orders.receive(1)
        self.store = store
        for module in (in_flight, lease_keeper):
            monkeypatch.setattr(module, "time", store)
        monkeypatch.setattr(lease_keeper, "wait_readable", self._wait)
        self.state = WorkerState(dq, WorkerOptions("", dq.url, "worker"), Scoreboard())
        self.keeper: Any = LeaseKeeper(self.state, lease_ms)
        monkeypatch.setattr(self.keeper, "_store", store)
        self.message = message
        self._checks = 0

    def receive(self, took_ms: int) -> None:
        """Let the handler begin, after a receive whose COMMIT took this time."""
        asked_at = self.store.monotonic()
        self.store.now_ms += took_ms
        self.state.in_flight.add(Work(HANDLER, [self.message], asked_at))

    def check(self, times: int) -> None:
        """Run the keeper for so many checks."""
        self._checks = times
        self.keeper._set_interval()
        self.keeper._keep_leases()
        self.keeper._done.clear()

    def _wait(self, seconds: float, *_: object) -> bool:
        self.store.now_ms += max(0, round(seconds * 1000))
        self._checks -= 1
        if self._checks == 0:
            self.keeper._done.set()
        return False


def test_a_lease_is_kept_though_each_extension_takes_two_thirds_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SlowStore(wait_ms=330, commit_ms=330)
    keeping = Keeping(store, monkeypatch)
    keeping.receive(took_ms=0)
    keeping.check(times=20)
    assert len(store.left_ms) >= 20
    assert min(store.left_ms) > LEASE_MS / 4


def test_a_lease_counts_from_before_the_receive_that_brought_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SlowStore(wait_ms=0, commit_ms=0)
    keeping = Keeping(store, monkeypatch, lease_ms=3_000)
    keeping.receive(took_ms=900)
    keeping.check(times=1)
    assert store.left_ms[:1] == [3_000 - 900 - 250]


def test_a_lease_is_extended_at_the_last_check_before_a_third_of_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SlowStore(wait_ms=0, commit_ms=0)
    keeping = Keeping(store, monkeypatch, lease_ms=3_000)
    keeping.receive(took_ms=0)
    keeping.check(times=40)
    assert store.left_ms[0::2] == [3_000 - 750] * 13
