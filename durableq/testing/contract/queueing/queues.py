"""Queues: declared with their dead-letter queue, changed, paused."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.message import Outcome, State
from durableq.model.queues import Counters, Counts
from durableq.model.settings import QueueSettings
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    look,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


class QueuesContract(StoreCase):
    """Declared queues, their settings, and paused ones."""

    @needs(Capability.INSPECT)
    def test_a_queue_is_made_with_its_dead_letter_queue(self, store: FullStore) -> None:
        dead, orders = sorted(store.queues(), key=lambda info: info.name != DEAD)
        assert (orders.name, orders.dead_letter_queue) == (ORDERS, DEAD)
        assert (dead.name, dead.dead_letter_queue) == (DEAD, None)
        for info in (orders, dead):
            assert (info.settings, info.counters) == (QueueSettings(), Counters())
            assert (info.counts, info.oldest_ready_ms) == (Counts(), None)

    @needs(Capability.INSPECT)
    def test_declaring_returns_the_queue(self, store: FullStore) -> None:
        info = store.declare_queue("mail", {"max_receives": 9})
        assert info == store.queue("mail")
        assert info.settings == QueueSettings(max_receives=9)
        assert store.queue("mail-dlq").settings == QueueSettings()

    @needs(Capability.INSPECT)
    def test_declaring_again_changes_only_the_named_settings(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_receives": 9})
        send(store)
        store.declare_queue(ORDERS, {"delay_ms": 1})
        assert store.queue(ORDERS).settings == QueueSettings(max_receives=9, delay_ms=1)
        assert store.queue(ORDERS).counts.present == 1

    @needs(Capability.INSPECT)
    def test_a_change_that_creates_nothing_needs_the_queue(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.declare_queue("mail", {"max_receives": 9}, creates=False)
        assert {info.name for info in store.queues()} == {ORDERS, DEAD}
        info = store.declare_queue(ORDERS, {"max_receives": 9}, creates=False)
        assert info.settings.max_receives == 9

    @needs(Capability.INSPECT)
    def test_a_dead_letter_queue_has_settings_too(self, store: FullStore) -> None:
        info = store.declare_queue(DEAD, {"visibility_timeout_ms": 1})
        assert (info.name, info.settings.visibility_timeout_ms) == (DEAD, 1)
        assert store.queue(ORDERS).settings == QueueSettings()

    def test_settings_are_read_without_counts(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_receives": 9})
        assert store.settings(ORDERS) == QueueSettings(max_receives=9)
        assert store.settings(DEAD) == QueueSettings()

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("name", ["", "a b", "x" * 81, "ü", "a\n", "a:b"])
    def test_a_bad_queue_name_is_refused(self, store: FullStore, name: str) -> None:
        with pytest.raises(InvalidInput):
            store.declare_queue(name, {})
        assert len(store.queues()) == 2

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("name", ["mail", ORDERS])
    @pytest.mark.parametrize("changes", [{"max_receives": -1}, {"colour": 1}])
    def test_a_setting_out_of_bounds_changes_nothing(
        self, store: FullStore, name: str, changes: dict[str, float]
    ) -> None:
        before = store.queues()
        with pytest.raises(InvalidInput):
            store.declare_queue(name, changes)
        assert store.queues() == before

    @needs(Capability.INSPECT)
    def test_a_paused_queue_accepts_and_settles_but_delivers_nothing(
        self, store: FullStore
    ) -> None:
        send(store, "before")
        lease = take(store)
        store.declare_queue(ORDERS, {"paused": 1})
        send(store, "after")
        assert store.receive(ORDERS, 10).idle
        assert complete(store, lease) == [Outcome.DONE]
        counts = store.queue(ORDERS).counts
        assert (counts.ready, counts.in_flight) == (1, 0)
        assert counters_reconcile(store)
        store.declare_queue(ORDERS, {"paused": 0})
        assert len(receive(store)) == 1

    @needs(Capability.INSPECT)
    def test_a_paused_queue_reclaims_expired_leases(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store)
        take(store)
        store.declare_queue(ORDERS, {"paused": 1})
        clock.advance(VISIBILITY_SECONDS)
        assert store.receive(ORDERS, 1).idle
        assert look(store, message_id).state is State.READY

    def test_a_paused_queue_has_no_more_to_receive(self, store: FullStore) -> None:
        send(store)
        store.declare_queue(ORDERS, {"paused": 1})
        assert not store.receive(ORDERS, 1).more
