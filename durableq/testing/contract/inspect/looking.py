"""Inspection: reads for people, which change nothing."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.decisions import Requeue
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import DAY_MS
from durableq.model.message import Outcome, Reason, State
from durableq.model.queues import ApproximateCounts
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    drafts,
    fail,
    kill,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock


@needs(Capability.INSPECT)
class LookingContract(StoreCase):
    """The queries of the Inspect capability."""

    def test_peeking_shows_every_state_in_order_of_id(self, store: FullStore) -> None:
        send(store, 1, priority=-1)
        send(store, 2, delay=10)
        send(store, 3)
        take(store)
        states = [message.state for message in store.peek(ORDERS, 10)]
        assert states == [State.READY, State.DELAYED, State.IN_FLIGHT]

    def test_approximate_counts_are_those_of_this_moment(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        for options in (
            {},
            {"delay": 5},
            {"group": "g"},
            {"group": "g"},
            {"group": "g", "delay": 5},
        ):
            send(store, **options)
        assert store.approximate_counts(ORDERS) == ApproximateCounts(3, 0, 2)
        receive(store, 1)
        assert store.approximate_counts(ORDERS) == ApproximateCounts(2, 1, 2)
        store.declare_queue(ORDERS, {"paused": 1})
        clock.advance(5)
        assert store.approximate_counts(ORDERS) == ApproximateCounts(4, 1, 0)
        clock.advance(VISIBILITY_SECONDS)
        assert store.approximate_counts(ORDERS) == ApproximateCounts(5, 0, 0)
        assert store.queue(ORDERS).counts.in_flight == 1
        with pytest.raises(UnknownQueue):
            store.approximate_counts("nowhere")

    def test_peeking_goes_page_by_page(self, store: FullStore) -> None:
        ids = store.send(ORDERS, drafts(*range(12)))
        seen: list[str] = []
        while page := store.peek(ORDERS, 5, after_id=seen[-1] if seen else None):
            seen += [message.id for message in page]
        assert seen == ids

    @pytest.mark.parametrize("after_id", ["", "x", "-1", "1e3", "9" * 30])
    def test_peeking_after_an_invalid_id_is_refused(self, store: FullStore, after_id: str) -> None:
        with pytest.raises(InvalidInput, match="is not a message id"):
            store.peek(ORDERS, 5, after_id=after_id)

    def test_peeking_receives_nothing(self, store: FullStore, clock: FakeClock) -> None:
        send(store, delay=1)
        clock.advance(1)
        [before] = store.peek(ORDERS, 1)
        assert (before.state, before.receive_count) == (State.DELAYED, 0)
        assert store.peek(ORDERS, 1) == [before]
        assert before.receipt is None

    @needs(Capability.IDEMPOTENCY)
    def test_peeking_into_an_unknown_queue_is_refused(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.peek("unknown", 1)
        with pytest.raises(UnknownQueue):
            store.records("unknown", 1)

    def test_the_rest_of_a_lease_is_never_negative(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store)
        take(store)
        clock.advance(10)
        assert look(store, message_id).lease_left_ms == 20_000
        clock.advance(VISIBILITY_SECONDS)
        assert look(store, message_id).lease_left_ms == 0

    def test_counts_tell_the_states_apart(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        send(store, 4, delay=10)
        first, _ = receive(store, 2)
        fail(store, receipt(first))
        counts = store.queue(ORDERS).counts
        assert (counts.ready, counts.delayed, counts.in_flight, counts.held) == (1, 2, 1, 0)
        assert counts.present == store.queue(ORDERS).counters.expected == 4

    def test_a_store_without_maintenance_yet_has_no_samples(self, store: FullStore) -> None:
        send(store)
        assert store.samples(ORDERS, 0) == []
        with pytest.raises(UnknownQueue):
            store.samples("nowhere", 0)

    def test_storage_has_an_engine_a_version_and_a_size(self, store: FullStore) -> None:
        send(store, "x" * 1000)
        storage = store.storage()
        assert storage.engine
        assert storage.version
        assert storage.durability in {"full", "normal", "none"}
        assert storage.size_bytes >= 0
        assert storage.log_bytes >= 0

    def test_queues_come_in_order_of_name(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        store.declare_queue("Z", {})
        names = [info.name for info in store.queues()]
        assert names == ["Z", "Z-dlq", "mail", "mail-dlq", ORDERS, DEAD]

    def test_a_queue_shows_the_time_of_its_oldest_ready_message(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first_ms = clock.wall_ms()
        send(store, priority=-1)
        clock.advance(1)
        send(store)
        assert store.queue(ORDERS).oldest_ready_ms == first_ms
        receive(store, 2)
        assert store.queue(ORDERS).oldest_ready_ms is None

    @needs(Capability.DEAD_LETTERS)
    def test_a_message_that_came_back_is_as_old_as_its_return(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        dead = kill(store)
        clock.advance(1)
        second_ms = clock.wall_ms()
        send(store)
        clock.advance(1)
        send(store)
        assert store.decide_by_id(DEAD, [dead], Requeue()) == [dead]
        assert store.queue(ORDERS).oldest_ready_ms == second_ms

    def test_a_recount_of_the_messages_agrees_with_the_counters(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2, 3))
        send(store, 4, delay=10)
        take(store)
        assert store.queues(recount=True) == store.queues()

    @needs(Capability.IDEMPOTENCY, Capability.DEAD_LETTERS)
    @jumps
    def test_dates_are_shown_as_the_wall_clock_is_now(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        dead = kill(store)
        send(store, key="k", priority=1)
        complete(store, take(store))
        message_id = send(store, delay=100)
        set_ahead(clock, jump_ms)
        now_ms = clock.wall_ms()
        seen, record, dead_letter = (
            look(store, message_id),
            store.record(ORDERS, "k"),
            look(store, dead),
        )
        assert (seen.sent_at_ms, seen.delayed_until_ms) == (now_ms, now_ms + 100_000)
        assert record is not None
        assert record.expires_at_ms == now_ms + DAY_MS
        assert dead_letter.enqueued_at_ms == now_ms == store.history(dead)[0].at_ms
        assert {group.last_died_ms for group in store.dead_letter_groups()} == {now_ms}
        assert store.queue(DEAD).oldest_ready_ms == now_ms
        assert receive(store, queue=DEAD)[0].enqueued_at_ms == now_ms

    def test_a_group_shows_the_messages_that_its_blocked_ones_wait_for(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 2})
        first, second, *_ = (send(store, number, group="a") for number in range(4))
        send(store, 9, group="b")
        group = store.group(ORDERS, "a")
        assert [message.id for message in group.active] == [first, second]
        assert group.dead == []
        assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
        group = store.group(ORDERS, "a")
        assert [message.id for message in group.dead] == [first]
        assert len(group.active) == 2
        assert len(store.group(ORDERS, "a", 1).active) == 1
        with pytest.raises(UnknownQueue):
            store.group("nowhere", "a")
