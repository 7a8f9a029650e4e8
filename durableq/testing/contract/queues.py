"""Queues: made with their dead-letter queue, changed, emptied, removed together."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import Conflict, InvalidInput, UnknownQueue
from durableq.model.message import Outcome
from durableq.model.queues import Counters, Counts, QueueSettings
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    drafts,
    kill,
    look,
    needs,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock


class QueuesContract(StoreCase):
    """The promises about queues."""

    @needs(Capability.INSPECT)
    def test_a_queue_is_made_with_its_dead_letter_queue(self, store: FullStore) -> None:
        dead, orders = sorted(store.queues(), key=lambda info: info.name != DEAD)
        assert (orders.name, orders.dead_letter_queue) == (ORDERS, DEAD)
        assert (dead.name, dead.dead_letter_queue) == (DEAD, None)
        for info in (orders, dead):
            assert (info.settings, info.counters) == (QueueSettings(), Counters())
            assert (info.counts, info.oldest_ready_ms) == (Counts(), None)

    @needs(Capability.INSPECT)
    def test_declaring_says_what_is_there(self, store: FullStore) -> None:
        info = store.declare_queue("mail", {"max_receives": 9})
        assert info == store.queue("mail")
        assert info.settings == QueueSettings(max_receives=9)
        assert store.queue("mail-dlq").settings == QueueSettings()

    @needs(Capability.INSPECT)
    def test_queues_come_in_order_of_name(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        store.declare_queue("Z", {})
        names = [info.name for info in store.queues()]
        assert names == ["Z", "Z-dlq", "mail", "mail-dlq", ORDERS, DEAD]

    @needs(Capability.INSPECT)
    def test_declaring_again_changes_only_what_is_named(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_receives": 9})
        send(store)
        store.declare_queue(ORDERS, {"delay_ms": 1})
        assert store.queue(ORDERS).settings == QueueSettings(max_receives=9, delay_ms=1)
        assert store.queue(ORDERS).counts.present == 1

    @needs(Capability.INSPECT)
    def test_a_dead_letter_queue_has_settings_too(self, store: FullStore) -> None:
        info = store.declare_queue(DEAD, {"visibility_timeout_ms": 1})
        assert (info.name, info.settings.visibility_timeout_ms) == (DEAD, 1)
        assert store.queue(ORDERS).settings == QueueSettings()

    def test_settings_can_be_had_without_counting(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_receives": 9})
        assert store.settings(ORDERS) == QueueSettings(max_receives=9)
        assert store.settings(DEAD) == QueueSettings()

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("name", ["", "a b", "x" * 77, "mail-dlq", "ü", "a\n", "a:b"])
    def test_a_name_no_queue_may_have_is_refused(self, store: FullStore, name: str) -> None:
        with pytest.raises(InvalidInput):
            store.declare_queue(name, {})
        assert len(store.queues()) == 2

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("name", ["mail", ORDERS])
    @pytest.mark.parametrize("changes", [{"max_receives": 0}, {"colour": 1}])
    def test_a_setting_out_of_bounds_changes_nothing(
        self, store: FullStore, name: str, changes: dict[str, int]
    ) -> None:
        before = store.queues()
        with pytest.raises(InvalidInput):
            store.declare_queue(name, changes)
        assert store.queues() == before

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_a_queue_nobody_made_is_unknown(self, store: FullStore) -> None:
        for ask in (store.queue, store.settings, store.purge, store.delete_queue):
            with pytest.raises(UnknownQueue):
                ask("nobody")

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT, Capability.CONTROL)
    def test_purging_removes_every_message_leased_ones_too(self, store: FullStore) -> None:
        dead = kill(store, 0)
        store.send(ORDERS, drafts(1, 2))
        send(store, 3, delay=10)
        send(store, 4, key="k", priority=1)
        send(store, 5, key="k", priority=1)
        lease = take(store)
        store.receive(ORDERS, 1)
        assert store.purge(ORDERS) == 5
        info = store.queue(ORDERS)
        assert (info.counts, info.counters.purged) == (Counts(), 5)
        assert store.record(ORDERS, "k") is None
        assert complete(store, lease) == [Outcome.GONE]
        assert look(store, dead).queue == DEAD
        assert counters_reconcile(store)
        assert store.purge(ORDERS) == 0

    @needs(Capability.IDEMPOTENCY, Capability.CONTROL)
    def test_purging_keeps_what_has_succeeded(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store))
        store.purge(ORDERS)
        assert store.record(ORDERS, "k") is not None

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT, Capability.CONTROL)
    def test_a_dead_letter_queue_can_be_purged(self, store: FullStore) -> None:
        message_id = kill(store)
        assert store.purge(DEAD) == 1
        assert store.message(message_id) is None
        assert [event for event, _ in story(store, message_id)] == ["failed", "buried"]

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT, Capability.CONTROL)
    def test_deleting_takes_the_dead_letter_queue_along(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store))
        store.delete_queue(ORDERS)
        assert store.queues() == []
        store.declare_queue(ORDERS, {})
        assert store.records(ORDERS, 10) == []
        assert store.queue(ORDERS).counters == Counters()

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_a_queue_with_messages_is_deleted_only_by_force(self, store: FullStore) -> None:
        message_id = send(store)
        with pytest.raises(Conflict):
            store.delete_queue(ORDERS)
        lease = take(store)
        store.delete_queue(ORDERS, force=True)
        assert store.message(message_id) is None
        assert complete(store, lease) == [Outcome.GONE]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT, Capability.CONTROL)
    def test_dead_letters_are_messages_to_be_asked_about(self, store: FullStore) -> None:
        message_id = kill(store)
        with pytest.raises(Conflict):
            store.delete_queue(ORDERS)
        store.delete_queue(ORDERS, force=True)
        assert store.message(message_id) is None
        assert store.history(message_id) == []

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_a_dead_letter_queue_is_not_deleted_alone(self, store: FullStore) -> None:
        with pytest.raises(Conflict):
            store.delete_queue(DEAD, force=True)
        assert len(store.queues()) == 2

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT, Capability.CONTROL)
    def test_other_queues_are_left_alone(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, queue="mail", key="k")
        take(store, "mail")
        store.purge(ORDERS)
        store.delete_queue(ORDERS)
        assert store.queue("mail").counts.in_flight == 1
        assert store.record("mail", "k") is not None

    @needs(Capability.INSPECT)
    def test_the_oldest_ready_message_says_how_long_a_queue_waits(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first_ms = clock.wall_ms()
        send(store, priority=-1)
        clock.advance(1)
        send(store)
        assert store.queue(ORDERS).oldest_ready_ms == first_ms
        receive(store, 2)
        assert store.queue(ORDERS).oldest_ready_ms is None

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT, Capability.MAINTENANCE)
    def test_pruning_ends_what_is_over_its_retention(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 60_000})
        leased = send(store, priority=1)
        take(store)
        ids = [send(store), send(store), send(store)]
        clock.advance(59.999)
        assert store.prune().expired == 0
        clock.advance(0.001)
        assert store.prune(limit=2).expired == 2
        assert store.message(ids[2]) is not None
        assert store.prune(limit=2).expired == 1
        for message_id in ids:
            assert store.message(message_id) is None
            assert story(store, message_id) == [("expired", "expired")]
        assert store.message(leased) is not None
        assert store.queue(ORDERS).counters.expired == 3
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.CONTROL, Capability.MAINTENANCE)
    def test_pruning_forgets_the_history_of_what_ended_long_ago(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 60_000, "backoff_max_ms": 0})
        ended = kill(store)
        clock.advance(30)
        there = send(store)
        store.purge(DEAD)
        for _ in range(2):
            take(store, visibility_ms=1)
            clock.advance(0.001)
            store.reclaim()
        clock.advance(29.997)
        assert store.prune().history == 0
        clock.advance(0.001)
        assert store.prune(limit=1).history == 1
        assert store.prune().history == 1
        assert store.history(ended) == []
        assert len(store.history(there)) == 2
