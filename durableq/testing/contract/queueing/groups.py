"""Groups: order, concurrency, fairness, dead letters, and changes of the settings."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Discard, Requeue
from durableq.model.errors import Conflict
from durableq.model.message import Completion, Outcome, Reason, State, draft
from durableq.store.core import Capability, Receive, Settle
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    decide,
    fail,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


def send_group(store: FullStore, group: str, *bodies: Any, **options: Any) -> list[str]:
    """Send messages of a group in one batch."""
    return store.send(ORDERS, [draft(body, group=group, **options) for body in bodies])


def drain(store: FullStore, limit: int = 10) -> list[Any]:
    """Receive and complete until nothing is ready; return the bodies in order."""
    found: list[Any] = []
    while messages := receive(store, limit):
        found += bodies(messages)
        complete(store, *map(receipt, messages))
    return found


class GroupCase(StoreCase):
    """The fixture of groups with one active message each."""

    @pytest.fixture
    def fifo(self, store: FullStore) -> FullStore:
        """The store, with groups in `orders`."""
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        return store


class GroupOrderContract(GroupCase):
    """`group_concurrency = 1`: each group is strictly in order."""

    def test_one_message_of_a_group_is_active_at_a_time(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3)
        send_group(fifo, "b", 4)
        first = receive(fifo)
        assert bodies(first) == ["1", "4"]
        assert receive(fifo) == []
        complete(fifo, *map(receipt, first))
        assert drain(fifo) == ["2", "3"]

    @needs(Capability.INSPECT)
    def test_the_others_are_blocked(self, fifo: FullStore) -> None:
        ids = send_group(fifo, "a", "1", "2", "3")
        assert [look(fifo, one).state for one in ids] == [State.READY, *[State.BLOCKED] * 2]
        counts = fifo.queue(ORDERS).counts
        assert (counts.ready, counts.blocked, counts.present) == (1, 2, 3)
        assert counters_reconcile(fifo)

    def test_messages_without_a_group_do_not_wait(self, fifo: FullStore) -> None:
        fifo.send(ORDERS, [draft(1), draft(2), draft(3)])
        assert bodies(receive(fifo)) == ["1", "2", "3"]

    def test_a_head_that_waits_for_its_retry_holds_its_group(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send_group(fifo, "a", 1, 2)
        assert fail(fifo, take(fifo), retry_in_ms=5_000) is Outcome.RETRY
        assert receive(fifo) == []
        assert fifo.ready_in_ms([ORDERS]) == 5_000
        clock.advance(5)
        assert drain(fifo) == ["1", "2"]

    def test_a_released_head_is_first_again(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        fifo.release([take(fifo)])
        assert drain(fifo) == ["1", "2"]

    def test_a_head_whose_lease_ended_is_first_again(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send_group(fifo, "a", 1, 2)
        lost = take(fifo)
        clock.advance(VISIBILITY_SECONDS)
        assert drain(fifo) == ["1", "2"]
        assert complete(fifo, lost) == [Outcome.GONE]

    @needs(Capability.DEAD_LETTERS)
    def test_a_dead_head_lets_its_group_go_on(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        fail(fifo, take(fifo), reason=Reason.REJECTED)
        assert drain(fifo) == ["2"]

    def test_the_end_of_a_head_and_a_receive_in_one_transaction(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        head = take(fifo)
        _, received = fifo.together([Settle([Completion(head)]), Receive(ORDERS, 1)])
        assert bodies(received.messages) == ["2"]  # type: ignore[union-attr]

    def test_a_delayed_message_holds_its_group(self, fifo: FullStore, clock: FakeClock) -> None:
        send(fifo, 1, group="a", delay=5)
        send(fifo, 2, group="a")
        assert receive(fifo) == []
        clock.advance(5)
        assert drain(fifo) == ["1", "2"]

    def test_a_delay_behind_others_counts_from_the_send(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send(fifo, 1, group="a")
        send(fifo, 2, group="a", delay=5)
        send(fifo, 3, group="a")
        clock.advance(2)
        assert drain(fifo) == ["1"]
        assert fifo.ready_in_ms([ORDERS]) == 3_000
        clock.advance(3)
        assert drain(fifo) == ["2", "3"]

    def test_a_priority_is_that_of_a_head_among_heads(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1)
        send(fifo, 2, group="a", priority=9)
        send(fifo, 3, group="b", priority=1)
        assert drain(fifo, 1) == ["3", "1", "2"]

    def test_a_duplicate_makes_room(self, fifo: FullStore) -> None:
        send(fifo, "x", key="k")
        complete(fifo, take(fifo))
        send(fifo, "x", key="k", group="a")
        send(fifo, 2, group="a")
        assert receive(fifo) == []  # the duplicate ends
        assert drain(fifo) == ["2"]

    def test_a_message_that_waits_for_its_key_holds_its_group(self, fifo: FullStore) -> None:
        send(fifo, "x", key="k")
        owner = take(fifo)
        send(fifo, "x", key="k", group="a")
        send(fifo, 2, group="a")
        assert receive(fifo) == []
        fifo.release([owner])
        assert drain(fifo) == ['"x"']  # the other is a duplicate
        assert drain(fifo) == ["2"]

    def test_a_conflict_makes_room(self, fifo: FullStore) -> None:
        send(fifo, "x", key="k")
        complete(fifo, take(fifo))
        send(fifo, "y", key="k", group="a")
        send(fifo, 2, group="a")
        assert receive(fifo) == []
        assert drain(fifo) == ["2"]

    def test_a_head_past_its_retention_makes_room(self, fifo: FullStore, clock: FakeClock) -> None:
        fifo.declare_queue(ORDERS, {"retention_ms": 60_000})
        send(fifo, 1, group="a")
        clock.advance(50)
        send(fifo, 2, group="a")
        clock.advance(10)
        assert receive(fifo) == []
        assert drain(fifo) == ["2"]

    @needs(Capability.MAINTENANCE)
    def test_messages_pruned_anywhere_in_a_group_leave_it(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        fifo.declare_queue(ORDERS, {"retention_ms": 60_000})
        send_group(fifo, "a", 1, 2)
        head = take(fifo)
        clock.advance(50)
        fifo.extend([head], 600_000)
        send(fifo, 3, group="a")
        clock.advance(10)
        assert fifo.prune().expired == 1
        complete(fifo, head)
        assert drain(fifo) == ["3"]

    @needs(Capability.CONTROL)
    def test_a_cancelled_head_makes_room(self, fifo: FullStore) -> None:
        first, _ = send_group(fifo, "a", 1, 2)
        assert fifo.cancel([first]) == [None]
        assert drain(fifo) == ["2"]

    @needs(Capability.CONTROL, Capability.INSPECT)
    def test_a_purge_empties_groups(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        send_group(fifo, "b", 3)
        receive(fifo, 1)
        assert fifo.purge(ORDERS) == 3
        send_group(fifo, "a", 4, 5)
        assert drain(fifo) == ["4", "5"]

    @needs(Capability.TRANSACTIONS)
    def test_a_transaction_of_user_code_makes_room(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        head = take(fifo)
        with fifo.transaction([head]) as tx:
            tx.send(ORDERS, [draft(3, group="a")])
            tx.settle([Completion(head)], [])
        assert drain(fifo) == ["2", "3"]


class GroupConcurrencyContract(StoreCase):
    """`group_concurrency = N`, and the turns of groups."""

    def test_so_many_of_a_group_are_active(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 3})
        send_group(store, "a", *range(5))
        first = receive(store)
        assert bodies(first) == ["0", "1", "2"]
        complete(store, receipt(first[1]))
        assert bodies(receive(store)) == ["3"]

    def test_groups_take_turns(self, store: FullStore) -> None:
        """50 quiet groups, sent behind a noisy one, are out within two rounds."""
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        send_group(store, "noisy", *["noisy"] * 300)
        for number in range(50):
            send_group(store, f"quiet {number}", number)
        out: list[Any] = []
        while len(out) < 102:
            out += bodies(taken := receive(store, 1))
            complete(store, *map(receipt, taken))
        assert {str(number) for number in range(50)} <= set(out)

    def test_two_noisy_groups_alternate(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        send_group(store, "a", *range(5))
        send_group(store, "b", *range(10, 15))
        assert drain(store, 1) == [
            str(n) for pair in zip(range(5), range(10, 15), strict=True) for n in pair
        ]

    def test_a_lowered_limit_takes_effect_as_messages_end(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 3})
        send_group(store, "a", *range(6))
        first = receive(store)
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        complete(store, receipt(first[0]))
        complete(store, receipt(first[1]))
        assert receive(store) == []
        complete(store, receipt(first[2]))
        assert len(receive(store)) == 1

    def test_a_lowered_limit_blocks_the_messages_that_are_too_many(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 3})
        send_group(store, "a", *range(5))
        first = take(store)
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        assert receive(store) == []
        complete(store, first)
        assert bodies(receive(store)) == ["1"]

    def test_a_raised_limit_takes_effect_at_once(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        send_group(store, "a", *range(4))
        store.declare_queue(ORDERS, {"group_concurrency": 3})
        assert bodies(receive(store)) == ["0", "1", "2"]

    def test_switching_groups_on_blocks_all_but_the_first_of_each(self, store: FullStore) -> None:
        send_group(store, "a", 1, 2, 3)
        send_group(store, "b", 4)
        first = take(store)
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        assert bodies(receive(store)) == ["4"]
        complete(store, first)
        assert drain(store) == ["2", "3"]

    def test_a_retry_over_the_budget_is_not_lost_when_groups_come_and_the_budget_goes(
        self, store: FullStore
    ) -> None:
        send_group(store, "a", 1, 2, 3)
        for message in receive(store):
            fail(store, receipt(message), retry_in_ms=0)
        store.declare_queue(ORDERS, {"retry_share": 0.5})
        first = take(store)
        assert receive(store) == []
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        store.declare_queue(ORDERS, {"retry_share": 0})
        complete(store, first)
        assert drain(store) == ["2", "3"]

    @needs(Capability.INSPECT)
    def test_switching_groups_off_makes_all_ready(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        send_group(store, "a", 1, 2)
        send(store, 3, group="a", delay=5)
        store.declare_queue(ORDERS, {"group_concurrency": 0})
        assert store.queue(ORDERS).counts.delayed == 1
        assert bodies(receive(store)) == ["1", "2"]

    def test_a_dead_letter_queue_has_no_groups(self, store: FullStore) -> None:
        with pytest.raises(Conflict, match="has no groups"):
            store.declare_queue(DEAD, {"group_concurrency": 1})


@needs(Capability.DEAD_LETTERS)
class GroupDeadLettersContract(GroupCase):
    """Groups and their dead letters."""

    def _kill_head(self, fifo: FullStore) -> None:
        assert fail(fifo, take(fifo), reason=Reason.REJECTED) is Outcome.BURIED

    def test_a_redriven_message_goes_to_the_end_of_its_group(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3)
        self._kill_head(fifo)
        decide(fifo, Requeue("again"))
        assert drain(fifo) == ["2", "3", "1"]

    def test_two_redriven_messages_keep_their_order(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3)
        self._kill_head(fifo)
        self._kill_head(fifo)
        newest, oldest = sorted((m.id for m in fifo.peek(DEAD, 10)), reverse=True)
        fifo.decide_by_id(DEAD, [newest], Requeue("again"))
        fifo.decide_by_id(DEAD, [oldest], Requeue("again"))
        assert drain(fifo) == ["3", "2", "1"]

    def test_a_dead_letter_may_hold_its_group(self, fifo: FullStore) -> None:
        fifo.declare_queue(ORDERS, {"group_on_dead": 1})
        send_group(fifo, "a", 1, 2)
        send_group(fifo, "b", 3)
        self._kill_head(fifo)
        assert drain(fifo) == ["3"]
        send_group(fifo, "a", 4)
        assert receive(fifo) == []
        assert fifo.ready_in_ms([ORDERS]) is None
        decide(fifo, Discard("never"))
        assert drain(fifo) == ["2", "4"]

    def test_a_redriven_dead_letter_lets_its_group_go_on(self, fifo: FullStore) -> None:
        fifo.declare_queue(ORDERS, {"group_on_dead": 1})
        send_group(fifo, "a", 1, 2)
        self._kill_head(fifo)
        decide(fifo, Requeue("again"))
        assert drain(fifo) == ["2", "1"]

    def test_a_dead_letter_completed_by_a_handler_lets_its_group_go_on(
        self, fifo: FullStore
    ) -> None:
        fifo.declare_queue(ORDERS, {"group_on_dead": 1})
        send_group(fifo, "a", 1, 2)
        self._kill_head(fifo)
        complete(fifo, take(fifo, DEAD))
        assert drain(fifo) == ["2"]

    @needs(Capability.CONTROL)
    def test_a_purge_of_dead_letters_lets_their_groups_go_on(self, fifo: FullStore) -> None:
        fifo.declare_queue(ORDERS, {"group_on_dead": 1})
        send_group(fifo, "a", 1, 2)
        self._kill_head(fifo)
        fifo.purge(DEAD)
        assert drain(fifo) == ["2"]

    def test_switching_hold_on_counts_the_dead_letters_that_there_are(
        self, fifo: FullStore
    ) -> None:
        send_group(fifo, "a", 1, 2, 3)
        self._kill_head(fifo)
        fifo.declare_queue(ORDERS, {"group_on_dead": 1})
        complete(fifo, take(fifo))
        assert receive(fifo) == []
        fifo.declare_queue(ORDERS, {"group_on_dead": 0})
        assert drain(fifo) == ["3"]

    @needs(Capability.REDRIVE)
    def test_a_redrive_task_keeps_the_order_of_a_group(self, fifo: FullStore) -> None:
        send_group(fifo, "a", *range(6))
        for _ in range(4):
            self._kill_head(fifo)
        task = fifo.start_redrive(DeadLetterFilter(), Requeue("again"))
        while fifo.continue_redrive(task.id, 2).state.value == "running":
            pass
        assert drain(fifo) == ["4", "5", "0", "1", "2", "3"]
