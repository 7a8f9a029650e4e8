"""Dead-letter queues: private ones, and any queue of any number of queues."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.decisions import Discard, Hold, Requeue
from durableq.model.errors import Conflict, InvalidInput, UnknownQueue
from durableq.model.message import Outcome, Reason, State
from durableq.model.queues import Counts
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
    failure,
    look,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

FAILED = "failed"
HOLDING = {"group_concurrency": 1, "group_on_dead": 1}


def share(store: FullStore, *sources: str, **settings: int) -> None:
    """Let the dead letters of these queues go to one queue with these settings."""
    store.declare_queue(FAILED, settings)
    for name in sources or (ORDERS,):
        store.declare_queue(name, changes_from(dead_letter_queue=FAILED))


def die(store: FullStore, queue: str = ORDERS, **options: object) -> str:
    """Send a message, and let it die; return its id."""
    message_id = send(store, queue=queue, **options)
    [lease] = [receipt(m) for m in receive(store, queue=queue) if m.id == message_id]
    assert fail(store, lease, reason=Reason.REJECTED) is Outcome.BURIED
    return message_id


@needs(Capability.DEAD_LETTERS, Capability.INSPECT)
class DeadLetterQueuesContract(StoreCase):
    """The setting `dead_letter_queue`."""

    def test_dead_letters_of_several_queues_go_to_one(self, store: FullStore) -> None:
        share(store, ORDERS, "mail")
        first, second = die(store), die(store, "mail")
        sent = send(store, queue=FAILED)
        found = {m.id: m.source_queue for m in store.peek(FAILED, 10)}
        assert found == {first: ORDERS, second: "mail", sent: None}
        assert store.queue(ORDERS).dead_letter_queue == FAILED
        assert store.queue(FAILED).dead_letter_queue == "failed-dlq"
        assert counters_reconcile(store)

    def test_the_dead_letters_of_each_queue_are_counted(self, store: FullStore) -> None:
        share(store, ORDERS, "mail")
        ids = [die(store) for _ in range(4)] + [die(store, "mail")]
        send(store, queue=FAILED)
        found = {m.id: receipt(m) for m in receive(store, queue=FAILED)}
        store.decide([(found[ids[0]], Hold()), (found[ids[1]], Requeue(delay=60))])
        store.release([found[ids[2]]])
        assert store.queue(FAILED).counts == Counts(ready=1, in_flight=3, held=1)
        assert {info.dead_letters for info in store.queues()} == {None}
        counted = store.queues(dead_letters=True)
        assert {info.name: info.dead_letters for info in counted} == {
            ORDERS: Counts(ready=1, in_flight=1, held=1),
            "mail": Counts(in_flight=1),
            **dict.fromkeys((FAILED, "failed-dlq", DEAD)),
        }

    def test_each_dead_letter_goes_back_to_where_it_died(self, store: FullStore) -> None:
        share(store, ORDERS, "mail")
        ids = {name: die(store, name) for name in (ORDERS, "mail")}
        leases = [receipt(message) for message in receive(store, queue=FAILED)]
        outcomes = store.decide([(lease, Requeue()) for lease in leases])
        assert outcomes == [Outcome.DONE] * 2
        for name, message_id in ids.items():
            assert look(store, message_id).queue == name
        assert counters_reconcile(store)

    def test_a_change_is_for_later_dead_letters(self, store: FullStore) -> None:
        before = die(store)
        share(store)
        after = die(store)
        store.declare_queue(ORDERS, changes_from(dead_letter_queue=None))
        again = die(store)
        found = [look(store, message_id).queue for message_id in (before, after, again)]
        assert found == [DEAD, FAILED, DEAD]

    def test_no_queue_is_its_own_dead_letter_queue(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput, match="its own dead-letter queue"):
            store.declare_queue(ORDERS, {"dead_letter_queue": ORDERS})
        with pytest.raises(InvalidInput, match="its own dead-letter queue"):
            store.declare_queue("mail", {"dead_letter_queue": "mail"})
        with pytest.raises(UnknownQueue):
            store.declare_queue("mail", {"dead_letter_queue": "nowhere"})
        assert [info.name for info in store.queues()] == [ORDERS, DEAD]

    def test_a_private_dead_letter_queue_takes_no_sends_and_keeps_its_settings(
        self, store: FullStore
    ) -> None:
        store.declare_queue(DEAD, {"retention_ms": 60_000})
        with pytest.raises(Conflict):
            send(store, queue=DEAD)
        store.declare_queue(ORDERS, {})
        info = store.queue(DEAD)
        assert (info.settings.retention_ms, info.dead_letter_queue) == (60_000, None)

    def test_a_queue_that_is_there_already_is_the_dead_letter_queue(self, store: FullStore) -> None:
        store.declare_queue("mail-dlq", {"max_receives": 7})
        sent = send(store, queue="mail-dlq")
        store.declare_queue("mail", {})
        dead = die(store, "mail")
        assert [message.id for message in store.peek("mail-dlq", 10)] == [sent, dead]
        assert store.queue("mail-dlq").settings.max_receives == 7

    def test_a_private_dead_letter_queue_may_become_an_ordinary_queue(
        self, store: FullStore
    ) -> None:
        dead = die(store)
        info = store.declare_queue(DEAD, changes_from(dead_letter_queue=None))
        assert info.dead_letter_queue == "orders-dlq-dlq"
        assert info.counts.present == 1
        send(store, "sent", queue=DEAD)
        assert look(store, dead).source_queue == ORDERS
        assert store.queue(ORDERS).dead_letter_queue == DEAD
        assert len(receive(store, queue=DEAD)) == 2

    def test_a_private_dead_letter_queue_that_another_queue_names_is_ordinary(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {"dead_letter_queue": DEAD})
        send(store, queue=DEAD)
        assert die(store, "mail") in {message.id for message in store.peek(DEAD, 10)}

    def test_a_dead_letter_that_fails_again_goes_on(self, store: FullStore) -> None:
        share(store, max_receives=1)
        message_id = die(store)
        assert fail(store, take(store, FAILED)) is Outcome.BURIED
        found = look(store, message_id)
        assert (found.queue, found.source_queue) == ("failed-dlq", FAILED)
        assert counters_reconcile(store)

    def test_the_key_of_a_dead_letter_guards_nothing_in_any_queue(self, store: FullStore) -> None:
        share(store)
        die(store, key="k")
        send(store, queue=FAILED, key="k")
        leases = [receipt(message) for message in receive(store, queue=FAILED)]
        assert complete(store, *leases) == [Outcome.DONE] * 2
        assert counters_reconcile(store)

    def test_a_newer_message_replaces_no_dead_letter(self, store: FullStore) -> None:
        share(store)
        dead = die(store, replace_key="r")
        send(store, queue=FAILED, replace_key="r")
        assert look(store, dead).queue == FAILED

    # ---- groups

    def test_groups_of_dead_letters_keep_the_order_of_their_deaths(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        share(store, group_concurrency=1)
        for body in range(3):
            die(store, body=body, group="g")
        for body in range(3):
            [message] = receive(store, queue=FAILED)
            assert message.body == str(body)
            assert complete(store, receipt(message)) == [Outcome.DONE]
        assert receive(store, queue=FAILED) == []
        assert counters_reconcile(store)

    @needs(Capability.CONTROL)
    @pytest.mark.parametrize("end", ["complete", "decide", "bury", "purge", "delete"])
    def test_a_group_that_waits_for_a_dead_letter_goes_on_when_it_has_left(
        self, store: FullStore, end: str
    ) -> None:
        store.declare_queue(ORDERS, HOLDING)
        share(store, group_concurrency=1, max_receives=1)
        die(store, body=1, group="g")
        send(store, 2, group="g")
        assert receive(store) == []
        match end:
            case "complete":
                complete(store, take(store, FAILED))
            case "decide":
                store.decide([(take(store, FAILED), Discard("never"))])
            case "bury":
                fail(store, take(store, FAILED))
            case "purge" if Capability.CONTROL in store.capabilities:
                store.purge(FAILED)
            case "delete" if Capability.CONTROL in store.capabilities:
                store.delete_queue(FAILED, force=True)
            case _:
                pytest.skip("the engine does not purge")
        assert bodies(receive(store)) == ["2"]

    def test_a_dead_letter_is_chosen_by_id_behind_others_of_its_group(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        share(store, group_concurrency=1)
        first, second, third = (die(store, body=body, group="g") for body in range(3))
        assert look(store, second).state is State.BLOCKED
        assert store.decide_by_id(FAILED, [second], Requeue()) == [second]
        assert look(store, second).queue == ORDERS
        assert [message.id for message in receive(store, queue=FAILED)] == [first]
        assert look(store, third).state is State.BLOCKED
        assert store.decide_by_id(FAILED, [third], Hold("ask")) == [third]
        assert counters_reconcile(store)

    # ---- deletion

    @needs(Capability.CONTROL)
    def test_a_queue_that_others_name_is_deleted_by_force_and_they_have_their_own_again(
        self, store: FullStore
    ) -> None:
        share(store, ORDERS, "mail")
        with pytest.raises(Conflict, match="'mail', 'orders'"):
            store.delete_queue(FAILED)
        die(store)
        store.delete_queue(FAILED, force=True)
        assert [store.queue(n).dead_letter_queue for n in (ORDERS, "mail")] == [DEAD, "mail-dlq"]
        assert look(store, die(store)).queue == DEAD
        assert counters_reconcile(store)

    @needs(Capability.CONTROL)
    def test_a_deleted_queue_takes_only_its_private_dead_letter_queue_with_it(
        self, store: FullStore
    ) -> None:
        share(store, ORDERS, "mail")
        dead, other = die(store), die(store, "mail")
        store.delete_queue(ORDERS)
        assert [info.name for info in store.queues()] == [FAILED, "failed-dlq", "mail"]
        assert look(store, dead).source_queue is None
        assert look(store, other).source_queue == "mail"
        store.delete_queue("mail")
        store.declare_queue("again", {})
        assert look(store, other).source_queue is None
        assert counters_reconcile(store)

    @needs(Capability.CONTROL)
    def test_a_dead_letter_queue_that_was_declared_by_itself_stays(self, store: FullStore) -> None:
        store.declare_queue("mail-dlq", {})
        store.declare_queue("mail", {})
        store.delete_queue("mail")
        send(store, queue="mail-dlq")
        store.declare_queue("mail", {})
        store.delete_queue("mail-dlq", force=True)
        assert store.queue("mail").dead_letter_queue == "mail-dlq"
        with pytest.raises(Conflict):
            send(store, queue="mail-dlq")

    # ---- retention

    @pytest.mark.parametrize(
        ("changes", "is_kept"), [({}, False), ({"group_concurrency": 1}, True)]
    )
    def test_a_queue_that_buries_at_a_receive_keeps_the_age_of_messages_without_order(
        self, store: FullStore, clock: FakeClock, changes: dict[str, int], is_kept: bool
    ) -> None:
        store.declare_queue(ORDERS, {"bury_at": 1, "max_receives": 1, **changes})
        store.declare_queue(DEAD, {"retention_ms": 3 * VISIBILITY_SECONDS * 1_000})
        message_id = send(store)
        clock.advance(VISIBILITY_SECONDS)
        take(store)
        clock.advance(VISIBILITY_SECONDS)
        assert receive(store) == []
        take(store, DEAD, visibility_ms=1_000)
        clock.advance(VISIBILITY_SECONDS)
        assert bool(receive(store, queue=DEAD)) is is_kept
        assert (store.message(message_id) is not None) is is_kept
        assert counters_reconcile(store)

    def test_any_other_dead_letter_is_kept_from_its_death(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(DEAD, {"retention_ms": 10_000})
        send(store)
        clock.advance(9)
        store.fail([(take(store), failure(Reason.REJECTED))])
        clock.advance(9)
        assert len(receive(store, queue=DEAD)) == 1
