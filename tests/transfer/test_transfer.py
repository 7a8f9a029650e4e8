"""A transfer moves everything, and the target goes on where the source was."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.admin.transfer import transfer
from durableq.admin.transfer_plan import plan
from durableq.engines import open_store
from durableq.engines.sql.definitions import moved
from durableq.engines.sql.definitions import tables as definitions
from durableq.engines.sql.schema import REVISIONS
from durableq.model.errors import DatabaseMoved
from durableq.model.health import is_healthy
from durableq.model.message import Failure, Outcome, Reason, State
from durableq.store.core import Capability, WorkerInfo
from durableq.testing import FakeClock
from durableq.testing.contract.case import ORDERS, complete, look, receive, send, take
from tests.transfer.places import (
    Places,
    all_there_is,
    fill,
    opened,
    revision,
    rows,
    settle_all,
    sql,
    tables,
)

_FAILURE = Failure(Reason.HANDLER_ERROR, "ValueError", "no")


def test_everything_is_moved(places: Places) -> None:
    clock = FakeClock()
    with opened(places.source, clock=clock) as store:
        fill(store)
        leased = [
            m for info in store.queues() for m in store.peek(info.name, 99) if m.lease_left_ms
        ]
    moved_rows = transfer(*places, clocks=(clock, clock))
    assert moved_rows.released == len(leased) == 2
    assert moved_rows.findings == []
    assert revision(places.source) == "moved"
    assert revision(places.target) == REVISIONS[-1]
    sql(places.source, f"UPDATE durableq_version SET version_num = '{REVISIONS[-1]}'")
    with opened(places.source, clock=clock) as old, opened(places.target, clock=clock) as new:
        assert all_there_is(new) == all_there_is(old)
        assert is_healthy(operations.audit(new))
        for message in leased:
            given_back = look(new, message.id)
            assert given_back.state is State.READY
            assert given_back.receive_count == message.receive_count - 1
        assert settle_all(new) > 0
        assert is_healthy(operations.audit(new))


def test_a_limit_in_flight_holds_in_the_target(places: Places) -> None:
    """SQLite counts the leases where few may be in flight; PostgreSQL keeps a counter."""
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {"max_in_flight": 2})
        for number in range(9):
            send(store, number)
    transfer(*places)
    with opened(places.target) as store:
        first = [message.receipt for message in receive(store, 5) if message.receipt]
        assert len(first) == 2
        store.declare_queue(ORDERS, {"visibility_timeout_ms": 61_000})
        assert receive(store, 5) == []
        complete(store, *first)
        assert len(receive(store, 5)) == 2
        assert store.queue(ORDERS).limits.in_flight == 2
        assert is_healthy(operations.audit(store))


def test_later_ids_are_higher(places: Places) -> None:
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {})
        ids = [int(send(store, number)) for number in range(3)]
        settle_all(store)
        owner_id = store.register(WorkerInfo("gone", 1, 2)).owner_id
        store.unregister(owner_id)
    transfer(*places)
    with opened(places.target) as store:
        assert int(send(store, "later")) == ids[-1] + 1
        assert store.register(WorkerInfo("new", 1, 2)).owner_id > owner_id


def test_keys_and_deduplication_ids_hold_in_the_target(places: Places) -> None:
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {})
        send(store, "paid", key="k")
        settle_all(store)
        first = send(store, "once", deduplication_id="d")
    transfer(*places)
    with opened(places.target) as store:
        assert send(store, "once", deduplication_id="d") == first
        send(store, "paid", key="k")
        received = store.receive(ORDERS, 10)
        assert [duplicate.key for duplicate in received.duplicates] == ["k"]
        assert [message.id for message in received.messages] == [first]


def test_each_table_is_copied_or_listed_as_not_copied(places: Places) -> None:
    copied = {table.name for table in moved.COPIED}
    assert copied.isdisjoint(moved.NOT_COPIED)
    open_store(places.source).close()
    there = tables(places.source)
    assert copied <= there <= copied | moved.NOT_COPIED.keys()


#: Ends of lifetimes, and dates, in steady time.
STEADY = {
    *("created_at_ms", "delayed_until_ms", "enqueued_at_ms", "sent_at_ms", "first_received_at_ms"),
    *("retention_from_ms", "expires_at_ms", "debounce_until_ms", "completed_at_ms", "at_ms"),
    *("started_at_ms", "updated_at_ms", "stale_until_ms"),
    *("modified_at_ms", "purged_at_ms", "deleted_at_ms"),
}
#: Of leases, which a store that is moved does not have.
OF_LEASES = {"durableq_message.lease_until_ms", "durableq_once.owner_until_ms"}
#: Slots are on the wall clock; of the offset, see `take_over`.
OF_WALL = {f"durableq_schedule.{name}_ms" for name in ("next", "last", "offset")}


def test_each_column_with_a_time_has_a_clock() -> None:
    """A new column goes here, or to LEASE_MS or LEASE_NS if it counts on the lease clock."""
    for table in moved.COPIED:
        for column in table.c:
            is_lease_time = column in moved.LEASE_MS | moved.LEASE_NS
            is_setting = table is definitions.queue and column.name != "created_at_ms"
            is_duration = is_setting or column.name == "compute_ms"
            if re.search("_(ms|ns)$", column.name) and not is_lease_time and not is_duration:
                assert column.name in STEADY or str(column) in OF_LEASES | OF_WALL, column


# ---- time


def clocks(**target: int) -> tuple[FakeClock, FakeClock]:
    """Return the clocks of a source and of a target on another machine."""
    return FakeClock(), FakeClock(host_id="host-2", **target)


@pytest.mark.parametrize("lease_ms", [5_000, 90_000_000])
def test_waits_on_the_lease_clock_go_on(places: Places, lease_ms: int) -> None:
    """Tokens of a rate, of a group's and of a redrive; the time for which a breaker is open."""
    before, after = clocks(lease_ms=lease_ms)
    with opened(places.source, clock=before) as store:
        store.declare_queue(ORDERS, {"rate": 0.1, "burst": 1})
        store.declare_queue("groups", {"group_concurrency": 1, "group_rate": 0.1, "group_burst": 1})
        store.declare_queue("broken", {"breaker": 1})
        for queue, group in ((ORDERS, None), ("groups", "g"), ("broken", None)):
            for number in range(2):
                send(store, number, queue=queue, group=group)
        store.set_breaker("broken", is_open=True, open_ms=60_000)
        for queue in (ORDERS, "groups"):
            complete(store, take(store, queue))
        before.advance(2)
        queues = (ORDERS, "groups", "broken")
        waits = [store.ready_in_ms([queue]) for queue in queues]
        assert waits == [pytest.approx(8_000, abs=2)] * 2 + [58_000]
    transfer(*places, clocks=(before, after))
    with opened(places.target, clock=after) as store:
        assert [store.ready_in_ms([queue]) for queue in queues] == waits
        assert store.breaker("broken").left_ms == 58_000
        assert receive(store, 2) == receive(store, 2, "groups") == []
        after.advance(8.002)
        assert len(receive(store, 2)) == len(receive(store, 2, "groups")) == 1


def test_dates_keep_their_distance_where_the_wall_clocks_differ(places: Places) -> None:
    hour = 3_600_000
    before, after = clocks(wall_ms=FakeClock().wall_ms() + hour)
    with opened(places.source, clock=before) as store:
        store.declare_queue(ORDERS, {"retention_ms": 100_000})
        delayed = send(store, "delayed", delay=60)
        expiring = send(store, "expiring", expires_in=90)
        before.advance(10)
        after.advance(10)
        dates = look(store, delayed)
    transfer(*places, clocks=(before, after))
    with opened(places.target, clock=after) as store:
        assert store.ready_in_ms([ORDERS]) == 0  # the other one
        message = look(store, delayed)
        assert message.sent_at_ms == dates.sent_at_ms + hour
        after.advance(49)
        assert look(store, delayed).state is State.DELAYED
        after.advance(2)
        assert len(receive(store, 10)) == 2
        after.advance(31)  # both leases have ended, and one message has expired
        assert [m.id for m in receive(store, 10)] == [delayed]
        assert store.message(expiring) is None


def test_dates_are_the_same_where_the_wall_clocks_agree(places: Places) -> None:
    """The wall clock of the source was set back by a year meanwhile, which the store knows."""
    before, after = clocks(wall_ms=FakeClock().wall_ms() - 366 * 86_400_000 + 500)
    with opened(places.source, clock=before) as store:
        store.declare_queue(ORDERS, {})
        message_id = send(store, "delayed", delay=60)
        before.set_wall(before.wall_ms() - 366 * 86_400_000)
        send(store, "other")
        message = look(store, message_id)
    transfer(*places, clocks=(before, after))
    with opened(places.target, clock=after) as store:
        assert look(store, message_id) == message
        after.advance(59)
        assert look(store, message_id).state is State.DELAYED
        after.advance(1)
        assert len(receive(store, 10)) == 2


# ---- processes that have the source open


def test_a_process_that_has_the_source_open_writes_nothing_and_gets_a_sentence(
    places: Places,
) -> None:
    with DurableQ(places.source) as dq:
        queue = dq.queue("orders")
        queue.send_many(range(6))
        [first, second, third, *_] = queue.receive(4)
        owner_id = dq.store.require(Capability.FLEET).register(WorkerInfo("w", 1, 2)).owner_id
        # As if its host had vanished an hour ago.
        sql(places.source, "UPDATE durableq_worker SET beat_at_ms = beat_at_ms - 3600000")
        moved_rows = transfer(*places)
        assert moved_rows.released == 4
        before = rows(places.source)
        calls: list[Callable[[], object]] = [
            lambda: queue.send("after"),
            queue.receive,
            first.complete,
            lambda: second.fail("no"),
            lambda: third.extend(60),
            third.release,
            lambda: dq.store.require(Capability.FLEET).beat(owner_id),
            lambda: queue.cancel("1"),
            lambda: dq.queue("another").send("new"),
        ]
        for call in calls:
            with pytest.raises(DatabaseMoved) as refused:
                call()
            assert f" was moved to {places.target} (transfer of 20" in str(refused.value)
        with pytest.raises(DatabaseMoved), third.transaction():
            pass
        with (
            dq.engine.connect() as connection,
            connection.begin(),
            pytest.raises(DatabaseMoved),
        ):
            queue.send("joined", connection=connection)
        assert rows(places.source) == before
    with pytest.raises(DatabaseMoved, match="Give that address"):
        open_store(places.source)


def test_a_receipt_of_the_source_is_stale_in_the_target(places: Places) -> None:
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {})
        send(store, "a")
        receipt = take(store)
    transfer(*places)
    with opened(places.target) as store:
        assert store.fail([(receipt, _FAILURE)]) == [Outcome.STALE]
        assert len(receive(store)) == 1


def test_a_plan_has_the_numbers_and_changes_nothing(places: Places) -> None:
    clock = FakeClock()
    with opened(places.source, clock=clock) as store:
        fill(store)
        counts = {info.name: asdict(info.counts) for info in store.queues()}
        state = all_there_is(store)
        planned = plan(*places, clocks=(clock, clock))
        assert planned.target_is == "new"
        assert planned.refusals == []
        assert planned.queues == counts
        assert planned.leases == 2
        assert all_there_is(store) == state
    assert revision(places.source) == REVISIONS[-1]
    done = transfer(*places, clocks=(clock, clock))
    assert done.rows.keys() == planned.rows.keys()
    # The keys of two leased messages are in progress no more.
    assert done.rows == planned.rows | {"durableq_idempotency": 1}
