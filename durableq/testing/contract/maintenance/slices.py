"""Maintenance: expired rows are removed in small slices, by any process; and the audit."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import threading

from durableq.model.decisions import Requeue
from durableq.model.health import COUNTERS, Level, MaintenanceReport, reconcile
from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
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
    needs,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

EVERY_SECONDS = MAINTENANCE_EVERY_MS / 1000

AGAIN_SECONDS = MAINTENANCE_AGAIN_MS / 1000


@needs(Capability.MAINTENANCE)
class SlicesContract(StoreCase):
    """The work of a maintenance slice, and its schedule."""

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_maintenance_removes_expired_rows(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(
            ORDERS,
            {"retention_ms": 60_000, "idempotency_ttl_ms": 1_000, "visibility_timeout_ms": 1},
        )
        send(store, key="k")
        complete(store, take(store))
        kill(store)
        store.purge(DEAD)
        send(store)
        store.declare_queue(DEAD, {"retention_ms": 60_000})
        clock.advance(60)
        report = store.maintain()
        assert report.due
        assert (report.expired, report.records) == (1, 1)
        assert report.history == 2  # failed, buried: in the queue itself
        assert store.queue(ORDERS).counters.expired == 1
        assert store.queue(ORDERS).counts.present == 0
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_store_in_which_nothing_has_ended_is_left_alone(self, store: FullStore) -> None:
        send(store)
        assert store.maintain() == MaintenanceReport(due=True)
        assert store.queue(ORDERS).counts.ready == 1

    def test_maintenance_is_due_at_intervals(self, store: FullStore, clock: FakeClock) -> None:
        assert store.maintain().due
        assert store.maintain() == MaintenanceReport()
        clock.advance(EVERY_SECONDS - 0.001)
        assert not store.maintain().due
        clock.advance(0.001)
        assert store.maintain().due

    @needs(Capability.INSPECT)
    def test_a_slice_is_short_and_the_next_one_follows_soon(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 60_000})
        store.send(ORDERS, drafts(*range(5)))
        clock.advance(60)
        assert store.maintain(limit=2).expired == 2
        assert not store.maintain(limit=2).due
        clock.advance(AGAIN_SECONDS)
        assert store.maintain(limit=2).expired == 2
        clock.advance(AGAIN_SECONDS)
        assert store.maintain(limit=2).expired == 1
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_maintenance_does_not_touch_leased_messages(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"retention_ms": 60_000})
        send(store)
        lease = take(store, visibility_ms=120_000)
        clock.advance(60)
        assert store.maintain().expired == 0
        complete(store, lease)
        assert counters_reconcile(store)

    def test_a_wall_clock_set_back_does_not_postpone_maintenance(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        assert store.maintain().due
        clock.set_wall(clock.wall_ms() - 3_600_000)
        assert not store.maintain().due
        clock.advance(EVERY_SECONDS)
        assert store.maintain().due
        assert not store.maintain().due

    def test_of_several_threads_one_runs_maintenance(self, store: FullStore) -> None:
        reports: list[MaintenanceReport] = []
        threads = [
            threading.Thread(target=lambda: reports.append(store.maintain())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [report.due for report in reports].count(True) == 1

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_used_store_has_no_orphans_and_its_counters_reconcile(self, store: FullStore) -> None:
        send(store, key="done")
        complete(store, take(store))
        kill(store, key="dead")
        kill(store)
        store.decide([(take(store, DEAD), Requeue())])
        send(store, key="in progress")
        take(store)
        findings = [*reconcile(store.queues()), *store.orphans()]
        assert {finding.level for finding in findings} == {Level.OK}
        assert [f.queue for f in findings if f.name == COUNTERS] == [ORDERS, DEAD]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_pruning_expires_messages_over_their_retention(
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

    @needs(Capability.DEAD_LETTERS, Capability.FLEET, Capability.CONTROL)
    def test_pruning_drops_the_history_of_messages_that_ended_long_ago(
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

    @needs(Capability.IDEMPOTENCY)
    def test_pruning_drops_expired_records_only(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 1_000})
        for key in ("a", "b", "c"):
            send(store, key=key)
            complete(store, take(store))
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 2_000})
        send(store, key="later")
        complete(store, take(store))
        send(store, key="now")
        take(store)
        clock.advance(1)
        assert store.prune(limit=2).records == 2
        assert store.prune().records == 1
        assert [record.key for record in store.records(ORDERS, 10)] == ["later", "now"]
