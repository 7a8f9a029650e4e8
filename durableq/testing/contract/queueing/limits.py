"""Limits of a queue: its rate, and the messages in flight at once."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Discard, Requeue
from durableq.model.message import Outcome, Reason, State
from durableq.store.core import Capability, Receive, Settle
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    drafts,
    fail,
    failure,
    kill,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


class RateContract(StoreCase):
    """`rate` and `burst`: a receive leases what they allow at this moment."""

    def test_a_burst_and_then_the_rate(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"rate": 100, "burst": 3})
        store.send(ORDERS, drafts(*range(20)))
        assert len(receive(store)) == 3
        assert receive(store) == []
        clock.advance(0.011)
        assert len(receive(store)) == 1
        clock.advance(1)
        assert len(receive(store)) == 3

    def test_without_a_burst_it_is_a_tenth_of_a_second(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"rate": 45})
        store.send(ORDERS, drafts(*range(20)))
        assert len(receive(store)) == 4

    def test_a_receive_waits_until_the_next_token(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"rate": 20, "burst": 1})
        store.send(ORDERS, drafts(1, 2))
        receive(store)
        answer = store.receive(ORDERS, 1)
        assert answer.wait_ms == store.ready_in_ms([ORDERS]) == 51
        clock.advance(0.050)
        assert receive(store) == []
        assert store.ready_in_ms([ORDERS]) == 1
        clock.advance(0.001)
        assert store.ready_in_ms([ORDERS]) == 0
        assert len(receive(store)) == 1

    def test_a_token_is_not_given_back(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"rate": 1, "burst": 3})
        store.send(ORDERS, drafts(1, 2, 3))
        assert store.release([take(store)]) == [Outcome.DONE]
        clock.advance(0.001)
        assert fail(store, take(store), retry_in_ms=0) is Outcome.RETRY
        clock.advance(0.001)
        assert complete(store, take(store)) == [Outcome.DONE]
        assert receive(store) == []

    def test_a_token_is_not_given_back_with_a_place(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"rate": 1, "burst": 1, "max_in_flight": 1_000})
        store.send(ORDERS, drafts(1, 2))
        store.release([take(store)])
        clock.advance(0.5)
        assert receive(store) == []

    def test_a_burst_may_be_taken_one_by_one_in_as_many_milliseconds(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        """Within one, a grant is charged from its end and the next looked for at its start."""
        store.declare_queue(ORDERS, {"rate": 1, "burst": 3})
        store.send(ORDERS, drafts(*range(5)))
        assert [len(receive(store, 1)) for _ in range(3)] == [1, 1, 0]
        clock.advance(0.001)
        assert [len(receive(store, 1)) for _ in range(2)] == [1, 0]

    def test_only_leased_messages_are_paid_for(self, store: FullStore, clock: FakeClock) -> None:
        """The second message waits behind a key, the third is a duplicate."""
        store.declare_queue(ORDERS, {"rate": 1, "burst": 3})
        send(store, key="done")
        complete(store, take(store))
        for key in ("k", "k", "done"):
            send(store, key=key)
        for number in (1, 1, 0):
            clock.advance(0.001)
            assert len(receive(store)) == number
            send(store)

    def test_a_fast_rate_does_not_wait_for_the_debt_of_a_slow_one(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"rate": 0.001, "burst": 2})
        store.send(ORDERS, drafts(*range(30)))
        assert len(receive(store)) == 2
        store.declare_queue(ORDERS, {"rate": 100, "burst": 5})
        assert receive(store) == []
        clock.advance(0.011)
        assert len(receive(store)) == 1
        clock.advance(1)
        assert len(receive(store)) == 5

    def test_a_lower_burst_holds_at_once(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"rate": 100, "burst": 50})
        store.send(ORDERS, drafts(*range(100)))
        store.declare_queue(ORDERS, {"rate": 10, "burst": 2})
        assert len(receive(store, 100)) == 2
        store.declare_queue(ORDERS, {"rate": 0, "burst": 0})
        assert len(receive(store, 100)) == 98

    @needs(Capability.DEAD_LETTERS)
    def test_dead_letters_leased_by_id_are_free(self, store: FullStore) -> None:
        ids = [kill(store), kill(store)]
        store.declare_queue(DEAD, {"rate": 1, "burst": 1})
        assert len(store.lease_dead_letters(DEAD, ids)) == 2
        store.release([receipt(one) for one in receive(store, queue=DEAD)])
        assert store.settings(DEAD).rate == 1


class InFlightContract(StoreCase):
    """`max_in_flight`: every transition out of a lease makes room, and nothing else does."""

    def limited(self, store: FullStore, number: int = 2) -> None:
        """Limit the queue to so many messages in flight, and send ten."""
        store.declare_queue(ORDERS, {"max_in_flight": number})
        store.send(ORDERS, drafts(*range(10)))

    def test_no_more_than_this_are_in_flight(self, store: FullStore) -> None:
        self.limited(store, 3)
        assert len(receive(store, 2)) == 2
        assert len(receive(store, 2)) == 1
        assert receive(store) == []

    def test_each_end_of_a_lease_makes_room(self, store: FullStore, clock: FakeClock) -> None:
        self.limited(store, 1)
        for end in (
            lambda lease: complete(store, lease),
            lambda lease: store.release([lease]),
            lambda lease: fail(store, lease, retry_in_ms=0),
            lambda lease: fail(store, lease, retry_in_ms=5_000),
            lambda lease: fail(store, lease, reason=Reason.REJECTED),
            lambda _: clock.advance(VISIBILITY_SECONDS),
        ):
            lease = take(store)
            assert receive(store) == []
            end(lease)
            [again] = receive(store, 2)
            complete(store, receipt(again))

    def test_a_settlement_makes_room_for_a_receive_in_its_transaction(
        self, store: FullStore
    ) -> None:
        self.limited(store, 1)
        failed = take(store)
        settle = Settle(failures=[(failed, failure())])
        _, received = store.together([settle, Receive(ORDERS, 5)])
        assert len(received.messages) == 1  # type: ignore[union-attr]

    def test_a_full_queue_waits_for_the_first_end_of_a_lease(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.limited(store, 1)
        take(store)
        clock.advance(10)
        assert store.receive(ORDERS, 1).wait_ms == 20_000
        assert store.ready_in_ms([ORDERS]) == 20_000

    def test_leases_are_counted_when_the_limit_is_switched_on(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(*range(9)))
        leases = [take(store) for _ in range(3)]
        store.declare_queue(ORDERS, {"max_in_flight": 2})
        assert receive(store) == []
        complete(store, *leases[:2])
        assert len(receive(store)) == 1
        store.declare_queue(ORDERS, {"max_in_flight": 0})
        assert len(receive(store, 2)) == 2
        store.declare_queue(ORDERS, {"max_in_flight": 5})
        assert len(receive(store)) == 1

    def test_nothing_is_received_until_it_is_below_a_lower_limit(self, store: FullStore) -> None:
        self.limited(store, 4)
        leases = [receipt(one) for one in receive(store)]
        store.declare_queue(ORDERS, {"max_in_flight": 2})
        complete(store, *leases[:2])
        assert receive(store) == []
        complete(store, leases[2])
        assert len(receive(store)) == 1

    @needs(Capability.CONTROL)
    def test_a_purge_makes_room(self, store: FullStore) -> None:
        self.limited(store)
        receive(store)
        store.purge(ORDERS)
        store.send(ORDERS, drafts(*range(5)))
        assert len(receive(store)) == 2

    @needs(Capability.DEAD_LETTERS)
    def test_decisions_and_leases_by_id_count(self, store: FullStore) -> None:
        for _ in range(4):
            kill(store)
        store.declare_queue(DEAD, {"max_in_flight": 1})
        store.decide([(take(store, DEAD), Discard("done"))])
        store.release([take(store, DEAD)])
        [one] = receive(store, queue=DEAD)
        assert receive(store, queue=DEAD) == []
        ids = [str(int(one.id) + 1)]
        [chosen] = store.lease_dead_letters(DEAD, ids)
        store.release([receipt(one)])
        assert receive(store, queue=DEAD) == []
        store.release([receipt(chosen)])
        assert len(receive(store, queue=DEAD)) == 1

    @needs(Capability.DEAD_LETTERS, Capability.REDRIVE, Capability.INSPECT)
    def test_a_redrive_leaves_no_place_taken(self, store: FullStore) -> None:
        for _ in range(3):
            kill(store)
        store.declare_queue(DEAD, {"max_in_flight": 1})
        task = store.start_redrive(DeadLetterFilter(), Requeue("again"))
        store.continue_redrive(task.id, 10)
        assert store.queue(DEAD).limits.in_flight == 0
        assert store.queue(ORDERS).counts.ready == 3

    @needs(Capability.TRANSACTIONS)
    def test_the_end_of_a_transaction_of_user_code_makes_room(self, store: FullStore) -> None:
        self.limited(store, 1)
        lease = take(store)
        with store.transaction([lease]) as tx:
            tx.settle([], [(lease, failure())])
        assert len(receive(store)) == 1


class RetryShareContract(StoreCase):
    """`retry_share`: retries wait until other deliveries have earned them."""

    def failed(self, store: FullStore, number: int) -> None:
        """Send so many messages and fail each once; they are due at once."""
        store.send(ORDERS, drafts(*[f"old {n}" for n in range(number)]))
        for message in receive(store, number):
            fail(store, receipt(message), retry_in_ms=0)

    def test_retries_are_a_share_of_the_deliveries(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.failed(store, 30)
        store.declare_queue(ORDERS, {"retry_share": 0.2})
        store.send(ORDERS, drafts(*range(80)))
        counts = [0, 0]
        for _ in range(100):
            clock.advance(0.01)
            [message] = receive(store, 1)
            counts[message.receive_count > 1] += 1
            complete(store, receipt(message))
        assert counts == [80, 20]

    def test_new_messages_pass_retries_without_credit(self, store: FullStore) -> None:
        self.failed(store, 5)
        store.declare_queue(ORDERS, {"retry_share": 0.5})
        [trickle] = receive(store)
        assert trickle.receive_count == 2
        store.send(ORDERS, drafts("new"))
        assert [one.receive_count for one in receive(store)] == [1]
        assert [one.receive_count for one in receive(store)] == [2]

    def test_a_queue_of_retries_delivers_one_each_pause(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        self.failed(store, 3)
        store.declare_queue(ORDERS, {"retry_share": 0.2})
        for _ in range(3):
            assert store.ready_in_ms([ORDERS]) == 0
            answers = [store.receive(ORDERS, 10), store.receive(ORDERS, 10)]
            assert len([one for answer in answers for one in answer.messages]) == 1
            clock.advance(0.099)
            assert receive(store) == []
            clock.advance(0.001)

    def test_a_retry_over_the_budget_is_shown_as_due(self, store: FullStore) -> None:
        self.failed(store, 2)
        store.declare_queue(ORDERS, {"retry_share": 0.2})
        receive(store)
        assert store.receive(ORDERS, 1).wait_ms == store.ready_in_ms([ORDERS]) == 100

    def test_without_the_share_all_are_ready_again(self, store: FullStore) -> None:
        self.failed(store, 5)
        for off in (0, 1):
            store.declare_queue(ORDERS, {"retry_share": 0.2})
            store.release([receipt(one) for one in receive(store)])
            store.declare_queue(ORDERS, {"retry_share": off})
            leases = [receipt(one) for one in receive(store)]
            assert len(leases) == 5
            store.release(leases)

    @needs(Capability.INSPECT)
    def test_it_keeps_its_place_in_the_counts(self, store: FullStore) -> None:
        self.failed(store, 4)
        store.declare_queue(ORDERS, {"retry_share": 0.2})
        receive(store)
        counts = store.queue(ORDERS).counts
        assert (counts.in_flight, counts.delayed, counts.ready) == (1, 3, 0)
        waiting = [one for one in store.peek(ORDERS, 4) if one.state is State.DELAYED]
        assert [one.delayed_until_ms for one in waiting] == [0, 0, 0]


@needs(Capability.CONTROL, Capability.INSPECT)
class SlowStartContract(StoreCase):
    """`slow_start`: after a breaker has closed, the rate grows from a tenth to all."""

    def test_the_rate_grows_after_a_breaker_has_closed(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"breaker": 1, "rate": 100, "burst": 10})
        store.send(ORDERS, drafts(*range(60)))
        store.set_breaker(ORDERS, is_open=True)
        assert receive(store, 100) == []
        store.set_breaker(ORDERS, is_open=False)
        assert store.queue(ORDERS).limits.started == 0.1
        assert len(receive(store, 100)) == 1
        clock.advance(0.05)
        assert receive(store, 100) == []
        clock.advance(5)
        assert len(receive(store, 100)) == 5
        clock.advance(5)
        assert store.queue(ORDERS).limits.started == 1
        assert len(receive(store, 100)) == 10

    def test_without_a_breaker_nothing_starts_slowly(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"breaker": 1, "rate": 100, "burst": 10})
        store.set_breaker(ORDERS, is_open=False)
        store.declare_queue(ORDERS, {"breaker": 0})
        store.send(ORDERS, drafts(*range(20)))
        assert len(receive(store, 100)) == 10
