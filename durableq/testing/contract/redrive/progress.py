"""Redrive tasks: one decision about many dead letters, a slice at a time, none of them twice."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from durableq.model.dead_letters import (
    DeadLetterFilter,
    RedriveFailure,
    RedriveState,
    RedriveTask,
    WholeQueue,
)
from durableq.model.decisions import Discard, Hold, Requeue, Retry
from durableq.model.errors import Conflict, InvalidInput, NotFound, QueueFull, UnknownQueue
from durableq.model.limits import MAX_RECEIVE_BATCH, MAX_REDRIVE_TASKS
from durableq.model.message import Event, Failure, Outcome, Reason, State
from durableq.model.units import Seconds
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    counters_reconcile,
    fail,
    kill,
    look,
    needs,
    newest,
    receive,
    send,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

EVERY = DeadLetterFilter()


def finish(store: FullStore, task: RedriveTask, limit: int = 100) -> RedriveTask:
    """Continue a redrive task to its end."""
    while task.state is RedriveState.RUNNING:
        task = store.continue_redrive(task.id, limit)
    return task


def requeue(
    store: FullStore, wanted: DeadLetterFilter = EVERY, to_queue: str | None = None
) -> RedriveTask:
    """Requeue dead letters by a redrive task, from start to end."""
    return finish(store, store.start_redrive(wanted, Requeue("calm now"), to_queue=to_queue))


@needs(Capability.REDRIVE)
class RedriveProgressContract(StoreCase):
    """Redrive tasks, from start to end."""

    def test_a_redrive_task_is_shown_from_its_start(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        kill(store)
        kill(store)
        wanted = DeadLetterFilter(ORDERS, Reason.REJECTED, "ValueError", died_before_ms=1 << 42)
        task = store.start_redrive(wanted, Requeue("calm now", 2.5), actor="ann")
        now_ms = clock.wall_ms()
        running = (RedriveState.RUNNING, 2, 0, 0, "ann", now_ms, now_ms)
        assert task == RedriveTask(task.id, wanted, Requeue("calm now", 2.5), None, *running)
        assert task.word == "requeue"
        assert store.redrive_task(task.id) == task
        clock.advance(1)
        done = store.continue_redrive(task.id, 10)
        expected = replace(
            task, state=RedriveState.DONE, moved=2, updated_at_ms=task.started_at_ms + 1_000
        )
        assert store.redrive_task(task.id) == done == expected
        later = store.start_redrive(DeadLetterFilter(fingerprint="x"), Discard("x"))
        assert store.redrive_tasks() == [later, done]
        assert later.word == "discard"

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_step_whose_time_is_over_decides_about_a_few_and_the_next_ones_about_the_rest(
        self, store: FullStore
    ) -> None:
        kill(store)
        take(store, DEAD)
        for _ in range(24):
            kill(store)
        task, met = store.start_redrive(EVERY, Requeue()), []
        while task.state is RedriveState.RUNNING:
            before = task.moved + task.skipped
            task = store.continue_redrive(task.id, 100, within_ms=0)
            met.append(task.moved + task.skipped - before)
        assert (task.state, task.moved, task.skipped) == (RedriveState.DONE, 24, 1)
        assert len(met) > 2
        assert min(met) > 0
        assert store.queue(ORDERS).counts.ready == 24
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_redrive_task_requeues_like_a_decision(self, store: FullStore) -> None:
        message_id = kill(store, {"n": 1}, key="k", priority=2)
        task = store.start_redrive(EVERY, Requeue("calm now"), actor="ann")
        assert finish(store, task).moved == 1
        event = newest(store, message_id)
        assert (event.event, event.queue, event.actor) == (Event.REQUEUED, DEAD, "ann")
        assert (event.reason, dict(event.detail)) == ("calm now", {"recovery_count": 1})
        [message] = receive(store)
        assert (message.id, message.body, message.key) == (message_id, '{"n":1}', "k")
        assert (message.priority, message.source_queue) == (2, None)
        assert (message.receive_count, message.recovery_count) == (1, 1)
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("delay", [2.5, timedelta(seconds=2.5)])
    def test_a_redrive_task_may_delay_its_messages(
        self, store: FullStore, clock: FakeClock, delay: Seconds
    ) -> None:
        message_id = kill(store)
        task = store.start_redrive(EVERY, Requeue(delay=delay))
        assert task.decision == Requeue(delay=2.5)
        assert finish(store, task).decision == task.decision
        assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 2_500

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_redrive_task_discards_with_history(self, store: FullStore) -> None:
        message_id = kill(store)
        finish(store, store.start_redrive(EVERY, Discard("fraud"), actor="ann"))
        assert store.message(message_id) is None
        event = newest(store, message_id)
        assert (event.event, event.reason, event.actor) == (Event.DISCARDED, "fraud", "ann")
        assert store.queue(DEAD).counters.discarded == 1
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    def test_a_redrive_task_continues_in_order_of_id(self, store: FullStore) -> None:
        ids = [kill(store, n) for n in range(5)]
        task = store.start_redrive(EVERY, Requeue())
        counts = []
        while task.state is RedriveState.RUNNING:
            task = store.continue_redrive(task.id, 2)
            counts.append(task.moved)
            gone = [n for n in ids if look(store, n).source_queue is None]
            assert gone == ids[: task.moved]
        assert counts == [2, 4, 5]
        assert (task.total, task.skipped) == (5, 0)

    @needs(Capability.DEAD_LETTERS)
    def test_a_redrive_task_covers_the_dead_letters_that_match(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue("mail", {})
        fits = kill(store)
        kinds = [
            Failure(Reason.UNDECODABLE, "ValueError", "no such order"),
            Failure(Reason.REJECTED, "KeyError", "no such order"),
            Failure(Reason.REJECTED, "ValueError", "another"),
        ]
        for kind in kinds:
            send(store)
            store.fail([(take(store), kind)])
        dead_letter = store.dead_letter(fits)
        assert dead_letter is not None
        clock.advance(1)
        kill(store)
        filters = {
            DeadLetterFilter(): 5,
            DeadLetterFilter(queue="mail"): 0,
            DeadLetterFilter(reason=Reason.UNDECODABLE): 1,
            DeadLetterFilter(error_type="KeyError"): 1,
            DeadLetterFilter(fingerprint=dead_letter.fingerprint): 2,
            DeadLetterFilter(died_before_ms=clock.wall_ms()): 4,
            DeadLetterFilter(
                ORDERS, Reason.REJECTED, "ValueError", dead_letter.fingerprint, clock.wall_ms()
            ): 1,
        }
        found = {f: store.start_redrive(f, Requeue()).total for f in filters}
        assert found == filters
        one = list(filters)[-1]
        assert requeue(store, one).moved == 1
        assert [m.id for m in receive(store)] == [fits]

    @needs(Capability.INSPECT)
    def test_deaths_after_the_start_are_not_covered(self, store: FullStore) -> None:
        alive = send(store, "alive", delay=0)
        lease = take(store)
        dead = [kill(store), kill(store)]
        task = store.start_redrive(EVERY, Requeue())
        assert fail(store, lease, reason=Reason.REJECTED) is Outcome.BURIED
        late = kill(store)
        task = store.continue_redrive(task.id, 1)
        assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
        task = finish(store, task)
        assert (task.total, task.moved) == (2, 2)
        where = {n: look(store, n).queue for n in (alive, *dead, late)}
        assert where == {alive: DEAD, dead[0]: DEAD, dead[1]: ORDERS, late: DEAD}

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_message_that_was_requeued_meanwhile_and_died_again_is_not_covered(
        self, store: FullStore
    ) -> None:
        message_id = kill(store)
        task = store.start_redrive(EVERY, Requeue())
        store.decide([(take(store, DEAD), Requeue())])
        fail(store, take(store), reason=Reason.REJECTED)
        assert finish(store, task).moved == 0
        assert look(store, message_id).queue == DEAD

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_later_deaths_are_not_covered_even_if_a_queue_was_deleted(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        kill(store)
        for _ in range(5):
            send(store, queue="mail")
            fail(store, take(store, "mail"), reason=Reason.REJECTED)
        task = store.start_redrive(EVERY, Requeue())
        store.delete_queue("mail", force=True)
        late = kill(store)
        assert finish(store, task).moved == 1
        assert look(store, late).queue == DEAD

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_leased_dead_letter_is_skipped_and_counted(self, store: FullStore) -> None:
        leased = kill(store)
        lease = take(store, DEAD)
        free = kill(store)
        task = requeue(store)
        assert (task.state, task.total, task.moved, task.skipped) == (RedriveState.DONE, 2, 1, 1)
        assert look(store, leased).state is State.IN_FLIGHT
        assert look(store, free).queue == ORDERS
        assert store.decide([(lease, Hold())]) == [Outcome.DONE]

    @needs(Capability.INSPECT)
    def test_a_redrive_task_does_not_return_to_skipped_dead_letters(self, store: FullStore) -> None:
        leased = kill(store)
        lease = take(store, DEAD)
        free = kill(store)
        task = store.start_redrive(EVERY, Requeue())
        counts = [(m.moved, m.skipped) for m in (store.continue_redrive(task.id, 1) for _ in "ab")]
        assert counts == [(0, 1), (1, 1)]
        store.release([lease])
        assert store.continue_redrive(task.id, 1).state is RedriveState.DONE
        assert [look(store, n).queue for n in (leased, free)] == [DEAD, ORDERS]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_dead_letter_whose_lease_has_ended_is_moved(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = kill(store)
        stale = take(store, DEAD)
        clock.advance(VISIBILITY_SECONDS)
        assert requeue(store).moved == 1
        assert look(store, message_id).queue == ORDERS
        assert store.decide([(stale, Discard("x"))]) == [Outcome.STALE]

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_held_and_delayed_dead_letters_are_moved_too(self, store: FullStore) -> None:
        kill(store)
        store.decide([(take(store, DEAD), Hold("ask"))])
        kill(store)
        fail(store, take(store, DEAD), retry_in_ms=60_000)
        assert requeue(store).moved == 2
        assert store.queue(ORDERS).counts.ready == 2

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_dead_letter_can_be_moved_to_another_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        message_id = kill(store, 1, key="k")
        task = requeue(store, to_queue="mail")
        assert (task.to_queue, task.moved) == ("mail", 1)
        seen = look(store, message_id)
        assert (seen.queue, seen.source_queue, seen.recovery_count) == ("mail", None, 1)
        detail = {"recovery_count": 1, "to_queue": "mail"}
        assert dict(newest(store, message_id).detail) == detail
        assert store.queue("mail").counters.moved_in == 1
        assert store.queue(ORDERS).counters.moved_in == 0
        assert counters_reconcile(store)

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("to_queue", [None, "mail"])
    def test_a_redrive_goes_past_a_full_backlog_and_sends_wait_for_it(
        self, store: FullStore, to_queue: str | None
    ) -> None:
        """A dead letter was accepted once; senders could keep it out for ever."""
        target = to_queue or ORDERS
        for name in {ORDERS, target}:
            store.declare_queue(name, {"max_backlog": 1, "max_backlog_bytes": 4})
        for _ in range(3):
            kill(store, "ab")
        send(store, "cd", queue=target)
        assert requeue(store, to_queue=to_queue).moved == 3
        assert store.queue(target).counts.ready == 4
        for left in (4, 3, 2):
            with pytest.raises(QueueFull, match=f"stores {left} messages, its max_backlog is 1"):
                send(store, "", queue=target)
            assert complete(store, take(store, target)) == [Outcome.DONE]
        store.declare_queue(target, {"max_backlog": 0})
        with pytest.raises(QueueFull, match="stores 4 bytes of bodies, its max_backlog_bytes is 4"):
            send(store, "", queue=target)
        assert complete(store, take(store, target)) == [Outcome.DONE]
        send(store, "", queue=target)
        assert counters_reconcile(store)

    @needs(Capability.IDEMPOTENCY)
    def test_a_key_guards_the_queue_to_which_its_message_was_moved(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        kill(store, 1, key="k")
        requeue(store, to_queue="mail")
        complete(store, take(store, "mail"), result="1")
        assert store.record("mail", "k") is not None
        assert store.record(ORDERS, "k") is None
        send(store, 1, queue="mail", key="k")
        assert len(store.receive("mail", 1).duplicates) == 1

    @needs(Capability.INSPECT)
    def test_a_moved_message_dies_in_its_new_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        message_id = kill(store)
        requeue(store, to_queue="mail")
        fail(store, take(store, "mail"), reason=Reason.REJECTED)
        seen = look(store, message_id)
        assert (seen.queue, seen.source_queue) == ("mail-dlq", "mail")

    @needs(Capability.INSPECT)
    def test_a_redrive_task_can_be_cancelled(self, store: FullStore) -> None:
        ids = [kill(store), kill(store)]
        task = store.continue_redrive(store.start_redrive(EVERY, Requeue()).id, 1)
        cancelled = store.cancel_redrive(task.id)
        assert cancelled == replace(task, state=RedriveState.CANCELLED)
        assert store.continue_redrive(task.id, 10) == store.cancel_redrive(task.id) == cancelled
        assert [look(store, n).queue for n in ids] == [ORDERS, DEAD]

    def test_a_redrive_task_that_is_done_does_not_change(self, store: FullStore) -> None:
        kill(store)
        done = requeue(store)
        kill(store)
        assert store.continue_redrive(done.id, 10) == store.cancel_redrive(done.id) == done

    @needs(Capability.INSPECT)
    def test_two_redrive_tasks_decide_about_a_dead_letter_once(self, store: FullStore) -> None:
        kill(store)
        first, second = (store.start_redrive(EVERY, Requeue(note)) for note in ("a", "b"))
        assert (finish(store, first).moved, finish(store, second).moved) == (1, 0)
        assert counters_reconcile(store)

    def test_only_the_newest_ended_redrive_tasks_are_kept(self, store: FullStore) -> None:
        running = store.start_redrive(EVERY, Requeue())
        ids = [
            finish(store, store.start_redrive(EVERY, Requeue())).id
            for _ in range(MAX_REDRIVE_TASKS + 2)
        ]
        last = store.start_redrive(EVERY, Requeue())
        assert [task.id for task in store.redrive_tasks()] == [last.id, *ids[:1:-1], running.id]
        with pytest.raises(NotFound):
            store.redrive_task(ids[0])

    @pytest.mark.parametrize("task_id", ["0", "7", "x", "", "²", "9" * 30])
    def test_an_unknown_redrive_task_is_not_found(self, store: FullStore, task_id: str) -> None:
        store.start_redrive(EVERY, Requeue())
        for ask in (
            store.redrive_task,
            store.cancel_redrive,
            lambda n: store.continue_redrive(n, 1),
        ):
            with pytest.raises(NotFound):
                ask(task_id)

    @pytest.mark.parametrize("limit", [0, -1, MAX_RECEIVE_BATCH + 1])
    def test_the_limit_of_a_redrive_has_bounds(self, store: FullStore, limit: int) -> None:
        kill(store)
        task = store.start_redrive(EVERY, Requeue())
        with pytest.raises(InvalidInput):
            store.continue_redrive(task.id, limit)

    @pytest.mark.parametrize("within_ms", [-1, 86_400_001, "10", 0.5])
    def test_the_time_of_a_step_has_bounds(self, store: FullStore, within_ms: int) -> None:
        kill(store)
        task = store.start_redrive(EVERY, Requeue())
        with pytest.raises(InvalidInput):
            store.continue_redrive(task.id, 1, within_ms=within_ms)

    def test_an_invalid_redrive_task_is_refused(self, store: FullStore) -> None:
        kill(store)
        with pytest.raises(InvalidInput):
            store.start_redrive(EVERY, Requeue(delay=-1))
        with pytest.raises(InvalidInput):
            store.start_redrive(EVERY, Retry(1))  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            store.start_redrive(EVERY, Discard("x"), to_queue=ORDERS)
        for wanted, to_queue in ((DeadLetterFilter("unknown"), None), (EVERY, "unknown")):
            with pytest.raises(UnknownQueue):
                store.start_redrive(wanted, Requeue(), to_queue=to_queue)
        for wanted, to_queue in ((DeadLetterFilter(DEAD), None), (EVERY, DEAD)):
            with pytest.raises(Conflict, match="dead-letter queue"):
                store.start_redrive(wanted, Requeue(), to_queue=to_queue)
        assert store.redrive_tasks() == []

    @needs(Capability.INSPECT, Capability.CONTROL)
    @pytest.mark.parametrize("wanted", [EVERY, WholeQueue(DEAD)], ids=["filter", "whole queue"])
    def test_a_redrive_task_to_a_deleted_queue_fails(
        self, store: FullStore, wanted: DeadLetterFilter | WholeQueue
    ) -> None:
        store.declare_queue("mail", {})
        ids = [kill(store), kill(store)]
        task = store.start_redrive(wanted, Requeue(), to_queue="mail")
        store.continue_redrive(task.id, 1)
        store.delete_queue("mail", force=True)
        failed = store.continue_redrive(task.id, 10)
        assert (failed.state, failed.failure) == (RedriveState.FAILED, RedriveFailure.NO_TARGET)
        assert (failed.moved, failed.skipped) == (1, 0)
        assert look(store, ids[1]).queue == DEAD
        assert store.redrive_task(task.id) == failed

    @needs(Capability.INSPECT)
    @jumps
    def test_a_redrive_task_covers_deaths_before_a_date_as_it_is_shown(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        kill(store, "old")
        clock.advance(10)
        young = kill(store, "young")
        set_ahead(clock, jump_ms)
        wanted = DeadLetterFilter(died_before_ms=look(store, young).enqueued_at_ms)
        task = store.start_redrive(wanted, Requeue())
        assert (task.total, task.wanted) == (1, wanted)
        set_ahead(clock, -jump_ms)
        assert store.continue_redrive(task.id, 10).moved == 1
        assert look(store, young).source_queue == ORDERS
