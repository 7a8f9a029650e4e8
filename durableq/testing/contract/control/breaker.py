"""The circuit breaker of a queue: it opens, holds every receive, probes and closes."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Final

import pytest

from durableq.model.errors import Conflict, InvalidInput, UnknownQueue
from durableq.model.flow.breaker import Phase
from durableq.model.limits import MAX_UNCOUNTED
from durableq.model.message import Event, Message, Outcome, Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    drafts,
    fail,
    look,
    needs,
    newest,
    receipt,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

OPEN_MS: Final = 10_000
#: With random numbers of 0.5, jitter shortens the open time by a tenth.
OPEN_SECONDS: Final = 0.9 * OPEN_MS / 1000
#: The default of `breaker_open_max`.
LONGEST_SECONDS: Final = 300


def switch_on(store: FullStore, **changes: float) -> None:
    """Switch the breaker of `orders` on, without the slow start after it."""
    settings = {"breaker": 1, "breaker_minimum": 4, "slow_start_ms": 0}
    store.declare_queue(ORDERS, settings | changes)


def phase(store: FullStore) -> Phase:
    """Return the phase of the breaker of `orders`."""
    return store.breaker(ORDERS).phase


def is_down(store: FullStore, message: Message, retry_in_ms: int | None = None) -> Outcome:
    """Fail a message as Unavailable does."""
    return fail(store, receipt(message), reason=Reason.UNAVAILABLE, retry_in_ms=retry_in_ms)


@needs(Capability.CONTROL)
class BreakerContract(StoreCase):
    """The circuit breaker for workers."""

    def test_a_queue_has_none_until_it_is_switched_on(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(*range(20)))
        for message in receive(store, 20):
            fail(store, receipt(message), retry_in_ms=0)
        assert len(receive(store, 20)) == 20
        info = store.breaker(ORDERS)
        assert (info.is_on, info.phase, info.age_ms, info.reason) == (False, Phase.CLOSED, 0, "")

    def test_it_opens_at_the_share_of_distinct_messages_that_fail(self, store: FullStore) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(*range(10)))
        messages = receive(store)
        for message in messages[:3]:
            fail(store, receipt(message))
        assert phase(store) is Phase.CLOSED
        fail(store, receipt(messages[3]))
        info = store.breaker(ORDERS)
        assert (info.phase, info.failed, info.judged, info.trips) == (Phase.OPEN, 4, 4, 1)
        assert info.reason == "4 of 4 messages failed within 30 s"

    def test_its_share_is_a_setting(self, store: FullStore) -> None:
        switch_on(store, breaker_share=0.75)
        store.send(ORDERS, drafts(*range(10)))
        first, *others = map(receipt, receive(store))
        fail(store, first)
        complete(store, *others[:2])
        for failed in others[2:6]:
            fail(store, failed)
            assert phase(store) is Phase.CLOSED
        fail(store, others[6])
        assert phase(store) is Phase.OPEN

    def test_successes_keep_it_closed(self, store: FullStore) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(*range(40)))
        for good, *others, bad in zip(*[iter(receive(store, 40))] * 4, strict=True):
            fail(store, receipt(bad))
            complete(store, *map(receipt, [good, *others]))
        assert phase(store) is Phase.CLOSED

    def test_one_poison_message_counts_once(self, store: FullStore) -> None:
        switch_on(store, max_receives=50)
        send(store, "poison")
        for _ in range(20):
            fail(store, take(store), retry_in_ms=0)
        assert phase(store) is Phase.CLOSED

    @pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.UNDECODABLE])
    def test_messages_that_can_never_succeed_do_not_open_it(
        self, store: FullStore, reason: Reason
    ) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(*range(20)))
        for message in receive(store, 20):
            assert fail(store, receipt(message), reason=reason) is Outcome.BURIED
        assert phase(store) is Phase.CLOSED

    def test_leases_that_end_do_not_open_it(self, store: FullStore, clock: FakeClock) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(*range(20)))
        receive(store, 20)
        clock.advance(VISIBILITY_SECONDS)
        assert len(receive(store, 20)) == 20
        assert phase(store) is Phase.CLOSED

    def test_while_it_is_open_nothing_is_received_and_the_answer_names_the_wait(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(1, 2))
        [first] = receive(store, 1)
        is_down(store, first)
        received = store.receive(ORDERS, 10)
        wait_ms = round(OPEN_SECONDS * 1000)
        assert (received.messages, received.wait_ms) == ([], wait_ms)
        assert store.ready_in_ms([ORDERS]) == store.breaker(ORDERS).left_ms == wait_ms
        clock.advance(OPEN_SECONDS - 0.001)
        assert receive(store) == []
        clock.advance(0.001)
        assert store.ready_in_ms([ORDERS]) == 0
        assert len(receive(store)) == 1

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_unavailable_opens_it_at_once_and_costs_no_receive(self, store: FullStore) -> None:
        switch_on(store, max_receives=1)
        ids = store.send(ORDERS, drafts(1, 2, 3))
        messages = receive(store, 2)
        assert [is_down(store, message) for message in messages] == [Outcome.RETRY] * 2
        assert phase(store) is Phase.OPEN
        assert [look(store, one).receive_count for one in ids] == [0, 0, 0]
        assert story(store, ids[0]) == [("unavailable", "unavailable")]
        assert newest(store, ids[0]).actor == "worker-1"
        assert store.queue(DEAD).counts.present == 0

    def test_a_message_waits_as_long_as_its_service_asks(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        switch_on(store)
        store.send(ORDERS, drafts("asks", "other"))
        [first] = receive(store, 1)
        is_down(store, first, retry_in_ms=60_000)
        assert store.breaker(ORDERS).left_ms == 60_000
        clock.advance(60)
        assert bodies(receive(store)) == ['"other"']

    def test_without_a_breaker_unavailable_is_an_ordinary_failure(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_receives": 2})
        send(store)
        [message] = receive(store)
        assert is_down(store, message, retry_in_ms=5_000) is Outcome.RETRY
        assert receive(store) == []
        clock.advance(5)
        [message] = receive(store)
        assert message.receive_count == 2
        assert is_down(store, message) is Outcome.BURIED

    def test_other_failures_in_flight_count_while_it_is_open(self, store: FullStore) -> None:
        switch_on(store, max_receives=1)
        store.send(ORDERS, drafts(1, 2))
        first, second = receive(store)
        is_down(store, first)
        assert fail(store, receipt(second)) is Outcome.BURIED

    def test_probes_are_leases_and_close_it(self, store: FullStore, clock: FakeClock) -> None:
        self.open(store, clock, 10)
        probes = receive(store)
        assert len(probes) == 3
        received = store.receive(ORDERS, 10)
        assert (received.messages, received.wait_ms) == ([], VISIBILITY_SECONDS * 1000)
        assert phase(store) is Phase.HALF_OPEN
        complete(store, *map(receipt, probes))
        assert len(receive(store)) == 7
        info = store.breaker(ORDERS)
        assert (info.phase, info.reason) == (Phase.CLOSED, "3 of 3 probes succeeded")

    def test_the_place_of_a_lost_probe_returns_with_its_lease(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.open(store, clock, 10)
        assert len(receive(store)) == 3
        assert receive(store) == []
        clock.advance(VISIBILITY_SECONDS)
        probes = receive(store)
        assert len(probes) == 3
        complete(store, *map(receipt, probes))
        assert len(receive(store)) == 7

    def test_a_probe_that_raises_unavailable_opens_it_for_twice_as_long(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.open(store, clock, 10)
        [probe, *_] = receive(store)
        is_down(store, probe)
        info = store.breaker(ORDERS)
        assert (info.phase, info.trips) == (Phase.OPEN, 2)
        assert info.left_ms == round(2 * OPEN_SECONDS * 1000)
        assert receive(store) == []

    def test_probes_are_messages_that_have_not_raised_unavailable(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(*range(5)))
        for message in receive(store, 4):
            is_down(store, message)
        clock.advance(OPEN_SECONDS)
        assert bodies(receive(store)) == ["4"]
        assert receive(store) == [], "the others wait for its result"
        assert store.ready_in_ms([ORDERS]) == VISIBILITY_SECONDS * 1000

    def test_of_those_that_raised_it_the_first_is_the_first_probe(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        switch_on(store, breaker_probes=1)
        store.send(ORDERS, drafts(*range(3)))
        for message in reversed(receive(store, 3)):
            is_down(store, message)
            clock.advance(0.001)
        tried = []
        for _ in range(6):
            clock.advance(LONGEST_SECONDS)
            [probe] = receive(store)
            tried.append(probe.body)
            is_down(store, probe)
        assert tried == ["2", "1", "0"] * 2

    @needs(Capability.INSPECT)
    def test_where_other_probes_succeed_unavailable_is_the_messages_own_failure(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.open(store, clock, 10)
        good, poison, *_ = receive(store)
        complete(store, receipt(good))
        is_down(store, poison)
        assert phase(store) is Phase.HALF_OPEN
        assert look(store, poison.id).receive_count == 1

    @needs(Capability.INSPECT)
    def test_one_poison_message_does_not_stop_a_queue(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        switch_on(store)
        [poison] = store.send(ORDERS, drafts("poison"))
        store.send(ORDERS, drafts(*range(60)))
        opened = 0
        for _ in range(200):
            for message in receive(store, 5):
                if message.id == poison:
                    is_down(store, message)
                else:
                    complete(store, receipt(message))
            opened += phase(store) is Phase.OPEN
            clock.advance(2)
        assert store.queue(ORDERS).counters.completed == 60
        assert store.queue(DEAD).counts.present == 1
        assert store.breaker(ORDERS).trips <= 1
        assert opened <= 6, "it was open once, for ten seconds"

    @needs(Capability.INSPECT)
    def test_uncounted_receives_have_a_limit(self, store: FullStore, clock: FakeClock) -> None:
        switch_on(store, max_receives=2)
        send(store, "poison")
        for _ in range(MAX_UNCOUNTED):
            [message] = receive(store)
            assert message.receive_count == 1
            assert is_down(store, message) is Outcome.RETRY
            clock.advance(LONGEST_SECONDS)
        counted = []
        for _ in range(2):
            [message] = receive(store)
            counted.append(is_down(store, message))
            clock.advance(LONGEST_SECONDS)
        assert counted == [Outcome.RETRY, Outcome.BURIED]
        assert store.queue(DEAD).counts.present == 1

    @needs(Capability.INSPECT)
    def test_a_key_is_free_while_its_message_waits_for_the_breaker(self, store: FullStore) -> None:
        switch_on(store)
        message_id = send(store, key="k")
        [message] = receive(store)
        is_down(store, message)
        assert look(store, message_id).receive_count == 0
        store.set_breaker(ORDERS, is_open=False)
        assert complete(store, take(store)) == [Outcome.DONE]

    def test_a_person_opens_and_closes_it(self, store: FullStore, clock: FakeClock) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(1, 2))
        info = store.set_breaker(ORDERS, is_open=True, open_ms=3_600_000, actor="ada")
        assert (info.phase, info.left_ms, info.reason) == (Phase.OPEN, 3_600_000, "opened by ada")
        assert receive(store) == []
        clock.advance(1)
        assert store.breaker(ORDERS).age_ms == 1_000
        info = store.set_breaker(ORDERS, is_open=False, actor="ada")
        assert (info.phase, info.reason) == (Phase.CLOSED, "closed by ada")
        assert len(receive(store)) == 2

    def test_one_closed_by_hand_while_the_service_is_down_opens_again(
        self, store: FullStore
    ) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(1, 2))
        for message in receive(store):
            is_down(store, message)
        store.set_breaker(ORDERS, is_open=False)
        [first, _] = receive(store)
        is_down(store, first)
        assert phase(store) is Phase.OPEN

    def test_one_that_is_off_cannot_be_opened_or_closed(self, store: FullStore) -> None:
        for is_open in (True, False):
            with pytest.raises(Conflict, match=r"'orders' has no circuit breaker.*--breaker on"):
                store.set_breaker(ORDERS, is_open=is_open)
        with pytest.raises(UnknownQueue):
            store.breaker("nowhere")
        with pytest.raises(UnknownQueue):
            store.set_breaker("nowhere", is_open=True)
        switch_on(store)
        for is_open, open_ms in ((False, 1), (True, 0), (True, 1 << 60)):
            with pytest.raises(InvalidInput):
                store.set_breaker(ORDERS, is_open=is_open, open_ms=open_ms)
        assert phase(store) is Phase.CLOSED

    def test_switching_it_off_lets_everything_through(self, store: FullStore) -> None:
        switch_on(store)
        store.send(ORDERS, drafts(1, 2))
        [first] = receive(store, 1)
        is_down(store, first)
        store.declare_queue(ORDERS, {"breaker": 0})
        assert len(receive(store)) == 2

    def test_its_changes_are_in_the_history_of_the_queue(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.open(store, clock, 5)
        complete(store, *map(receipt, receive(store)))
        receive(store)
        store.set_breaker(ORDERS, is_open=True, actor="ada")
        told = store.breaker(ORDERS).transitions
        assert [event.detail["phase"] for event in told] == ["open", "half_open", "closed", "open"]
        assert {event.event for event in told} == {Event.BREAKER}
        assert {event.queue for event in told} == {ORDERS}
        assert told[0].detail["open_ms"] == LONGEST_SECONDS * 1000
        assert "raised ValueError: no such order" in told[0].detail["reason"]
        assert [event.actor for event in told] == ["", "", "", "ada"]
        assert told[-1].at_ms == clock.wall_ms()

    @needs(Capability.DEAD_LETTERS)
    def test_its_changes_are_in_the_history_of_no_message(self, store: FullStore) -> None:
        for queue in (ORDERS, DEAD):
            store.declare_queue(queue, {"breaker": 1})
            store.set_breaker(queue, is_open=True)
        assert [store.history(one) for one in ("1", "0", "-1", "none")] == [[], [], [], []]

    def test_a_queue_made_again_has_a_closed_breaker(self, store: FullStore) -> None:
        switch_on(store)
        send(store)
        is_down(store, receive(store)[0])
        store.delete_queue(ORDERS, force=True)
        switch_on(store)
        info = store.breaker(ORDERS)
        assert (info.phase, info.transitions) == (Phase.CLOSED, ())

    def open(self, store: FullStore, clock: FakeClock, number: int) -> None:
        """Let a message raise Unavailable, with a long wait; send others; let time pass."""
        switch_on(store)
        send(store, "first")
        is_down(store, receive(store)[0], retry_in_ms=3_600_000)
        store.send(ORDERS, drafts(*range(number)))
        clock.advance(LONGEST_SECONDS)
