"""No history of sends, receives, settlements and waits goes beyond a limit."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from durableq.engines.memory.store import MemoryStore
from durableq.model.flow.rate import default_burst
from durableq.model.flow.retries import CAP, IDLE_MS
from durableq.model.message import Completion, Failure, Reason, Receipt, Received, draft
from durableq.testing import FakeClock, FakeRandom

RATES = st.sampled_from([0.5, 3, 45, 100, 999.5, 20_000]) | st.floats(0.1, 5_000)
PAUSES_MS = st.integers(0, 3) | st.integers(0, 400)
LEASE_MS = 1_000
#: More than any history receives.
MANY = 200
BROKEN = Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=0)

#: The number asked for, the way of the messages, and the pause behind it.
Step = tuple[int, str, int]
WAYS = ("complete", "fail", "release", "lose")
steps = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(WAYS), PAUSES_MS), min_size=1, max_size=20
)


class Shop:
    """A queue with limits, and a worker that receives from it.

    Args:
        settings: of the queue.
    """

    def __init__(self, **settings: float) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock, FakeRandom())
        quiet = {"visibility_timeout_ms": LEASE_MS, "max_receives": 1_000}
        self.store.declare_queue("orders", quiet | settings)
        self.held: list[Receipt] = []

    def send(self, number: int) -> None:
        self.store.send("orders", [draft(n) for n in range(number)])

    def receive(self, number: int) -> Received:
        received = self.store.receive("orders", number)
        self.held += [message.receipt for message in received.messages if message.receipt]
        return received

    def end(self, way: str) -> None:
        """Settle all that is held, or let it go without a word."""
        receipts, self.held = self.held, []
        if way == "complete":
            self.store.complete([Completion(receipt) for receipt in receipts])
        elif way == "fail":
            self.store.fail([(receipt, BROKEN) for receipt in receipts])
        elif way == "release":
            self.store.release(receipts)

    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1_000)


def excess(times_ms: Sequence[int], rate: float, burst: int) -> Fraction:
    """Return the most deliveries that any window has beyond burst + rate x window.

    One at the end of a millisecond and one at the start of a later one are as close as can be.
    """
    return max(
        last + 1 - first - burst - Fraction(rate) * max(0, until_ms - at_ms - 1) / 1_000
        for first, at_ms in enumerate(times_ms)
        for last, until_ms in enumerate(times_ms)
        if last >= first
    )


@given(rate=RATES, burst=st.none() | st.integers(1, 20), history=steps)
def test_no_window_has_more_than_the_burst_and_the_rate(
    rate: float, burst: int | None, history: list[Step]
) -> None:
    shop = Shop(rate=rate, burst=burst or 0)
    shop.send(MANY)
    times_ms: list[int] = []
    for number, way, pause_ms in history:
        received = shop.receive(number)
        times_ms += [shop.clock.lease_ms()] * len(received.messages)
        while received.idle:  # until the next token, or until a lease ends before it
            assert received.wait_ms, "a receive without a message says how long to wait"
            shop.wait(received.wait_ms)
            received = shop.receive(1)
            times_ms += [shop.clock.lease_ms()] * len(received.messages)
        shop.end(way)
        shop.wait(pause_ms)
    if times_ms:
        assert excess(times_ms, rate, burst or default_burst(rate)) <= 0


@given(limits=st.lists(st.tuples(st.integers(1, 8), steps), min_size=1, max_size=2))
def test_never_more_in_flight_than_the_limit(limits: list[tuple[int, list[Step]]]) -> None:
    """A limit below what is in flight lets nothing through until it is below."""
    shop = Shop()
    shop.send(MANY)
    for limit, history in limits:
        shop.store.declare_queue("orders", {"max_in_flight": limit})
        for number, way, pause_ms in history:
            before = shop.store.queue("orders").counts.in_flight
            shop.receive(number)
            counts = shop.store.queue("orders").counts
            assert counts.in_flight <= max(limit, before)
            if counts.ready:
                assert counts.in_flight >= min(limit, number), "the limit lets no more through"
            if pause_ms % 2:
                shop.end(way)
            shop.wait(pause_ms)


@given(
    share=st.floats(0.01, 0.95),
    history=st.lists(st.tuples(st.integers(1, 20), st.integers(1, IDLE_MS - 1)), max_size=20),
)
def test_retries_are_within_their_share_of_any_window(
    share: float, history: list[tuple[int, int]]
) -> None:
    shop = Shop()
    shop.send(MANY // 2)
    shop.receive(MANY)
    shop.end("fail")
    shop.store.declare_queue("orders", {"retry_share": share})
    shop.receive(1)  # the pause is over: this one needs no credit
    shop.end("fail")
    retries: list[bool] = []
    for number, pause_ms in history:
        shop.send(number)
        retries += [message.receive_count > 1 for message in shop.receive(number).messages]
        shop.end("complete")
        shop.wait(pause_ms)
    for first in range(len(retries)):
        for last in range(first, len(retries)):
            window = retries[first : last + 1]
            assert sum(window) <= CAP + share * len(window)
