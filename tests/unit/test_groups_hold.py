"""Properties of groups under any history: their order, their number, and none is left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durableq.engines.memory import MemoryStore
from durableq.model.message import Completion, Failure, Message, Reason, Receipt, State, draft
from durableq.testing import FakeClock

QUEUE = "orders"
NAMES = ("a", "b", "c")
FAILURES = {
    "retry": Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=0),
    "wait": Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=2_000),
    "reject": Failure(Reason.REJECTED, "E", ""),
}
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)),
        st.tuples(st.just("receive"), st.integers(1, 4)),
        st.tuples(st.just("batch"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["complete", "release", *FAILURES]), st.integers(0, 5)),
        st.tuples(st.just("advance"), st.sampled_from([1, 3, 11])),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=40,
)


class Shop:
    """A queue of groups, and what is known about its messages."""

    def __init__(self, concurrency: int) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock, lambda: 0.0)
        settings = {"group_concurrency": concurrency, "visibility_timeout_ms": 10_000}
        self.store.declare_queue(QUEUE, {**settings, "max_receives": 3})
        self.concurrency = concurrency
        self.leases: list[Receipt] = []

    def alive(self) -> list[Message]:
        return self.store.peek(QUEUE, 1_000)

    def take(self, limit: int, *, by_group: bool = False) -> list[Message]:
        before = {m.id for m in self.alive() if m.state is State.IN_FLIGHT}
        messages = self.store.receive(QUEUE, limit, by_group=by_group).messages
        self.leases += [m.receipt for m in messages if m.receipt is not None]
        self.check(messages, by_group=by_group, held=before)
        return messages

    def check(self, messages: Sequence[Message], *, by_group: bool, held: set[str]) -> None:
        """Hold a receive against the promises of groups."""
        taken = {message.id for message in messages}
        in_flight = [m for m in self.alive() if m.state is State.IN_FLIGHT]
        if by_group:
            assert len({message.group for message in messages}) <= 1
        elif not any(m.id in held for m in in_flight):  # else a batch may be in flight
            for number in Counter(m.group for m in in_flight).values():
                assert number <= self.concurrency
        if self.concurrency == 1:
            first = {m.group: m.id for m in reversed(self.alive())}
            for group, message_id in first.items():
                ours = [m.id for m in messages if m.group == group]
                assert not ours or message_id in taken
                assert ours == sorted(ours, key=int)

    def step(self, what: str, value: Any) -> None:
        match what:
            case "send":
                self.store.send(QUEUE, [draft(1, group=name) for name in value])
            case "receive" | "batch":
                self.take(value, by_group=what == "batch")
            case "advance":
                self.clock.advance(value)
            case "cancel":
                there = [message.id for message in self.alive()]
                self.store.cancel(there[value : value + 1])
            case _ if self.leases:
                self.settle(what, self.leases.pop(value % len(self.leases)))

    def settle(self, what: str, receipt: Receipt) -> None:
        if what == "complete":
            self.store.complete([Completion(receipt)])
        elif what == "release":
            self.store.release([receipt])
        else:
            self.store.fail([(receipt, FAILURES[what])])

    def drain(self) -> None:
        """Let all leases end, and complete everything."""
        for _ in range(1_000):
            messages = self.take(2)
            self.store.complete([Completion(m.receipt) for m in messages if m.receipt is not None])
            if not messages:
                if not self.alive():
                    return
                self.clock.advance(11)
        raise AssertionError(f"left: {self.alive()}")


@given(st.sampled_from([1, 1, 2, 3]), steps)
def test_groups_keep_their_order_and_their_limit_and_leave_nothing_behind(
    concurrency: int, history: list[tuple[str, Any]]
) -> None:
    shop = Shop(concurrency)
    for what, value in history:
        shop.step(what, value)
    shop.drain()
    assert not shop.alive()


@given(steps, st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_no_group_is_stranded_while_the_setting_changes(
    history: list[tuple[str, Any]], limits: list[int]
) -> None:
    shop = Shop(1)
    for number, (what, value) in enumerate(history):
        if number % 7 == 0:
            limit = limits[number // 7 % len(limits)]
            shop.store.declare_queue(QUEUE, {"group_concurrency": limit})
            shop.concurrency = 1_000  # no promise holds meanwhile
        shop.step(what, value)
    shop.drain()
    assert not shop.alive()
