"""Fingerprints and groups of dead letters, and the fate of recovered ones."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from dataclasses import replace

import pytest

from durableq.model.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    DecisionCount,
    Recovered,
    RecoveredFate,
)
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import UnknownQueue
from durableq.model.limits import MAX_HISTORY
from durableq.model.message import Event, Failure, Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    decide,
    fail,
    needs,
    newest,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

CARD = Failure(Reason.REJECTED, "CardError", "card 17 refused", place="shop.py:charge")


def die(store: FullStore, why: Failure = CARD, queue: str = ORDERS) -> str:
    """Send a message to a queue with none ready, let it die of this, and return its id."""
    message_id = send(store, queue=queue)
    store.fail([(take(store, queue), why)], actor="worker-1")
    return message_id


@needs(Capability.DEAD_LETTERS)
class GroupsContract(StoreCase):
    """The view of many failures."""

    def test_a_failure_and_its_burial_have_a_fingerprint_and_a_place(
        self, store: FullStore
    ) -> None:
        message_id = die(store)
        for event in store.history(message_id):
            assert (event.fingerprint, event.place) == (CARD.fingerprint, "shop.py:charge")
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert dead_letter.fingerprint == CARD.fingerprint
        assert dead_letter.burial == newest(store, message_id)

    @needs(Capability.FLEET)
    def test_a_lost_lease_has_a_fingerprint_too(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"max_receives": 1})
        first, second = send(store), send(store)
        receive(store)
        clock.advance(VISIBILITY_SECONDS)
        store.reclaim()
        found = {newest(store, message_id).fingerprint for message_id in (first, second)}
        assert len(found) == 1
        assert found != {""}

    def test_a_conflict_is_a_burial_with_a_fingerprint(self, store: FullStore) -> None:
        send(store, 1, key="k")
        complete(store, take(store))
        message_id = send(store, 2, key="k")
        assert store.receive(ORDERS, 1).set_aside == 1
        [buried] = store.history(message_id)
        assert (buried.event, buried.reason) == (Event.BURIED, Reason.IDEMPOTENCY_CONFLICT)
        assert buried.error_message == Reason.IDEMPOTENCY_CONFLICT.sentence
        assert buried.fingerprint

    def test_dead_letters_killed_by_the_same_failure_are_one_group(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        first_ms = clock.wall_ms()
        die(store)
        clock.advance(60)
        message_id = die(store, replace(CARD, error_message="card 18 refused", fingerprint=""))
        [group] = store.dead_letter_groups()
        assert group == DeadLetterGroup(
            ORDERS,
            Reason.REJECTED,
            CARD.fingerprint,
            "CardError",
            "card 18 refused",
            "shop.py:charge",
            count=2,
            first_died_ms=first_ms,
            last_died_ms=first_ms + 60_000,
            example_id=message_id,
        )

    def test_another_queue_reason_or_fingerprint_is_another_group(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        die(store)
        die(store, queue="mail")
        die(store, replace(CARD, reason=Reason.UNDECODABLE))
        die(store, replace(CARD, fingerprint="mine"))
        found = {
            (group.queue, group.reason, group.fingerprint) for group in store.dead_letter_groups()
        }
        assert len(found) == len(store.dead_letter_groups()) == 4
        assert {group.queue for group in store.dead_letter_groups("mail")} == {"mail"}
        assert len(store.dead_letter_groups(ORDERS)) == 3

    def test_the_most_numerous_group_is_first_then_the_newest(self, store: FullStore) -> None:
        kinds = ["a", "b", "b", "c", "d"]
        ids = [die(store, replace(CARD, fingerprint=kind)) for kind in kinds]
        found = [(group.fingerprint, group.count) for group in store.dead_letter_groups()]
        assert found == [("b", 2), ("d", 1), ("c", 1), ("a", 1)]
        assert store.dead_letter_groups()[0].example_id == ids[2]

    def test_leased_and_held_dead_letters_are_in_groups_and_ended_ones_are_not(
        self, store: FullStore
    ) -> None:
        for decision in (Hold(), Discard("x"), Requeue(delay=60)):
            die(store)
            decide(store, decision)
        die(store)
        take(store, DEAD)
        [group] = store.dead_letter_groups()
        assert group.count == 2

    def test_a_dead_letter_is_in_the_group_of_its_last_failure(self, store: FullStore) -> None:
        die(store)
        decide(store, Requeue())
        store.fail([(take(store), replace(CARD, fingerprint="later"))])
        [group] = store.dead_letter_groups()
        assert (group.fingerprint, group.count) == ("later", 1)

    def test_a_dead_letter_with_an_endless_history_stays_in_its_group(
        self, store: FullStore
    ) -> None:
        message_id = die(store)
        for _ in range(MAX_HISTORY):
            fail(store, take(store, DEAD), retry_in_ms=0)
        [group] = store.dead_letter_groups()
        assert (group.reason, group.fingerprint) == (CARD.reason, CARD.fingerprint)
        assert (group.error_type, group.example_id) == ("", message_id)
        wanted = DeadLetterFilter(reason=CARD.reason, fingerprint=CARD.fingerprint)
        [dead_letter] = store.dead_letters(wanted, 10)
        assert (dead_letter.id, dead_letter.burial) == (message_id, None)
        assert (dead_letter.reason, dead_letter.fingerprint) == (CARD.reason, CARD.fingerprint)

    def test_the_example_of_a_group_died_last(self, store: FullStore, clock: FakeClock) -> None:
        first, second = send(store), send(store)
        died_last, died_first = map(receipt, receive(store, 2))
        for lease in (died_first, died_last):
            clock.advance(1)
            store.fail([(lease, CARD)])
        [group] = store.dead_letter_groups()
        assert (group.count, group.example_id) == (2, first)
        assert second == died_first.message_id

    def test_the_groups_of_an_unknown_queue_are_refused(self, store: FullStore) -> None:
        assert store.dead_letter_groups() == store.dead_letter_groups(ORDERS) == []
        with pytest.raises(UnknownQueue):
            store.dead_letter_groups("unknown")

    def test_recovered_messages_are_listed_with_their_fates(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        since_ms = clock.wall_ms()
        ids = []
        for _ in range(3):
            ids.append(die(store))
            decide(store, Retry("easier", delay=1))
            clock.advance(0.25)
        clock.advance(1)
        done, dies, _ = map(receipt, receive(store))
        complete(store, done)
        store.fail([(dies, CARD)])
        fates = [RecoveredFate.ENDED, RecoveredFate.DIED, RecoveredFate.PENDING]
        times_ms = [since_ms, since_ms + 250, since_ms + 500]
        expected = list(map(Recovered, ids, times_ms, fates))[::-1]
        assert store.recoveries(ORDERS, since_ms, 10) == expected
        assert store.recoveries(ORDERS, since_ms, 2) == expected[:2]
        assert store.recoveries(ORDERS, since_ms + 1, 10) == expected[:2]

    def test_a_recovered_message_that_died_again_has_died_even_once_discarded(
        self, store: FullStore
    ) -> None:
        die(store)
        decide(store, Requeue())
        store.fail([(take(store), CARD)])
        decide(store, Discard("enough"))
        [recovered] = store.recoveries(ORDERS, 0, 10)
        assert recovered.fate is RecoveredFate.DIED

    def test_a_message_recovered_twice_is_listed_once(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = die(store)
        decide(store, Requeue())
        store.fail([(take(store), CARD)])
        clock.advance(5)
        decide(store, Requeue())
        expected = Recovered(message_id, clock.wall_ms(), RecoveredFate.PENDING)
        assert store.recoveries(ORDERS, 0, 10) == [expected]

    def test_decisions_of_people_are_not_recoveries(self, store: FullStore) -> None:
        for decision, actor in ((Requeue(delay=9), "person"), (Hold(), "recovery:1")):
            die(store)
            decide(store, decision, actor)
        assert store.recoveries(ORDERS, 0, 10) == []

    def test_recoveries_are_those_of_one_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        die(store)
        decide(store, Requeue())
        assert store.recoveries("mail", 0, 10) == []
        assert store.recoveries(DEAD, 0, 10) == []
        with pytest.raises(UnknownQueue):
            store.recoveries("unknown", 0, 10)

    def test_decisions_of_recovery_are_counted_by_reason(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        decided: list[tuple[Decision, str]] = [
            (Discard("rule 1"), "recovery:1"),
            (Hold("rule 2"), "recovery:1"),
            (Discard("rule 1"), "recovery:22"),
            (Discard("rule 1"), "ada"),
            (Requeue("rule 1", delay=9), "recovery:1"),
            (Retry("easier", "rule 1: smaller", delay=9), "recovery:1"),
        ]
        times_ms = []
        for decision, actor in decided:
            die(store)
            decide(store, decision, actor)
            times_ms.append(clock.wall_ms())
            clock.advance(1)
        found = store.recovery_decisions(ORDERS, 0, 10)
        assert found.counts == [
            DecisionCount(Event.DISCARDED, "rule 1", 2, times_ms[2]),
            DecisionCount(Event.HELD, "rule 2", 1, times_ms[1]),
            DecisionCount(Event.REQUEUED, "rule 1", 1, times_ms[4]),
            DecisionCount(Event.RETRIED, "rule 1: smaller", 1, times_ms[5]),
        ]
        assert not found.is_partial
        assert store.recovery_decisions(ORDERS, 0, 2).counts == found.counts[:2]
        assert store.recovery_decisions(ORDERS, times_ms[4], 9).counts == found.counts[2:]

    def test_decisions_are_those_of_one_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        die(store)
        decide(store, Discard("enough"))
        assert store.recovery_decisions("mail", 0, 10) == ([], False)
        assert store.recovery_decisions(DEAD, 0, 10) == ([], False)
        with pytest.raises(UnknownQueue):
            store.recovery_decisions("unknown", 0, 10)
