"""Two engines answer the same requests for values, and keep the promises of `once` on the way.

The test keeps the leases and the last value of each key by itself: a caller computes only where no
other one does, a lease that was lost stores nothing, and no value is served after its time.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from durableq.engines import open_store
from durableq.model.once import OnceAnswer, OnceRequest, OnceStep
from durableq.testing import FakeClock
from durableq.testing.contract.case import FullStore
from tests.contract.walking import take_walks
from tests.support import new_file

KEYS = ("rates", "menu")
keys = st.sampled_from(KEYS)
seconds = st.sampled_from([0.5, 1, 2, 5])
which = st.integers(0, 3)


class Lease(NamedTuple):
    """A lease as the test knows it."""

    key: str
    token: bytes
    until_ms: int


class Kept(NamedTuple):
    """A value as the test knows it."""

    value: str
    expires_ms: int
    stale_until_ms: int


class OnceSideBySide(RuleBasedStateMachine):
    #: Number of requests in this process.
    asked: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.directory = tempfile.TemporaryDirectory()
        urls = ("memory://", self.other_url())
        self.stores = [cast(FullStore, open_store(url, clock=self.clock)) for url in urls]
        self.leases: list[Lease] = []
        #: The lease of each key that stores, until it is lost or ended.
        self.holders: dict[str, Lease] = {}
        self.values: dict[str, Kept] = {}
        self.wall_ahead_ms = 0

    def other_url(self) -> str:
        """Return the URL of an empty store of the other engine."""
        path = new_file(Path(self.directory.name) / "q.db", FakeClock)
        return f"sqlite:///{path}?synchronous=normal"

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.directory.cleanup()

    def both(self, call: Callable[[FullStore], Any]) -> Any:
        model, other = map(call, self.stores)
        assert other == model
        return model

    def picked(self, number: int) -> Lease:
        """Return a lease: the newest, or one of those before it."""
        return self.leases[-1 - number % len(self.leases)]

    def steady_ms(self) -> int:
        return self.clock.wall_ms() - self.wall_ahead_ms

    @rule(
        key=keys,
        lease=seconds,
        beta=st.sampled_from([0.0, 1.0, 5.0]),
        draw=st.sampled_from([1.0, 0.5, 0.01]),
        dead=st.none() | which,
    )
    def ask(self, key: str, lease: float, beta: float, draw: float, dead: int | None) -> None:
        token = (len(self.leases) + 1).to_bytes(16, "big")
        gone = None if dead is None or not self.leases else self.picked(dead).token
        request = OnceRequest(token, round(lease * 1000), "", beta, draw, gone)
        answer = self.both(lambda store: store.once_get_or_lease(key, request))
        OnceSideBySide.asked += 1
        self.judge(key, request, answer)
        if answer.step is OnceStep.COMPUTE:
            until_ms = self.clock.lease_ms() + request.lease_ms
            self.leases.append(Lease(key, token, until_ms))
            self.holders[key] = self.leases[-1]

    def judge(self, key: str, request: OnceRequest, answer: OnceAnswer) -> None:
        holder, kept, now_ms = self.holders.get(key), self.values.get(key), self.steady_ms()
        is_held = (
            holder is not None
            and holder.until_ms > self.clock.lease_ms()
            and holder.token != request.dead
        )
        if answer.step is OnceStep.SERVE:
            assert kept is not None
            assert answer.entry is not None
            assert answer.entry.value == kept.value
            assert now_ms < (kept.stale_until_ms if is_held else kept.expires_ms)
        else:
            assert is_held == (answer.step is OnceStep.WAIT)
            is_early = request.draw < 1 and request.beta > 0
            assert kept is None or is_early or now_ms >= kept.expires_ms
            assert not is_held or kept is None or now_ms >= kept.stale_until_ms
        assert answer.is_fresh == (kept is not None and now_ms < kept.expires_ms)

    @precondition(lambda self: self.leases)
    @rule(number=which, ttl=seconds, stale=st.sampled_from([0, 1, 5]), took=seconds)
    def store(self, number: int, ttl: float, stale: int, took: float) -> None:
        lease, value = self.picked(number), f'"{len(self.leases)}"'
        times = [round(length * 1000) for length in (ttl, stale, took)]
        lengths = dict(zip(("ttl_ms", "stale_ms", "compute_ms"), times, strict=True))
        done = self.both(lambda one: one.once_store(lease.key, lease.token, value, **lengths))
        assert done == (self.holders.get(lease.key) == lease)
        if done:
            del self.holders[lease.key]
            expires_ms = self.steady_ms() + lengths["ttl_ms"]
            self.values[lease.key] = Kept(value, expires_ms, expires_ms + lengths["stale_ms"])

    @precondition(lambda self: self.leases)
    @rule(number=which, length=seconds)
    def extend(self, number: int, length: float) -> None:
        lease, lease_ms = self.picked(number), round(length * 1000)
        done = self.both(lambda store: store.once_extend(lease.key, lease.token, lease_ms))
        assert done == (self.holders.get(lease.key) == lease)
        if done:
            longer = lease._replace(until_ms=self.clock.lease_ms() + lease_ms)
            self.leases[self.leases.index(lease)] = self.holders[lease.key] = longer

    @precondition(lambda self: self.leases)
    @rule(number=which)
    def give_back(self, number: int) -> None:
        lease = self.picked(number)
        done = self.both(lambda store: store.once_fail(lease.key, lease.token))
        assert done == (self.holders.get(lease.key) == lease)
        if done:
            del self.holders[lease.key]

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.both(lambda store: store.once_forget(key))
        self.holders.pop(key, None)
        self.values.pop(key, None)

    @rule(length=seconds)
    def wait(self, length: float) -> None:
        self.clock.advance(length)

    @rule(days=st.sampled_from([-1, 1]))
    def set_the_wall_clock(self, days: int) -> None:
        """Lifetimes count in steady time: nothing expires, and nothing is kept for longer."""
        for store in self.stores:
            store.declare_queue("orders", {"paused": 0})  # a write, which stores the time
        self.clock.set_wall(self.clock.wall_ms() + days * 86_400_000)
        self.wall_ahead_ms += days * 86_400_000

    @rule()
    def prune(self) -> None:
        """Only rows go that no caller sees any more. A lease that has ended goes with its row, so
        it cannot store: the memory engine, which prunes nothing, would."""
        now_ms, lease_now_ms = self.steady_ms(), self.clock.lease_ms()
        forgotten = (
            key
            for key, lease in self.holders.items()
            if lease.until_ms <= lease_now_ms
            and (key not in self.values or self.values[key].stale_until_ms <= now_ms)
        )
        if not any(forgotten):
            self.stores[1].prune()

    @invariant()
    def both_show_the_same(self) -> None:
        entries = self.both(lambda store: store.once_entries(10))
        shown = [self.entry_of(key) for key in sorted(KEYS)]
        assert entries == [entry for entry in shown if entry is not None]

    def entry_of(self, key: str) -> Any:
        return self.both(lambda store: store.once_entry(key))


#: As in the walk of queues: shrinking one takes longer than a test may.
WALKS = settings(
    max_examples=settings().max_examples // 4,
    stateful_step_count=40,
    derandomize=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def test_two_engines_that_keep_values_side_by_side_agree() -> None:
    before = OnceSideBySide.asked
    take_walks(OnceSideBySide, WALKS)
    assert OnceSideBySide.asked - before >= WALKS.max_examples
