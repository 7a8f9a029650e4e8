"""Redrive tasks of a whole queue: dead letters of any source, and messages that were sent to it."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.dead_letters import RedriveFailure, RedriveState, RedriveTask, WholeQueue
from durableq.model.decisions import Discard, Hold, Requeue
from durableq.model.errors import Conflict, InvalidInput, NotFound, UnknownQueue
from durableq.model.message import Event, Outcome, Reason, State
from durableq.model.settings import changes_from
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    fail,
    look,
    needs,
    newest,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

FAILED, TARGET = "failed", "repaired"
ALL = WholeQueue(FAILED)
GROUPS = {"group_concurrency": 1}


def share(store: FullStore, *sources: str, **settings: int) -> None:
    """Let the dead letters of queues go to one queue, and make a target of the same settings."""
    for name in (FAILED, TARGET):
        store.declare_queue(name, settings)
    for name in sources:
        store.declare_queue(name, changes_from(dead_letter_queue=FAILED))


def die(store: FullStore, queue: str = ORDERS, body: object = "a", **options: object) -> str:
    """Send a message to a queue with none ready, and let it die; return its id."""
    message_id = send(store, body, queue, **options)
    assert fail(store, take(store, queue), reason=Reason.REJECTED) is Outcome.BURIED
    return message_id


def finish(store: FullStore, task: RedriveTask, limit: int = 100) -> RedriveTask:
    """Continue a task to its end."""
    while task.state is RedriveState.RUNNING:
        task = store.continue_redrive(task.id, limit)
    return task


def move(store: FullStore, to_queue: str | None = TARGET, limit: int = 100) -> RedriveTask:
    """Move all of the queue, from start to end."""
    return finish(store, store.start_redrive(ALL, Requeue(), to_queue=to_queue), limit)


def places(store: FullStore, *ids: str) -> list[str]:
    """Return the queues of messages."""
    return [look(store, message_id).queue for message_id in ids]


@needs(Capability.REDRIVE, Capability.DEAD_LETTERS, Capability.INSPECT, Capability.CONTROL)
class WholeQueueContract(StoreCase):
    """`WholeQueue`."""

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_all_messages_of_a_queue_are_moved_once(self, store: FullStore, limit: int) -> None:
        share(store, ORDERS, "mail", "gone")
        ids = [die(store), die(store, "mail", priority=3), die(store, "gone")]
        ids += [send(store, n, FAILED) for n in range(3)]
        ids.append(send(store, "later", FAILED, delay=60))
        store.decide([(take(store, FAILED), Hold("ask"))])
        store.declare_queue("mail", changes_from(dead_letter_queue=None))
        store.delete_queue("gone")
        task = move(store, limit=limit)
        assert (task.state, task.total, task.moved) == (RedriveState.DONE, 7, 7)
        assert (task.skipped, task.wanted, task.failure) == (0, ALL, None)
        assert store.queue(FAILED).counts.present == 0
        assert sorted(m.id for m in receive(store, 20, TARGET)) == sorted(ids)
        for message_id in ids:
            seen = look(store, message_id)
            assert (seen.source_queue, seen.recovery_count, seen.receive_count) == (None, 1, 1)
            event = newest(store, message_id)
            assert (event.event, event.queue) == (Event.REQUEUED, FAILED)
            assert dict(event.detail) == {"recovery_count": 1, "to_queue": TARGET}
        assert counters_reconcile(store)

    @pytest.mark.parametrize("target", [TARGET, None])
    def test_a_step_whose_time_is_over_moves_a_few_and_the_next_ones_the_rest(
        self, store: FullStore, target: str | None
    ) -> None:
        share(store, ORDERS, **GROUPS)
        store.declare_queue(ORDERS, GROUPS)
        ids = [die(store, body=n, group=f"g{n % 3}") for n in range(25)]
        task = store.start_redrive(ALL, Requeue(), to_queue=target)
        sizes = []
        while task.state is RedriveState.RUNNING:
            before = task.moved
            task = store.continue_redrive(task.id, 100, within_ms=0)
            sizes.append(task.moved - before)
        assert (task.state, task.moved, task.skipped) == (RedriveState.DONE, 25, 0)
        assert len(sizes) > 2
        assert min(sizes) > 0
        arrived: list[str] = []
        while found := receive(store, 100, target or ORDERS):
            arrived += [message.id for message in found]
            complete(store, *map(receipt, found))
        for group in range(3):
            assert [one for one in arrived if one in ids[group::3]] == ids[group::3]
        assert counters_reconcile(store)

    def test_without_a_target_each_goes_back_to_its_source(self, store: FullStore) -> None:
        share(store, ORDERS, "mail")
        ids = [die(store), die(store, "mail"), die(store)]
        task = move(store, None)
        assert (task.moved, task.to_queue) == (3, None)
        assert places(store, *ids) == [ORDERS, "mail", ORDERS]

    @pytest.mark.parametrize("is_deleted", [False, True])
    def test_without_a_target_a_redrive_fails_at_a_message_without_a_source(
        self, store: FullStore, is_deleted: bool
    ) -> None:
        share(store, ORDERS, "gone")
        first = die(store)
        odd = die(store, "gone") if is_deleted else send(store, "odd", FAILED)
        last = die(store)
        if is_deleted:
            store.delete_queue("gone")
        task = move(store, None)
        assert (task.state, task.failure) == (RedriveState.FAILED, RedriveFailure.NO_SOURCE)
        assert (task.total, task.moved) == (3, 1)
        assert places(store, first, odd, last) == [ORDERS, FAILED, FAILED]
        assert store.continue_redrive(task.id, 10) == store.cancel_redrive(task.id) == task
        assert move(store).moved == 2
        assert counters_reconcile(store)

    def test_messages_that_come_after_the_start_stay(self, store: FullStore) -> None:
        share(store, ORDERS, "mail")
        alive, dead = send(store), die(store, "mail")
        sent = send(store, "early", FAILED)
        other = die(store, "mail")
        store.declare_queue("others", {})
        task = store.start_redrive(WholeQueue(FAILED), Requeue(), to_queue="mail")
        late = send(store, "late", FAILED, priority=7)
        assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
        task = store.continue_redrive(task.id, 1)
        assert fail(store, take(store, "mail"), reason=Reason.REJECTED) is Outcome.BURIED
        task = finish(store, task)
        assert (task.total, task.moved, task.skipped) == (3, 3, 0)
        assert places(store, sent, other, dead) == ["mail", "mail", FAILED]
        assert places(store, late, alive) == [FAILED, FAILED]
        assert newest(store, dead).event is Event.BURIED

    def test_messages_that_another_redrive_moves_to_the_queue_stay(self, store: FullStore) -> None:
        share(store)
        moved = die(store)
        task = store.start_redrive(ALL, Requeue(), to_queue=TARGET)
        finish(store, store.start_redrive(WholeQueue(DEAD), Requeue(), to_queue=FAILED))
        assert finish(store, task).moved == 0
        assert places(store, moved) == [FAILED]

    def test_leased_messages_stay_until_they_come_back(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        share(store, ORDERS)
        leased = [die(store), send(store, "b", FAILED)]
        leases = [receipt(message) for message in receive(store, queue=FAILED)]
        free = send(store, "c", FAILED)
        task = move(store)
        assert (task.total, task.moved, task.skipped) == (3, 1, 2)
        assert places(store, *leased, free) == [FAILED, FAILED, TARGET]
        assert complete(store, leases[0]) == [Outcome.DONE]
        clock.advance(VISIBILITY_SECONDS)
        assert move(store).moved == 1
        assert places(store, leased[1]) == [TARGET]
        assert counters_reconcile(store)

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_a_group_keeps_its_order(self, store: FullStore, limit: int) -> None:
        share(store, ORDERS, **GROUPS)
        first = send(store, 0, FAILED, group="a")
        fail(store, take(store, FAILED), reason=Reason.REJECTED)
        send(store, 1, FAILED, group="a")
        finish(store, store.start_redrive(WholeQueue("failed-dlq"), Requeue()))
        for number in range(2, 6):  # the first is behind the second by now
            send(store, number, FAILED, group="ab"[number % 2])
        die(store, body=6, group="a")
        task = move(store, limit=limit)
        assert (task.moved, task.skipped) == (7, 0)
        assert look(store, first).state is State.BLOCKED
        found = []
        while messages := receive(store, 1, TARGET):
            found += messages
            complete(store, receipt(messages[0]))
        order = [(message.group, message.body) for message in found]
        assert [body for group, body in order if group == "a"] == ["1", "0", "2", "4", "6"]
        assert [body for group, body in order if group == "b"] == ["3", "5"]
        assert counters_reconcile(store)

    def test_a_group_stays_behind_a_message_in_flight(self, store: FullStore) -> None:
        share(store, **GROUPS)
        for number, group in enumerate("aab"):
            send(store, number, FAILED, group=group)
        lease = take(store, FAILED)
        task = move(store)
        assert (task.total, task.moved, task.skipped) == (3, 1, 2)
        store.release([lease])
        assert move(store).moved == 2
        assert bodies(receive(store, 10, TARGET)) == ["2", "0"]

    def test_expired_messages_are_left_to_maintenance(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        share(store, retention_ms=60_000)
        old = send(store, "old", FAILED)
        clock.advance(59)
        brief = send(store, "brief", FAILED, expires_in=0.5)
        ids = [send(store, "a", FAILED), send(store, "b", FAILED, expires_in=90)]
        clock.advance(1)
        task = move(store)
        assert (task.state, task.moved) == (RedriveState.DONE, 2)
        assert places(store, old, brief, *ids) == [FAILED, FAILED, TARGET, TARGET]
        clock.advance(59.9)
        assert [message.id for message in receive(store, 10, TARGET)] == ids
        assert look(store, ids[1]).expires_at_ms == clock.wall_ms() + 29_100

    def test_one_redrive_of_a_queue_runs_at_a_time(self, store: FullStore) -> None:
        share(store, ORDERS)
        first = store.start_redrive(ALL, Requeue(), to_queue=TARGET)
        with pytest.raises(Conflict, match="of all of queue 'failed' is running"):
            store.start_redrive(ALL, Requeue())
        other = store.start_redrive(WholeQueue(ORDERS), Requeue(), to_queue=TARGET)
        store.cancel_redrive(first.id)
        second = finish(store, store.start_redrive(ALL, Requeue()))
        third = store.start_redrive(ALL, Requeue())
        assert store.redrive_tasks() == [third, second, other, store.redrive_task(first.id)]

    def test_an_invalid_redrive_of_a_whole_queue_is_refused(self, store: FullStore) -> None:
        share(store)
        with pytest.raises(InvalidInput, match="To discard all of queue 'failed', purge it"):
            store.start_redrive(ALL, Discard("x"))
        with pytest.raises(Conflict, match="'failed' cannot be moved to itself"):
            store.start_redrive(ALL, Requeue(), to_queue=FAILED)
        with pytest.raises(Conflict, match="name the queue it serves"):
            store.start_redrive(ALL, Requeue(), to_queue=DEAD)
        for wanted, to_queue in ((WholeQueue("nowhere"), None), (ALL, "nowhere")):
            with pytest.raises(UnknownQueue):
                store.start_redrive(wanted, Requeue(), to_queue=to_queue)
        assert store.redrive_tasks() == []

    def test_the_redrives_of_a_deleted_queue_go_with_it(self, store: FullStore) -> None:
        share(store)
        send(store, "a", FAILED)
        task = store.start_redrive(ALL, Requeue(), to_queue=TARGET)
        store.delete_queue(FAILED, force=True)
        with pytest.raises(NotFound):
            store.continue_redrive(task.id, 10)
        store.declare_queue(FAILED, {})
        assert store.redrive_tasks() == []

    def test_a_rate_holds_for_a_whole_queue(self, store: FullStore, clock: FakeClock) -> None:
        share(store)
        for number in range(3):
            send(store, number, FAILED)
        task = store.start_redrive(ALL, Requeue(), to_queue=TARGET, rate=1)
        moved = []
        while task.state is RedriveState.RUNNING:
            task = store.continue_redrive(task.id, 100)
            moved.append(task.moved)
            clock.advance(task.wait_ms / 1_000)
        assert moved == [1, 2, 3]
