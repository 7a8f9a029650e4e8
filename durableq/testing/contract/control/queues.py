"""Control: queues are purged, and deleted together with their dead-letter queue."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.message import Outcome
from durableq.model.queues import Counters, Counts
from durableq.model.wire_message import to_draft
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
    send,
    story,
    take,
)


@needs(Capability.CONTROL)
class WholeQueuesContract(StoreCase):
    """Operations on whole queues."""

    @needs(Capability.INSPECT)
    def test_an_unknown_queue_is_refused(self, store: FullStore) -> None:
        for ask in (store.queue, store.settings, store.purge, store.delete_queue):
            with pytest.raises(UnknownQueue):
                ask("unknown")

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
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

    def test_purging_forgets_deduplication_ids(self, store: FullStore) -> None:
        made = to_draft("x", deduplication_id="d")
        [first] = store.send(ORDERS, [made])
        assert store.send(ORDERS, [made]) == [first]
        store.purge(ORDERS)
        assert store.send(ORDERS, [made]) != [first]
        assert len(store.receive(ORDERS, 10).messages) == 1

    @needs(Capability.IDEMPOTENCY)
    def test_purging_keeps_completed_records(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store))
        store.purge(ORDERS)
        assert store.record(ORDERS, "k") is not None

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_dead_letter_queue_can_be_purged(self, store: FullStore) -> None:
        message_id = kill(store)
        assert store.purge(DEAD) == 1
        assert store.message(message_id) is None
        assert [event for event, _ in story(store, message_id)] == ["failed", "buried"]

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_deleting_takes_the_dead_letter_queue_along(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store))
        store.delete_queue(ORDERS)
        assert store.queues() == []
        store.declare_queue(ORDERS, {})
        assert store.records(ORDERS, 10) == []
        assert store.queue(ORDERS).counters == Counters()

    @needs(Capability.INSPECT)
    def test_a_queue_with_messages_is_deleted_only_by_force(self, store: FullStore) -> None:
        message_id = send(store)
        with pytest.raises(Conflict):
            store.delete_queue(ORDERS)
        lease = take(store)
        store.delete_queue(ORDERS, force=True)
        assert store.message(message_id) is None
        assert complete(store, lease) == [Outcome.GONE]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_queue_with_dead_letters_is_deleted_only_by_force(self, store: FullStore) -> None:
        message_id = kill(store)
        with pytest.raises(Conflict):
            store.delete_queue(ORDERS)
        store.delete_queue(ORDERS, force=True)
        assert store.message(message_id) is None
        assert store.history(message_id) == []

    @needs(Capability.INSPECT)
    def test_a_dead_letter_queue_is_not_deleted_alone(self, store: FullStore) -> None:
        with pytest.raises(Conflict):
            store.delete_queue(DEAD, force=True)
        assert len(store.queues()) == 2

    @needs(Capability.IDEMPOTENCY, Capability.INSPECT)
    def test_other_queues_are_left_alone(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, queue="mail", key="k")
        take(store, "mail")
        store.purge(ORDERS)
        store.delete_queue(ORDERS)
        assert store.queue("mail").counts.in_flight == 1
        assert store.record("mail", "k") is not None
